"""What the nodes of a pool are given besides their image: packages, a container, an identity, a network."""

from __future__ import annotations

import hashlib
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

from azbatchwrap.config import Secret
from azbatchwrap.errors import ConfigurationError

from .images import Image
from .service import Json, metadata

#: Capabilities of images, as the service lists them: what runs containers, and what has the drivers of graphics cards.
RUNS_CONTAINERS, HAS_GPU_DRIVERS = "DockerCompatible", "NvidiaTeslaDriverInstalled"
#: Where the start task leaves what it installed; `engine/prepare.py` finds the environment for Python there.
POOL_FOLDER = "$AZ_BATCH_NODE_SHARED_DIR/azbatchwrap-pool"
#: The metadata entry with a pool's options for containers: its image stands in the pool itself.
CONTAINER_OPTIONS = "azbatchwrap_container_options"

_SUBSCRIPTION = r"/subscriptions/[^/]+/resourceGroups/[^/]+/providers"
#: Resource ids: what each may be, as Azure writes them (compared without case).
_SHAPES = {
    "subnet": (rf"{_SUBSCRIPTION}/Microsoft\.Network/virtualNetworks/[^/]+/subnets/[^/]+", "…/subnets/NAME"),
    "identity": (
        rf"{_SUBSCRIPTION}/Microsoft\.ManagedIdentity/userAssignedIdentities/[^/]+",
        "…/userAssignedIdentities/NAME",
    ),
    "vm_image": (
        rf"{_SUBSCRIPTION}/Microsoft\.Compute/(galleries/[^/]+/)?images/[^/]+(/versions/[^/]+)?",
        "…/galleries/GALLERY/images/NAME/versions/VERSION",
    ),
}
#: Ends a command where the node is the user's own machine (a loopback service): nothing is installed there.
_NOT_HERE = (
    'case "$AZ_BATCH_ACCOUNT_URL" in http://127.*|http://localhost*|http://\\[::1\\]*) '
    'echo "{lacking}, and nothing is installed into this machine: {way_out}" >&2; exit 0;; esac; '
)
#: The first minutes of a node belong to its own updates, which hold apt's lock.
_APT = "apt-get -o DPkg::Lock::Timeout=600"
_APT_INSTALL = (
    f"export DEBIAN_FRONTEND=noninteractive; {_APT} update && {_APT} install -y --no-install-recommends {{packages}}"
)
_JDK = (
    "if command -v java >/dev/null; then exit 0; fi; "
    + _NOT_HERE.format(lacking="no java here", way_out="install a JDK")
    + f"if command -v apt-get >/dev/null; then {_APT_INSTALL.format(packages='default-jdk-headless')}; "
    "else yum -y install java-17-openjdk-headless; fi"
)
_PIP = (
    f'umask 022; python3 -m venv "{POOL_FOLDER}/python" || '
    f'{{{{ {_APT_INSTALL.format(packages="python3-venv")}; python3 -m venv "{POOL_FOLDER}/python"; }}}}; '
    f'"{POOL_FOLDER}/python/bin/python" -m pip install --disable-pip-version-check --no-input --retries 5 {{packages}}'
)


@dataclass(frozen=True, slots=True)
class Registry:
    """Where container images come from. Signed in by user and password, or by ``identity``: that of the pool, if empty."""

    server: str
    user: str = ""
    password: Secret | str | None = None
    identity: str = ""

    def __post_init__(self) -> None:
        if isinstance(self.password, str):
            object.__setattr__(self, "password", Secret(self.password))

    def wire(self, pool_identity: str) -> Json:
        """For a pool of this identity. Raises ConfigurationError when nothing says how to sign in."""
        if self.user and isinstance(self.password, Secret):
            return {"registryServer": self.server, "username": self.user, "password": self.password.reveal()}
        identity = self.identity or pool_identity
        if not identity:
            raise ConfigurationError(
                f"registry {self.server}: give a user and a password, or the pool an identity that may pull from it"
            )
        return {"registryServer": self.server, "identityReference": {"resourceId": identity}}


@dataclass(frozen=True, slots=True)
class Container:
    """What tasks of a pool run in: an image, and further options of ``docker run``."""

    image: str
    options: str = ""

    def wire(self) -> Json:
        """The ``containerSettings`` of a task."""
        options = {"containerRunOptions": self.options} if self.options else {}
        return {"imageName": self.image, **options}


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeSetup:
    """What nodes have besides their image.

    ``apt`` and ``pip`` name packages, ``jdk`` wants Java, ``start_commands`` are run as root in a shell: all once per
    node, before its first task. ``container`` is the image that tasks run in (it brings its own Python and packages),
    with further ``container_options`` of ``docker run``, pulled from ``registries``. ``identity`` is the resource id of
    a user-assigned identity, ``subnet`` that of a subnet that nodes are put into, ``vm_image`` that of an image of your
    own in a gallery, with the node agent of the configured one. ``gpu_drivers`` wants an image with those of graphics cards.
    """

    apt: Sequence[str] = ()
    pip: Sequence[str] = ()
    jdk: bool = False
    start_commands: Sequence[str] = ()
    container: str = ""
    container_options: str = ""
    registries: Sequence[Registry] = ()
    identity: str = ""
    subnet: str = ""
    vm_image: str = ""
    gpu_drivers: bool = False

    def setup(self) -> dict[str, Any]:
        """Its fields, as the arguments of another one."""
        return {each.name: getattr(self, each.name) for each in fields(NodeSetup)}

    def check_setup(self) -> None:
        """Raises ConfigurationError for what no node could be given."""
        for name in ("apt", "pip", "start_commands"):
            if isinstance(getattr(self, name), str):
                raise ConfigurationError(f"{name} is a list: {name}=[{getattr(self, name)!r}]")
        if self.container and (self.apt or self.pip or self.jdk):
            raise ConfigurationError(
                f"tasks run in the container {self.container}, which has its own packages: install apt, pip and jdk there"
            )
        if not self.container and (self.registries or self.container_options):
            raise ConfigurationError("registries and container_options are for a container=, and there is none")
        for name, (shape, example) in _SHAPES.items():
            value = getattr(self, name)
            if value and not re.fullmatch(shape, value, re.IGNORECASE):
                raise ConfigurationError(f"{name}={value!r} is no resource id of that kind: /subscriptions/{example}")

    @property
    def capabilities(self) -> frozenset[str]:
        """What the image must be able to do."""
        wanted = {RUNS_CONTAINERS: bool(self.container), HAS_GPU_DRIVERS: self.gpu_drivers}
        return frozenset(name for name, is_wanted in wanted.items() if is_wanted)

    def commands(self) -> Iterator[str]:
        """What the start task runs, in its order. What it has installed on a node it does not install again."""
        if self.apt:
            yield _apt(self.apt)
        if self.jdk:
            yield _JDK
        if self.pip:
            yield _once(_PIP.format(packages=shlex.join(self.pip)))
        yield from self.start_commands

    def machine(self, image: Image) -> Json:
        """The ``virtualMachineConfiguration``. Raises ConfigurationError for a registry that nobody can sign in to."""
        machine = image.wire()
        if self.vm_image:
            machine["imageReference"] = {"virtualMachineImageId": self.vm_image}
        if self.container:
            machine["containerConfiguration"] = {
                "type": "dockerCompatible",
                # Nodes fetch it before they take tasks.
                "containerImageNames": [self.container],
                "containerRegistries": [registry.wire(self.identity) for registry in self.registries],
            }
        return machine

    def hashed(self) -> dict[str, Any]:
        """What makes two pools different; passwords do not."""
        named = [[one.server, one.user, one.identity] for one in self.registries]
        return {name: value for name, value in {**self.setup(), "registries": named}.items() if value}


def container_of(pool: Json) -> Container | None:
    """What tasks on a pool run in; on one that was made elsewhere, the first image that it fetches."""
    configured = (pool.get("virtualMachineConfiguration") or {}).get("containerConfiguration")
    if configured is None:
        return None
    images = configured.get("containerImageNames") or ()
    if not images:
        raise ConfigurationError(f"pool {pool['id']} is for containers and names no image that tasks could run in")
    return Container(images[0], metadata(pool).get(CONTAINER_OPTIONS, ""))


def start_task(commands: Sequence[str]) -> Json:
    """A start task that runs shell ``commands`` as root, one after the other, and stops at the first that fails."""
    script = "\n".join(("set -e", *(f"( {command}\n)" for command in commands)))
    return {
        "commandLine": f"/bin/sh -c {shlex.quote(script)}",
        "userIdentity": {"autoUser": {"scope": "pool", "elevationLevel": "admin"}},
        "maxTaskRetryCount": 2,
        "waitForSuccess": True,
    }


def _apt(packages: Sequence[str]) -> str:
    named = shlex.join(packages)
    lacking = _NOT_HERE.format(lacking=f"not all of {' '.join(packages)} are here", way_out="install them")
    return f"if dpkg -s {named} >/dev/null 2>&1; then exit 0; fi; {lacking}{_APT_INSTALL.format(packages=named)}"


def _once(script: str) -> str:
    """``script``, unless it has run on this node: a reboot runs the start task again."""
    mark = f"{POOL_FOLDER}/{hashlib.sha256(script.encode()).hexdigest()[:12]}"
    return f'if [ -e "{mark}" ]; then exit 0; fi; {script} && : > "{mark}"'
