"""Fixtures: podman with a storage of its own, and the product's images, built on a base of Debian's packages."""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.real_parts import lacking

ROOT = Path(__file__).parent.parent
#: Kept between runs: the base image and the packages.
CACHE = ROOT / ".cache" / "images"
#: What stands for the Dockerfiles' base image, which is on a registry.
BASE_IMAGE = "localhost/azbatchwrap-base:bookworm"
#: Debian bookworm's.
BASE_PYTHON = "3.11"
BASE_PACKAGES = "python3,python3-venv,ca-certificates"
#: A build fetches Debian packages and installs Python packages (seconds).
BUILD_SECONDS = 400
#: Making the base and fetching the packages: a minute, on a quiet machine (seconds).
FETCH_SECONDS = 300


@dataclass(frozen=True)
class Podman:
    """The engine with images and containers of its own. ``variables`` tell any program to use those."""

    folder: Path
    variables: dict[str, str]

    def __call__(
        self, *words: str | Path, stdin: bytes | None = None, seconds: float = 180
    ) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            ["podman", *map(str, words)],
            env=os.environ | self.variables,
            input=stdin,
            capture_output=True,
            timeout=seconds,
            check=False,
        )

    def running(self) -> list[str]:
        """The ids of the containers that run."""
        return self("ps", "--quiet").stdout.decode().split()

    def import_image(self, archive: bytes | Path, name: str) -> None:
        """Makes an image of a tar file. Where podman does not work the test ends with what it says."""
        given = archive if isinstance(archive, bytes) else None
        done = self("import", "-q", "-" if given is not None else str(archive), name, stdin=given)
        if done.returncode != 0:
            lacking(f"podman does not work here: {done.stderr.decode()}")

    def end(self) -> None:
        self("rm", "--all", "--force", "--time", "0")
        self("rmi", "--all", "--force")


def new_podman(folder: Path, driver: str = "vfs") -> Podman:
    path = f"{os.environ['PATH']}:/usr/sbin"
    runtime = next((name for name in ("runc", "crun") if shutil.which(name, path=path)), None)
    if shutil.which("podman") is None or runtime is None:
        lacking("containers need podman and runc (apt-get install podman runc)")
    (folder / "storage.conf").write_text(
        f'[storage]\ndriver = "{driver}"\ngraphroot = "{folder}/graph"\nrunroot = "{folder}/run"\n'
    )
    (folder / "containers.conf").write_text(
        '[containers]\ndefault_ulimits = ["nofile=1024:1024", "nproc=1000:1000"]\n'
        f'[engine]\nruntime = "{runtime}"\ncgroup_manager = "cgroupfs"\nevents_logger = "file"\n'
    )
    variables = {
        "CONTAINERS_STORAGE_CONF": str(folder / "storage.conf"),
        "CONTAINERS_CONF": str(folder / "containers.conf"),
        "BUILDAH_FORMAT": "docker",  # the one with health checks
        "PATH": path,
    }
    return Podman(folder, variables)


@dataclass(frozen=True)
class Images:
    """Builds the product's images by `make`, as users do."""

    podman: Podman
    pip_conf: Path

    def build(self, target: str, extra: str) -> None:
        wheels = download_wheels(extra)
        options = f"--network host --volume {wheels}:{wheels}:ro"
        self.pip_conf.write_text(f"[global]\nno-index = true\nfind-links = {wheels}\n")
        command = [
            "make", target, "CONTAINER_ENGINE=podman", f"BASE_IMAGE={BASE_IMAGE}", f"PIP_CONF={self.pip_conf}",
            f"BUILD_OPTIONS={options}",
        ]  # fmt: skip
        done = subprocess.run(
            command, cwd=ROOT, env=os.environ | self.podman.variables, capture_output=True, text=True,
            timeout=BUILD_SECONDS, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]

    def find(self, image: str, *places: str) -> str:
        """Which of the places are in the image."""
        command = f"ls -d {' '.join(places)} 2> /dev/null"
        done = self.podman("run", "--rm", "--network", "none", "--entrypoint", "/bin/sh", image, "-c", command)
        return done.stdout.decode()


@pytest.fixture(scope="session")
def images() -> Iterator[Images]:
    with tempfile.TemporaryDirectory(prefix="images-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        podman = new_podman(folder, driver_for(folder))
        podman.import_image(cached("base.tar", make_base), BASE_IMAGE)
        try:
            yield Images(podman, folder / "pip.conf")
        finally:
            podman.end()


def driver_for(folder: Path) -> str:
    """overlay, with which a layer costs what it adds; vfs copies everything, but works on every file system."""
    probe = folder / "probe"
    for name in ("below", "above", "work", "together"):
        (probe / name).mkdir(parents=True)
    options = f"lowerdir={probe}/below,upperdir={probe}/above,workdir={probe}/work"
    command = ["mount", "-t", "overlay", "overlay", "-o", options, str(probe / "together")]
    if subprocess.run(command, capture_output=True, check=False).returncode != 0:
        return "vfs"
    subprocess.run(["umount", str(probe / "together")], check=True)
    return "overlay"


def make_base(place: Path) -> None:
    if shutil.which("mmdebstrap") is None:
        lacking("the base image needs mmdebstrap (apt-get install mmdebstrap)")
    exclude = (f"--dpkgopt=path-exclude=/usr/share/{name}/*" for name in ("doc", "man", "locale"))
    fetch(
        ["mmdebstrap", "--variant=minbase", "--format=tar", f"--include={BASE_PACKAGES}", *exclude, "bookworm",
         str(place)]
    )  # fmt: skip


def download_wheels(extra: str) -> Path:
    """A folder with what the build installs, for the base's Python: by pip with this machine's settings."""
    CACHE.mkdir(parents=True, exist_ok=True)
    wheels = CACHE / "wheels"
    # pip tells what packages ask for by the Python that runs it: the last is what only 3.11.2 and older ones need.
    further = ["imageio-ffmpeg", "hatchling", "async-timeout"]
    with (CACHE / "wheels.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        fetch(
            [sys.executable, "-m", "pip", "download", "--quiet", "--only-binary=:all:", "--python-version", BASE_PYTHON,
             "--dest", str(wheels), f"{ROOT}[{extra}]", *further]
        )  # fmt: skip
    return wheels


def cached(name: str, make: Callable[[Path], None]) -> Path:
    """The file of that name in the cache; made there when it is missing, by one process at a time."""
    CACHE.mkdir(parents=True, exist_ok=True)
    place = CACHE / name
    with (CACHE / f"{name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not place.exists():
            beside = place.with_name(f"new-{name}")
            beside.unlink(missing_ok=True)
            make(beside)
            beside.replace(place)
    return place


def fetch(command: Sequence[str]) -> None:
    """Run what needs the network."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=FETCH_SECONDS, check=False)
    except subprocess.TimeoutExpired as error:
        lacking(f"{command[0]} takes too long here: {error}")
    if done.returncode != 0:
        lacking(f"{' '.join(command)} does not work here: {done.stderr[-1000:]}")
