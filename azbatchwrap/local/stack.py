"""The instance of Azure on this machine that lives in one data folder: bring it up, look at it, empty it, end it.

Data folder (0700)::

    instance.json    keys and ports, made once and kept (0600)
    endpoint.json    where it answers, while it is up (0600): what the library and other programs read
    batch/           the Batch service's data; storage/ Azurite's; logs/ what they say
    arm/             the management plane's data, once it was asked for; tls/ its certificate
"""

from __future__ import annotations

import contextlib
import http.client
import os
import shutil
import ssl
import stat
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, Protocol
from urllib.parse import urlsplit

from azbatchwrap.config import ENDPOINT_FILE, Secret, data_folder, parse_storage, read_json_object
from azbatchwrap.errors import ConfigurationError
from azbatchwrap.local import processes
from azbatchwrap.local.admin import BatchAdmin, Refused
from azbatchwrap.local.arm.certificate import Certificate
from azbatchwrap.local.arm.names import SUBSCRIPTION
from azbatchwrap.local.instance import AmlPart, Instance, free_ports, is_free, new_key, write_private
from azbatchwrap.local.management import START_TIMEOUT as MANAGEMENT_START_TIMEOUT
from azbatchwrap.local.management import ManagementService
from azbatchwrap.local.storage import START_TIMEOUT as STORAGE_START_TIMEOUT
from azbatchwrap.local.storage import Azurite
from azbatchwrap.progress import NullProgress, Progress

INSTANCE_FILE = "instance.json"
LOCK_FILE = "lock"
BATCH_ACCOUNT = "localbatch"
#: The word for ``--storage`` that goes back from a foreign account to the instance's own Azurite.
OWN_STORAGE = "azurite"

#: The Batch service answers within a second; reading back much data takes longer (seconds).
BATCH_START_TIMEOUT = 60.0
#: It ends the tasks that run before it ends itself (seconds).
BATCH_STOP_GRACE = 20.0
#: A service that runs but does not answer within this many seconds hangs; it then gets that long to end by itself.
PROBE_TIMEOUT = 5.0

PartName = Literal["batch", "storage", "aml"]


@dataclass(frozen=True, slots=True)
class Options:
    """What `Stack.up` may be told; ``None`` keeps what the data folder has, port 0 takes a free one.

    ``storage`` is a connection string, or ``azurite`` for the instance's own; ``max_processes`` counts tasks.
    """

    batch_port: int | None = None
    blob_port: int | None = None
    queue_port: int | None = None
    storage: Secret | None = None
    max_processes: int | None = None
    #: Whether the management plane (Resource Manager, Machine Learning) runs too, and its port.
    aml: bool | None = None
    aml_port: int | None = None
    #: Faults of the management plane, in place of those of its last run (see arm/faults.py).
    aml_faults: tuple[Mapping[str, Any], ...] | None = None
    #: Faults of the Batch service that are to change (see batch/chaos.py).
    chaos: Mapping[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class BatchService:
    """The process of the Azure Batch service; its data lie in ``folder``."""

    folder: Path
    log: Path
    key: Secret
    second_key: Secret | None
    port: int
    max_processes: int | None
    #: With the management plane: where it answers on TLS, with which certificate, and what signs the tokens it takes.
    tls_port: int | None = None
    certificate: Certificate | None = None
    token_secret: Secret | None = None
    #: Connection string of the storage account that is linked to the Batch account.
    storage: Secret | None = None

    @property
    def service(self) -> processes.Service:
        mark = str(self.folder / "service.json")
        return processes.Service("the Batch service", self.folder / "listening.json", self.log, mark)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def facts(self) -> dict[str, Any]:
        """What the management plane must know of it."""
        return {
            "account": BATCH_ACCOUNT,
            "key": self.key.reveal(),
            "second_key": self.second_key.reveal() if self.second_key else None,
            "url": self.url,
            "tls_port": self.tls_port,
            "instance": str(self.folder.parent),
        }

    @property
    def admin(self) -> BatchAdmin:
        return BatchAdmin(self.url, BATCH_ACCOUNT, self.key)

    def start(self, chaos: Mapping[str, Any]) -> subprocess.Popen[bytes]:
        """Start with the faults of the last run and ``chaos`` over them."""
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        settings = Path(self.service.mark)
        content: dict[str, Any] = {
            "account": BATCH_ACCOUNT,
            "key": self.key.reveal(),
            "second_key": self.second_key.reveal() if self.second_key else None,
            "host": "127.0.0.1",
            "port": self.port,
            "data_dir": str(self.folder),
            "max_processes": self.max_processes or os.cpu_count() or 1,
            "chaos": {**self.chaos, **chaos},
            "storage": self.storage.reveal() if self.storage is not None else None,
        }
        if self.certificate is not None and self.token_secret is not None:
            self.certificate.ensure()
            files = {"certificate": str(self.certificate.chain), "key": str(self.certificate.key)}
            content |= {"tls": {"port": self.tls_port, **files}, "token_secret": self.token_secret.reveal()}
        write_private(settings, content)
        command = [sys.executable, "-m", "azbatchwrap.local.batch", "--config", str(settings)]
        return processes.spawn(self.service, command, folder=self.folder)

    @property
    def chaos(self) -> Mapping[str, Any]:
        """The faults that the next start begins with."""
        settings = Path(self.service.mark)
        kept = read_json_object(settings).get("chaos", {}) if settings.exists() else {}
        assert isinstance(kept, dict)
        return kept

    def change_chaos(self, changes: Mapping[str, Any]) -> Mapping[str, Any]:
        """Change the faults while it runs, and keep them for the next start. Raises ConfigurationError."""
        try:
            in_force: Mapping[str, Any] = self.admin.ask("PATCH", "/_local/chaos", dict(changes))
        except (Refused, OSError) as error:
            raise ConfigurationError(f"the Batch service did not take {dict(changes)}: {error}") from error
        settings = Path(self.service.mark)
        write_private(settings, read_json_object(settings) | {"chaos": dict(in_force)})
        return in_force

    def change_keys(self, primary: Secret, secondary: Secret) -> None:
        """Let it take these keys, and the old ones no more. Raises ConfigurationError."""
        keys = {"key": primary.reveal(), "second_key": secondary.reveal()}
        try:
            self.admin.ask("PUT", "/_local/keys", keys)
        except (Refused, OSError) as error:
            raise ConfigurationError(f"the Batch service did not take its new keys: {error}") from error

    def stop(self) -> bool:
        return processes.stop(self.service, BATCH_STOP_GRACE)


class _Part(Protocol):
    """A service process of the instance."""

    @property
    def service(self) -> processes.Service: ...
    @property
    def url(self) -> str: ...
    def stop(self) -> bool: ...


@dataclass(frozen=True, slots=True)
class PartStatus:
    """How one service is: ``up``, ``down``, or ``hangs`` (it runs but does not answer). ``pid``: None if not ours."""

    name: PartName
    state: Literal["up", "down", "hangs"]
    url: str
    account: str
    pid: int | None
    log: Path


@dataclass(frozen=True, slots=True)
class Status:
    folder: Path
    parts: tuple[PartStatus, ...] = ()

    @property
    def is_up(self) -> bool:
        return bool(self.parts) and all(part.state == "up" for part in self.parts)


class Stack:
    """The instance whose data lie in ``folder``. Every change holds the folder's lock, so two at once do no harm."""

    def __init__(self, folder: Path, progress: Progress | None = None) -> None:
        self.folder = folder.absolute()
        self._progress = progress or NullProgress()

    # What it is made of

    def log_file(self, part: PartName) -> Path:
        return self.folder / "logs" / f"{part}.log"

    def _batch(self, instance: Instance) -> BatchService:
        management = instance.aml if instance.aml is not None and instance.aml.is_on else None
        return BatchService(
            folder=self.folder / "batch",
            log=self.log_file("batch"),
            key=instance.batch_key,
            second_key=instance.batch_second_key,
            port=instance.batch_port,
            max_processes=instance.max_processes,
            tls_port=management.batch_tls_port if management else None,
            certificate=Certificate(self.folder / "tls") if management else None,
            token_secret=management.secret if management else None,
            storage=self._storage(instance),
        )

    def _storage(self, instance: Instance) -> Secret:
        """The connection string of the instance's own storage, or of the foreign account in its place."""
        azurite = self._azurite(instance)
        return Secret(azurite.connection_string) if azurite is not None else instance.external or Secret("")

    def _azurite(self, instance: Instance) -> Azurite | None:
        """The instance's own storage; ``None`` when it uses a foreign account."""
        if instance.external is not None:
            return None
        return Azurite(
            folder=self.folder / "storage",
            log=self.log_file("storage"),
            key=instance.storage_key,
            blob_port=instance.blob_port,
            queue_port=instance.queue_port,
        )

    def _management(
        self, instance: Instance, faults: tuple[Mapping[str, Any], ...] | None = None
    ) -> ManagementService | None:
        """The management plane; ``None`` when it is off."""
        if instance.aml is None or not instance.aml.is_on:
            return None
        return ManagementService(
            folder=self.folder / "arm",
            log=self.log_file("aml"),
            secret=instance.aml.secret,
            port=instance.aml.port,
            storage=self._storage(instance),
            batch=self._batch(instance).facts,
            max_processes=instance.max_processes,
            faults=faults,
        )

    def _parts(self, instance: Instance) -> list[_Part]:
        """What there is, in the order in which it ends: what uses the storage before the storage."""
        parts: list[_Part | None] = [self._management(instance), self._batch(instance), self._azurite(instance)]
        return [part for part in parts if part is not None]

    def _instance(self) -> Instance | None:
        return Instance.read(self.folder / INSTANCE_FILE)

    # What it does

    def up(self, options: Options | None = None) -> Status:
        """Bring up what is down and return when everything answers. What runs is left alone.

        Raises ConfigurationError when a port is taken, an option contradicts what runs, or a service does not start.
        """
        with self._changing():
            instance = self._instance()
            if instance is None:
                self._take_folder()
            options = options or Options()
            instance = self._with_options(instance or Instance.new(), options)
            self._require_free_ports(instance)  # before they are kept
            instance.write(self.folder / INSTANCE_FILE)
            self._start(instance, options)
            return self.status()

    def down(self) -> bool:
        """End the services gracefully; returns whether any was running."""
        with self._changing():
            instance = self._instance()
            return self._stop(instance) if instance is not None else False

    def reset(self) -> Status:
        """Empty the account: every pool, job, blob, queue and resource. Keys and ports stay; what was up is up again.

        A foreign storage account is not emptied.
        """
        with self._changing():
            instance = self._instance()
            if instance is None:
                return Status(self.folder)
            was_up = self._stop(instance)
            for name in ("batch", "storage", "arm"):
                _remove(self.folder / name)
            if was_up:
                self._start(instance, Options())
            return self.status()

    def status(self) -> Status:
        instance = self._instance()
        if instance is None:
            return Status(self.folder)
        for name in ("batch", "storage", "aml"):
            processes.rotate(self.log_file(name))
        batch, management = self._batch(instance), self._management(instance)
        parts = [_part_status("batch", BATCH_ACCOUNT, batch.url, batch.service), self._storage_status(instance)]
        if management is not None:
            authority = management.certificate.authority
            parts.append(_part_status("aml", SUBSCRIPTION, management.url, management.service, authority))
        return Status(self.folder, tuple(parts))

    def chaos(self, changes: Mapping[str, Any] | None = None) -> Mapping[str, Any]:
        """The Batch service's faults in force, changed before if asked for. Raises ConfigurationError.

        What is changed stays for the next start.
        """
        instance = self._instance()
        if instance is None or self._batch(instance).service.listens() is None:
            raise ConfigurationError(f"no Batch service is up in {self.folder}. Run `azbatchwrap local up` first")
        with self._changing():
            return self._batch(instance).change_chaos(changes or {})

    def renew_key(self, which: Literal["primary", "secondary"]) -> tuple[Secret, Secret]:
        """A new key for the Batch account while it runs: the old one is refused from now on. Returns both keys.

        It is kept before it is in force, so that an instance that ends in between begins anew with it. Raises
        ConfigurationError.
        """
        with self._changing():
            instance = self._instance()
            if instance is None:
                raise ConfigurationError(f"there is no instance in {self.folder}. Run `azbatchwrap local up` first")
            first, second = instance.batch_key, instance.batch_second_key or new_key()
            first, second = (new_key(), second) if which == "primary" else (first, new_key())
            renewed = replace(instance, batch_key=first, batch_second_key=second)
            renewed.write(self.folder / INSTANCE_FILE)
            self._batch(instance).change_keys(first, second)
            self._write_endpoint(renewed, self._batch(renewed), self._azurite(renewed), self._management(renewed))
            return first, second

    def endpoint(self) -> Mapping[str, Any]:
        """What ``endpoint.json`` says. ConfigurationError when the instance is not up."""
        path = self.folder / ENDPOINT_FILE
        if not self.status().is_up or not path.exists():
            raise ConfigurationError(f"no instance is up in {self.folder}. Run `azbatchwrap local up` first")
        return read_json_object(path)

    # How

    @contextlib.contextmanager
    def _changing(self) -> Iterator[None]:
        """Hold the folder's lock; name the folder where the disk or its rights are at fault."""
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with processes.exclusive(self.folder / LOCK_FILE, self._progress):
                yield
        except OSError as error:
            raise ConfigurationError(
                f"the data folder {self.folder} cannot be used: {error.strerror or error}"
                f"{f' ({error.filename})' if error.filename else ''}. Make room there or correct its rights, "
                f"or choose another with --data-dir"
            ) from error

    def _take_folder(self) -> None:
        """A new instance gets folders of its own: `reset` empties them. They are private, whatever lies around them."""
        there = {path.name for path in self.folder.iterdir()} - {LOCK_FILE}
        taken = there & {"batch", "storage", "logs", "arm", "tls"}
        if taken:
            raise ConfigurationError(
                f"{self.folder} holds {', '.join(sorted(taken))} already, and no {INSTANCE_FILE}: it is not an instance's "
                f"data folder. Choose an empty or new one with --data-dir"
            )
        if not there or self.folder == data_folder():
            self.folder.chmod(0o700)

    def _with_options(self, instance: Instance, options: Options) -> Instance:
        batch_runs = self._batch(instance).service.listens() is not None
        azurite = self._azurite(instance)
        storage_runs = azurite is not None and azurite.service.listens() is not None
        external = self._chosen_storage(instance, options)
        if external != instance.external and (batch_runs or storage_runs):
            raise _must_be_down("--storage")
        if options.max_processes not in {None, instance.max_processes} and batch_runs:
            raise _must_be_down("--max-processes")
        return replace(
            instance,
            batch_port=_chosen_port("--batch-port", instance.batch_port, options.batch_port, runs=batch_runs),
            blob_port=_chosen_port("--blob-port", instance.blob_port, options.blob_port, runs=storage_runs),
            queue_port=_chosen_port("--queue-port", instance.queue_port, options.queue_port, runs=storage_runs),
            external=external,
            max_processes=options.max_processes or instance.max_processes,
            aml=self._chosen_aml(instance, options),
            batch_second_key=instance.batch_second_key or new_key(),
        )

    def _chosen_aml(self, instance: Instance, options: Options) -> AmlPart | None:
        """Off is kept with its port and secret: on again, it is the one it was."""
        kept, management = instance.aml, self._management(instance)
        runs = management is not None and management.service.listens() is not None
        if runs and (options.aml is False or options.aml_faults is not None):
            raise _must_be_down("--aml" if options.aml is False else "--aml-fault")
        if kept is None:
            wanted = options.aml or options.aml_port is not None
            return AmlPart.new(options.aml_port or free_ports(1)[0]) if wanted else None
        port = _chosen_port("--aml-port", kept.port, options.aml_port, runs=runs)
        tls_port = kept.batch_tls_port
        if self._batch(instance).service.listens() is None and not is_free(tls_port):
            (tls_port,) = free_ports(1)  # nothing that was handed out names it
        is_on = kept.is_on if options.aml is None else options.aml
        return replace(kept, port=port, batch_tls_port=tls_port, is_on=is_on)

    @staticmethod
    def _chosen_storage(instance: Instance, options: Options) -> Secret | None:
        if options.storage is None:
            return instance.external
        if options.storage.reveal().strip().lower() == OWN_STORAGE:
            return None
        account = parse_storage(options.storage.reveal())
        assert account.connection_string is not None
        _check_external(account.connection_string)
        return account.connection_string

    def _start(self, instance: Instance, options: Options) -> None:
        """Start what does not run, all at once, and write ``endpoint.json`` when all answer."""
        batch, azurite = self._batch(instance), self._azurite(instance)
        management = self._management(instance, options.aml_faults)
        self._end_what_hangs(self._parts(instance))
        self._end_what_lacks_tls(batch)
        started: list[tuple[processes.Service, subprocess.Popen[bytes], float]] = []
        try:
            if azurite is not None and azurite.service.listens() is None:
                self._tell_of_unclean_end(azurite)
                started.append((azurite.service, azurite.start(self._progress), STORAGE_START_TIMEOUT))
            if batch.service.listens() is None:
                started.append((batch.service, batch.start(options.chaos or {}), BATCH_START_TIMEOUT))
            elif options.chaos:
                batch.change_chaos(options.chaos)
            if management is not None and management.service.listens() is None:
                started.append((management.service, management.start(), MANAGEMENT_START_TIMEOUT))
            for service, process, timeout in started:
                processes.wait_until_listening(service, process, timeout)
        except BaseException:
            for _, process, _ in started:
                processes.end(process, PROBE_TIMEOUT)
            raise
        self._write_endpoint(instance, batch, azurite, management)

    def _require_free_ports(self, instance: Instance) -> None:
        batch, azurite = self._batch(instance), self._azurite(instance)
        if azurite is not None and azurite.service.listens() is None:
            processes.wait_until_gone(azurite.service, PROBE_TIMEOUT)
            _require_free("storage service", "--blob-port", azurite.blob_port)
            _require_free("storage service", "--queue-port", azurite.queue_port)
        if batch.service.listens() is None:
            processes.wait_until_gone(batch.service, PROBE_TIMEOUT)
            _require_free("Batch service", "--batch-port", batch.port)
        management = self._management(instance)
        if management is not None and management.service.listens() is None:
            processes.wait_until_gone(management.service, PROBE_TIMEOUT)
            _require_free("management service", "--aml-port", management.port)

    def _end_what_hangs(self, parts: Sequence[_Part]) -> None:
        for part in parts:
            said = part.service.listens()
            if said is not None and not _answers(part.url, self.folder / "tls" / "ca.pem"):
                name = part.service.name
                self._progress.message(f"{name} (process {said['pid']}) runs but does not answer: starting it again")
                processes.stop(part.service, PROBE_TIMEOUT)

    def _end_what_lacks_tls(self, batch: BatchService) -> None:
        """The management plane came later than the Batch service, which answers to tokens only from its start on."""
        said = batch.service.listens()
        if said is not None and batch.tls_port is not None and "tls_port" not in said:
            self._progress.message("the Batch service starts again, to answer on TLS too: tasks that ran begin anew")
            batch.stop()

    def _tell_of_unclean_end(self, azurite: Azurite) -> None:
        if azurite.ended_uncleanly():
            self._progress.message(
                "Azurite had ended without saving (killed, or the machine went down): what was uploaded in its last "
                "seconds may be lost. The next upload checks and repeats it"
            )

    def _stop(self, instance: Instance) -> bool:
        """End everything: the storage last, since tasks and jobs use it."""
        parts = self._parts(instance)
        was_running = any(part.service.listens() is not None for part in parts)
        (self.folder / ENDPOINT_FILE).unlink(missing_ok=True)
        for part in parts:
            if not part.stop():
                self._progress.message(f"{part.service.name} did not end by itself and was killed")
        return was_running

    def _write_endpoint(
        self, instance: Instance, batch: BatchService, azurite: Azurite | None, management: ManagementService | None
    ) -> None:
        batch_said = batch.service.listens() or {}
        content: dict[str, Any] = {
            "version": 1,
            "batch": {
                "account": BATCH_ACCOUNT,
                "key": instance.batch_key.reveal(),
                "url": batch.url,
                "pid": batch_said.get("pid"),
            },
        }
        if batch.tls_port is not None:
            content["batch"]["tls_url"] = f"https://127.0.0.1:{batch.tls_port}"
        if azurite is not None:
            account = parse_storage(azurite.connection_string)
            storage_said = azurite.service.listens() or {}
            content["storage"] = {
                "account": account.name,
                "key": instance.storage_key.reveal(),
                "connection_string": azurite.connection_string,
                "blob_port": azurite.blob_port,
                "queue_port": azurite.queue_port,
                "pid": storage_said.get("pid"),
            }
        else:
            assert instance.external is not None
            account = parse_storage(instance.external.reveal())
            content["storage"] = {"account": account.name, "connection_string": instance.external.reveal()}
        if management is not None:
            content["aml"] = management.facts()
        write_private(self.folder / ENDPOINT_FILE, content)

    def _storage_status(self, instance: Instance) -> PartStatus:
        azurite = self._azurite(instance)
        if azurite is not None:
            account = parse_storage(azurite.connection_string)
            return _part_status("storage", account.name, azurite.url, azurite.service)
        assert instance.external is not None
        account = parse_storage(instance.external.reveal())
        url = account.blob_url or ""
        state: Literal["up", "down"] = "up" if _answers(url) else "down"
        return PartStatus("storage", state, url, account.name, None, self.log_file("storage"))


def _part_status(
    name: PartName, account: str, url: str, service: processes.Service, authority: Path | None = None
) -> PartStatus:
    said = service.listens()
    state: Literal["up", "down", "hangs"] = "down"
    if said is not None:
        state = "up" if _answers(url, authority) else "hangs"
    return PartStatus(name, state, url, account, said["pid"] if said else None, service.log)


def _answers(url: str, authority: Path | None = None) -> bool:
    """Whether any HTTP answer comes: without a key it is a refusal, which is answer enough.

    ``authority`` is the certificate that an https address on this machine rests on.
    """
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port
    connection: http.client.HTTPConnection
    if parts.scheme == "https":
        trusted = ssl.create_default_context(cafile=authority if authority is not None and authority.exists() else None)
        connection = http.client.HTTPSConnection(host, port, timeout=PROBE_TIMEOUT, context=trusted)
    else:
        connection = http.client.HTTPConnection(host, port, timeout=PROBE_TIMEOUT)
    try:
        connection.request("GET", parts.path or "/")
        connection.getresponse().read()
    except (OSError, http.client.HTTPException):
        return False
    finally:
        connection.close()
    return True


def _check_external(connection_string: Secret) -> None:
    """Refuse an account that does not answer or does not take its key, before anything is started on it."""
    from azure.core.exceptions import AzureError, HttpResponseError
    from azure.storage.blob import BlobServiceClient

    account = parse_storage(connection_string.reveal())
    try:
        with BlobServiceClient.from_connection_string(
            connection_string.reveal(), retry_total=0, connection_timeout=10, read_timeout=20
        ) as client:
            client.get_account_information()
    except HttpResponseError as error:
        named = getattr(error, "error_code", None)  # the SDK's enumeration, where it knows the service's word
        code = getattr(named, "value", named) or error.status_code
        raise ConfigurationError(
            f"--storage: the account {account.name} ({account.blob_url}) refused its key: {code}"
        ) from error
    except AzureError as error:
        raise ConfigurationError(f"--storage: {account.blob_url} does not answer: {type(error).__name__}") from error


# Checks


def _chosen_port(flag: str, kept: int, wanted: int | None, *, runs: bool) -> int:
    if wanted is None or wanted == kept:
        return kept
    if runs:
        if wanted == 0:
            return kept
        raise _must_be_down(flag)
    return wanted or free_ports(1)[0]


def _must_be_down(flag: str) -> ConfigurationError:
    return ConfigurationError(f"{flag} cannot change while the instance runs. Run `azbatchwrap local down` first")


def _require_free(name: str, flag: str, port: int) -> None:
    if not is_free(port):
        raise ConfigurationError(
            f"port {port} of the {name} is used by another program. End that program, or choose another port with {flag} "
            f"(0 takes a free one). The instance keeps the ports it first took, because links that it handed out name them"
        )


def _remove(folder: Path) -> None:
    """Remove a folder with what tasks left in it, folders without write permission included."""
    for left in folder.parent.glob(f".removed-{folder.name}-*"):
        _delete(left)  # of a reset that was cut off
    if not folder.exists():
        return
    doomed = folder.with_name(f".removed-{folder.name}-{time.time_ns()}")
    folder.rename(doomed)
    _delete(doomed)


def _delete(doomed: Path) -> None:
    for parent, folders, _ in os.walk(doomed):
        for name in folders:
            path = Path(parent, name)
            if not path.is_symlink():
                path.chmod(stat.S_IRWXU)
    shutil.rmtree(doomed)
