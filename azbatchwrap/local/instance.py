"""What is kept of an instance while it is down: its keys and its ports, made once per data folder."""

from __future__ import annotations

import base64
import json
import os
import random
import secrets
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from azbatchwrap.config import Secret, read_json_object
from azbatchwrap.errors import ConfigurationError

#: Kept ports are taken from here: below the range that systems use for outgoing connections (32768 and up on Linux),
#: or one of those could sit on the port just when the instance comes up again.
PORTS = range(20000, 32000)


@dataclass(frozen=True, slots=True)
class AmlPart:
    """The management plane's port and the secret that its users sign in with. ``is_on``: `up` starts it."""

    port: int
    secret: Secret
    #: Where the Batch service answers on TLS.
    batch_tls_port: int
    is_on: bool = True

    @classmethod
    def new(cls, port: int) -> AmlPart:
        return cls(port, new_key(), _other_port(port))


@dataclass(frozen=True, slots=True)
class Instance:
    """What is kept of an instance while it is down. Keys are base64."""

    batch_key: Secret
    storage_key: Secret
    batch_port: int
    blob_port: int
    queue_port: int
    #: Connection string of a storage account that is used in Azurite's place.
    external: Secret | None = None
    #: How many tasks run at once; ``None``: as many as there are processors.
    max_processes: int | None = None
    #: The management plane; ``None`` until it was asked for.
    aml: AmlPart | None = None
    #: The Batch account's other key; ``None`` in the file of an older instance, until its next start.
    batch_second_key: Secret | None = None

    @classmethod
    def new(cls) -> Instance:
        batch, blob, queue = free_ports(3)
        return cls(new_key(), new_key(), batch, blob, queue, batch_second_key=new_key())

    @classmethod
    def read(cls, path: Path) -> Instance | None:
        if not path.exists():
            return None
        content: Mapping[str, Any] = read_json_object(path)
        try:
            batch, storage = content["batch"], content["storage"]
            external, second = storage["external"], batch.get("second_key")
            return cls(
                batch_key=Secret(batch["key"]),
                storage_key=Secret(storage["key"]),
                batch_port=batch["port"],
                blob_port=storage["blob_port"],
                queue_port=storage["queue_port"],
                external=Secret(external) if external else None,
                max_processes=batch["max_processes"],
                aml=_read_aml(content.get("aml")),
                batch_second_key=Secret(second) if second else None,
            )
        except (KeyError, TypeError) as error:
            raise ConfigurationError(
                f"{path} does not describe an instance ({error}). Restore it, or remove the folder {path.parent} "
                f"to begin anew"
            ) from error

    def write(self, path: Path) -> None:
        batch = {
            "key": self.batch_key.reveal(),
            "second_key": self.batch_second_key.reveal() if self.batch_second_key else None,
            "port": self.batch_port,
            "max_processes": self.max_processes,
        }
        storage = {
            "key": self.storage_key.reveal(),
            "blob_port": self.blob_port,
            "queue_port": self.queue_port,
            "external": self.external.reveal() if self.external else None,
        }
        content: dict[str, Any] = {"version": 1, "batch": batch, "storage": storage}
        if self.aml is not None:
            content["aml"] = {
                "port": self.aml.port,
                "secret": self.aml.secret.reveal(),
                "batch_tls_port": self.aml.batch_tls_port,
                "is_on": self.aml.is_on,
            }
        write_private(path, content)


def _read_aml(content: Mapping[str, Any] | None) -> AmlPart | None:
    if not content:
        return None
    port = content["port"]
    tls_port = content.get("batch_tls_port") or _other_port(port)  # kept from the next `up` on
    return AmlPart(port, Secret(content["secret"]), tls_port, content["is_on"])


def _other_port(port: int) -> int:
    return next(each for each in free_ports(2) if each != port)


def free_ports(count: int) -> tuple[int, ...]:
    """``count`` different ports on which nothing listens."""
    found: dict[int, None] = {}
    for port in random.sample(PORTS, len(PORTS)):
        if is_free(port):
            found[port] = None
        if len(found) == count:
            return tuple(found)
    raise ConfigurationError(f"no free port between {PORTS.start} and {PORTS.stop}: end programs that listen there")


def is_free(port: int) -> bool:
    """Whether a server could listen on ``port`` of 127.0.0.1 now."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: closed connections may linger
        try:
            listener.bind(("127.0.0.1", port))
        except OSError:
            return False
    return True


def write_private(path: Path, content: Mapping[str, Any]) -> None:
    """Write JSON that only the owner may read: beside, then rename, so that nobody ever reads half of it."""
    beside = path.with_name(f"{path.name}.{os.getpid()}")
    with open(beside, "w", encoding="utf-8", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
        json.dump(content, file, indent=2)
        file.flush()
        os.fsync(file.fileno())
    beside.replace(path)


def new_key() -> Secret:
    """A random account key."""
    return Secret(base64.b64encode(secrets.token_bytes(64)).decode())
