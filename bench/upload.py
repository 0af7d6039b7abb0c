"""Uploads: 2,000 files of 10 KiB and one of 512 MiB, beside azcopy, each onto a fresh Azurite of its own.

Both are timed as whole processes, from exec to exit, in turns. azcopy comes from npm into a cache folder; where its
libsecret is missing, Debian's packages of it are unpacked beside it (no root needed).
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import secrets
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from azbatchwrap.config import BatchAccount, PoolSettings, Secret, Settings, parse_storage
from azbatchwrap.local import processes
from azbatchwrap.local.instance import free_ports
from azbatchwrap.local.storage import Azurite
from azbatchwrap.storage import AzureBatchStorage
from bench.figures import Figure

SMALL_FILES, SMALL_SIZE, LARGE_SIZE = 2000, 10 * 1024, 512 * 1024 * 1024
MIB = 1024 * 1024
#: Turns of each; the best counts, since other work on the machine only ever slows.
ROUNDS = 2
#: The ratio promised, and the bound of memory (MiB) we set ourselves.
LIMIT, MEMORY_LIMIT = 1.5, 256
TIMEOUT = 180
CACHE = Path(__file__).parent.parent / ".cache" / "azcopy"


@dataclass(frozen=True, slots=True)
class Run:
    """One upload: seconds from exec to exit, peak memory in MiB, and the requests it made by kind where counted."""

    seconds: float
    memory: float
    requests: dict[str, int]


def figures() -> Iterator[Figure]:
    azcopy = find_azcopy()
    with tempfile.TemporaryDirectory(prefix="bench-upload-") as name:
        folder = Path(name)
        files = _make_files(folder / "files")
        choices = {"2,000 x 10 KiB": "small", "512 MiB": "large", "both": "."}
        for label, part in choices.items():
            yield from _compare(label, folder, files / part, azcopy)


def _compare(label: str, folder: Path, files: Path, azcopy: Path) -> Iterator[Figure]:
    ours: list[Run] = []
    theirs: list[Run] = []
    repeat: Run | None = None
    for turn in range(ROUNDS):
        with _azurite(folder / "azurite") as azurite:
            home = folder / f"home-{files.name}-{turn}"
            ours.append(run_ours(azurite, files, home))
            repeat = run_ours(azurite, files, home)
        with _azurite(folder / "azurite") as azurite:
            theirs.append(run_azcopy(azurite, files, azcopy, folder / "azcopy"))
    best, other = min(run.seconds for run in ours), min(run.seconds for run in theirs)
    yield Figure(
        f"upload {label}", f"{best:.2f} s", f"azcopy {other:.2f} s", other / best, LIMIT, note="whole processes"
    )
    peak, their_peak = max(run.memory for run in ours), max(run.memory for run in theirs)
    yield Figure(
        f"upload {label}, peak memory",
        f"{peak:.0f} MiB",
        f"bound {MEMORY_LIMIT} MiB",
        peak / MEMORY_LIMIT,
        1.0,
        "<=",
        note=f"azcopy {their_peak:.0f} MiB",
    )
    assert repeat is not None
    other_requests = sum(count for kind, count in repeat.requests.items() if kind != "list")
    yield Figure(
        f"upload {label}, repeated: requests other than listings",
        f"{other_requests} ({repeat.requests.get('list', 0)} listings, {repeat.seconds:.2f} s)",
        "asked 0",
        other_requests,
        0.0,
        "<=",
    )


# -- ours --

#: Counts what is sent through http.client, which carries our own requests and the SDK's alike.
_OURS = """
import collections, http.client, json, sys
from pathlib import Path
counts = collections.Counter()
send = http.client.HTTPConnection.putrequest
def counting(self, method, url, *rest, **more):
    counts["list" if "comp=list" in url else method] += 1
    return send(self, method, url, *rest, **more)
http.client.HTTPConnection.putrequest = counting
from azbatchwrap.storage import AzureBatchStorage
with AzureBatchStorage() as storage:
    storage.add_input_file_path(sys.argv[1])
    storage.upload_input_files()
peak = int(Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])
print(json.dumps({"peak": peak, "requests": counts}))
"""


def run_ours(azurite: Azurite, files: Path, home: Path) -> Run:
    """A user's script, configured by the environment. ``home`` keeps the hashes for the next one."""
    account = {
        "AZURE_BATCH_ACCOUNT": "none",
        "AZURE_BATCH_ACCESS_KEY": azurite.key.reveal(),
        "AZURE_BATCH_ENDPOINT": "http://127.0.0.1:1",
        "AZURE_STORAGE_CONNECTION_STRING": azurite.connection_string,
        "AZBATCHWRAP_HOME": str(home),
    }
    command = [sys.executable, "-c", _OURS, str(files)]
    began = time.monotonic()
    done = subprocess.run(
        command, env=os.environ | account, capture_output=True, text=True, timeout=TIMEOUT, check=True, cwd=files
    )
    seconds = time.monotonic() - began
    said = json.loads(done.stdout)
    return Run(seconds, said["peak"] / 1024, said["requests"])


# -- azcopy --


def run_azcopy(azurite: Azurite, files: Path, azcopy: Path, state: Path) -> Run:
    with AzureBatchStorage(settings_for(azurite.connection_string), hash_cache=state / "hashes") as storage:
        container = storage.create_output_folder()
        url = storage.container_sas(container, "racwdl", timedelta(hours=1))
    command = [str(azcopy), "copy", str(files), url, "--recursive", "--from-to", "LocalBlob"]
    began = time.monotonic()
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=_environment(state)
    ) as process:
        assert process.stdout is not None
        output = process.stdout.read().decode()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    seconds = time.monotonic() - began
    if process.returncode != 0:
        raise RuntimeError(f"azcopy failed: {output.replace(url, 'URL')[-2000:]}")
    return Run(seconds, usage.ru_maxrss / 1024, {})


def settings_for(connection_string: str) -> Settings:
    return Settings(
        batch=BatchAccount("none", "http://127.0.0.1:1", None),
        storage=parse_storage(connection_string),
        pool=PoolSettings(),
        project="azcopy",
        is_local=True,
        sources={},
    )


def _environment(state: Path) -> dict[str, str]:
    folders = {"AZCOPY_LOG_LOCATION": str(state / "log"), "AZCOPY_JOB_PLAN_LOCATION": str(state / "plans")}
    libraries = sorted(str(path.parent) for path in CACHE.rglob("libsecret-1.so.0"))
    searched = {"LD_LIBRARY_PATH": ":".join(libraries)} if libraries else {}
    return {**os.environ, **folders, **searched, "AZCOPY_DISABLE_SYSLOG": "true"}


def find_azcopy() -> Path:
    """azcopy of the PATH, else of the cache folder, installed there when it is missing."""
    found = shutil.which("azcopy")
    if found:
        return Path(found)
    program = next(CACHE.glob("node_modules/@azure-tools/azcopy-linux/dist/bin/azcopy_linux_*"), None)
    if program is None:
        CACHE.mkdir(parents=True, exist_ok=True)
        _call("npm", "install", "--prefix", str(CACHE), "--no-audit", "--no-fund", "@azure-tools/azcopy-linux")
        program = next(CACHE.glob("node_modules/@azure-tools/azcopy-linux/dist/bin/azcopy_linux_*"))
        program.chmod(0o755)
    if not _works(program):
        for package in ("libsecret-1-0", "libglib2.0-0"):
            _call("apt-get", "download", package)
        for archive in CACHE.glob("*.deb"):
            _call("dpkg", "-x", str(archive), str(CACHE / "libraries"))
        if not _works(program):
            raise RuntimeError("azcopy does not start: install Debian's libsecret-1-0")
    return program


def _works(program: Path) -> bool:
    environment = _environment(CACHE)
    return subprocess.run([program, "--version"], capture_output=True, env=environment, check=False).returncode == 0


def _call(*words: str) -> None:
    done = subprocess.run(words, cwd=CACHE, capture_output=True, text=True, timeout=TIMEOUT, check=False)
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(words)} failed: {done.stderr[-2000:]}")


# -- the ground --


@contextlib.contextmanager
def _azurite(folder: Path) -> Iterator[Azurite]:
    """A fresh one: Azurite slows as it fills, so that the second of two would always lose."""
    shutil.rmtree(folder, ignore_errors=True)
    key = base64.b64encode(secrets.token_bytes(64)).decode()
    azurite = Azurite(folder, folder / "azurite.log", Secret(key), *free_ports(2))
    try:
        processes.wait_until_listening(azurite.service, azurite.start(), 60)
        yield azurite
    finally:
        azurite.stop()


def _make_files(folder: Path) -> Path:
    """Random content, dated before now as any file one uploads."""
    writers: list[tuple[Path, Callable[[], bytes], int]] = [
        (folder / "small" / f"{number:04d}.bin", lambda: os.urandom(SMALL_SIZE), 1) for number in range(SMALL_FILES)
    ]
    writers.append((folder / "large" / "large.bin", lambda: os.urandom(MIB), LARGE_SIZE // MIB))
    an_hour_ago = time.time() - 3600
    for path, data, pieces in writers:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("wb") as file:
            for _ in range(pieces):
                file.write(data())
        os.utime(path, (an_hour_ago, an_hour_ago))
    return folder
