"""Results to a folder: in parallel, resumable, and never outside that folder.

Each file is written beside its place and renamed when it is whole. What a folder holds already is recognised by a
small index (`INDEX_FILE`), or by its MD5 where the service knows one, and is not fetched again.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import os
import threading
import time
from collections.abc import Collection, Iterable, Iterator, Mapping
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from azbatchwrap import names
from azbatchwrap.errors import ConfigurationError, Conflict, NotFound, ServiceError, Throttled, Unreachable
from azbatchwrap.progress import Progress
from azbatchwrap.storage.inventory import list_blobs
from azbatchwrap.storage.records import BlobEntry
from azbatchwrap.storage.wire import PATIENCE, BlobWire

log = logging.getLogger(__name__)

#: Remembers, in the folder of results, which blob each file came from.
INDEX_FILE = ".azbatchwrap-results.json"
#: Bytes held in memory for each connection.
_PIECE = 1024 * 1024
#: Bytes in one component of a path and in a whole path, as Linux takes them (with room for the folder itself).
_LONGEST_COMPONENT, _LONGEST_PATH = 255, 3000
#: A blob that is replaced while it is read, or arrives damaged, is read anew this often.
_READINGS = 3
#: So many tasks are listed one by one; for more the whole job is listed.
_SINGLE_LISTINGS = 8
#: Seconds between two reports of progress.
_REPORT_INTERVAL = 0.2


@dataclass(frozen=True, slots=True)
class Target:
    """Where a blob goes: ``place`` is relative to the folder; ``mapped`` when the blob's own name could not be used."""

    entry: BlobEntry
    place: PurePosixPath
    mapped: bool = False


@dataclass(frozen=True, slots=True)
class _Kept:
    """A file as it was when it was fetched."""

    etag: str
    size: int
    mtime_ns: int


class _Stopped(Exception):
    """Another file failed, or the user interrupted: what is there so far stays for the next time."""


class _Stale(Exception):
    """What was read is not the blob as it was listed."""


class Downloader:
    """Brings the blobs below a prefix into one folder."""

    def __init__(self, wire: BlobWire, progress: Progress) -> None:
        self._wire = wire
        self._progress = progress

    def download(self, container: str, job_id: str, tasks: Collection[str] | None, directory: Path) -> list[Path]:
        """What the job (or these tasks of it) left in ``container``, each blob placed below ``directory``.

        Returns the paths, those that were there already included. Raises ServiceError, or ConfigurationError when
        the folder cannot be written. After an error the next call goes on where this one stopped.
        """
        root = f"{job_id}/"
        targets = placed(self._entries(container, root, tasks), root)
        with _writing(directory):
            directory.mkdir(parents=True, exist_ok=True)
            there = self._fetch_all(container, targets, directory.resolve())
        return [directory / target.place for target in targets if str(target.place) in there]

    def _entries(self, container: str, root: str, tasks: Collection[str] | None) -> Iterator[BlobEntry]:
        if tasks is not None and len(tasks) <= _SINGLE_LISTINGS:
            for task in sorted(set(tasks)):
                yield from list_blobs(self._wire, container, f"{root}{task}/")
            return
        wanted = None if tasks is None else set(tasks)
        for entry in list_blobs(self._wire, container, root):
            if wanted is None or entry.name.removeprefix(root).partition("/")[0] in wanted:
                yield entry

    def _fetch_all(self, container: str, targets: list[Target], directory: Path) -> Collection[str]:
        index = _read_index(directory / INDEX_FILE)
        key = f"download-{container}"
        self._progress.start(key, f"downloading {len(targets)} results", sum(t.entry.size for t in targets), "B")
        files = _Files(self._wire, container, directory)
        there: dict[str, _Kept] = {}
        pool = ThreadPoolExecutor(self._wire.connections, thread_name_prefix="download")
        try:
            futures = {pool.submit(files.bring, target, index.get(str(target.place))): target for target in targets}
            pending = set(futures)
            while pending:
                done, pending = wait(pending, timeout=_REPORT_INTERVAL, return_when=FIRST_EXCEPTION)
                self._progress.update(key, files.bytes_done)
                for future in done:
                    target, kept = futures[future], future.result()
                    if kept is not None:
                        there[str(target.place)] = kept
                    if target.mapped:
                        self._report(target, there)
            index = files.without_strays(targets, index)
        finally:
            files.stop.set()
            pool.shutdown(cancel_futures=True)
            _write_index(directory / INDEX_FILE, index | there)
            self._progress.finish(key)
        return there

    def _report(self, target: Target, there: Collection[str]) -> None:
        outcome = f"saved as {target.place}" if str(target.place) in there else "left out"
        text = f"{target.entry.name!r} cannot be a file's name here: {outcome}"
        log.warning("%s", text)
        self._progress.message(text)


class _Files:
    """Brings single files; shared by the threads of one download."""

    def __init__(self, wire: BlobWire, container: str, directory: Path) -> None:
        self._wire = wire
        self._container = container
        self._directory = directory
        self._lock = threading.Lock()
        self.stop = threading.Event()
        self.bytes_done = 0

    def without_strays(self, targets: list[Target], index: Mapping[str, _Kept]) -> dict[str, _Kept]:
        """``index`` without the files that earlier downloads, of another job say, left in the folders of these tasks.

        They are removed, if nobody has changed them since.
        """
        wanted = {str(target.place) for target in targets}
        tasks = {target.place.parts[0] for target in targets}
        kept: dict[str, _Kept] = {}
        for place, known in index.items():
            path = self._directory / place
            stays = place in wanted or place.partition("/")[0] not in tasks or not self._is_inside(path)
            if stays or not path.is_file() or _kept(path, known.etag) != known:
                kept[place] = known
            else:
                path.unlink()
                log.debug("%s is of another job, and was removed", path)
        return kept

    def _is_inside(self, path: Path) -> bool:
        """Whether neither a link inside the folder nor the name leads elsewhere."""
        return path.parent.resolve().is_relative_to(self._directory) and not path.is_symlink()

    def bring(self, target: Target, kept: _Kept | None) -> _Kept | None:
        """``None`` for a blob with an unusable name that the service does not give out under that name either."""
        try:
            return self._bring(target, kept)
        except ServiceError as error:
            # One blob called `a/../b` must not keep all others back: no address reaches it.
            if not target.mapped or isinstance(error, Unreachable | Throttled):
                raise
            log.debug("%r was left out: %s", target.entry.name, error)
            return None

    def _bring(self, target: Target, kept: _Kept | None) -> _Kept:
        path = self._directory / target.place
        # A link inside the folder must not lead a result elsewhere.
        if not path.parent.resolve().is_relative_to(self._directory):
            raise ConfigurationError(f"{path.parent} leads out of {self._directory}: remove that link")
        if _is_same(path, target.entry, kept):
            self._count(target.entry.size)
            return _kept(path, target.entry.etag)
        path.parent.mkdir(parents=True, exist_ok=True)
        return self._fetch(path, target.entry)

    def _fetch(self, path: Path, entry: BlobEntry) -> _Kept:
        for _ in range(_READINGS):
            part = path.parent / f".{hashlib.sha256(f'{entry.name} {entry.etag}'.encode()).hexdigest()[:24]}.part"
            try:
                self._fill(part, entry)
            except (Conflict, _Stale):
                part.unlink(missing_ok=True)
                entry = self._current(entry)
                continue
            part.replace(path)
            return _kept(path, entry.etag)
        raise ServiceError(
            f"{self._container}/{entry.name} changes while it is read, or arrives damaged: try again later"
        )

    def _current(self, entry: BlobEntry) -> BlobEntry:
        for found in list_blobs(self._wire, self._container, entry.name):
            if found.name == entry.name:
                return found
        raise NotFound(f"{self._container}/{entry.name} was deleted while it was read", code="BlobNotFound", status=404)

    def _fill(self, part: Path, entry: BlobEntry) -> None:
        """Completes ``part``, on from where an earlier attempt ended. Raises _Stale when it is not the blob then."""
        digest = hashlib.md5(usedforsecurity=False)
        with part.open("a+b") as file:
            file.seek(0)
            size = 0
            while piece := file.read(_PIECE):
                digest.update(piece)
                size += len(piece)
            failures = 0
            while size < entry.size:
                before = size
                try:
                    with self._wire.reading(self._container, entry.name, start=size, etag=entry.etag) as body:
                        for piece in body.pieces(_PIECE):
                            self._raise_if_stopped()
                            file.write(piece)
                            digest.update(piece)
                            size += len(piece)
                            self._count(len(piece))
                except Unreachable:
                    failures = 0 if size > before else failures + 1
                    if PATIENCE.exhausted(failures + 1):
                        raise
                    time.sleep(PATIENCE.delay(failures + 1))
        if size != entry.size or (entry.md5 is not None and digest.digest() != entry.md5):
            raise _Stale

    def _raise_if_stopped(self) -> None:
        if self.stop.is_set():
            raise _Stopped

    def _count(self, size: int) -> None:
        with self._lock:
            self.bytes_done += size


def placed(entries: Iterable[BlobEntry], root: str) -> list[Target]:
    """Where each blob goes: by its name after ``root``, without the level of the task's output folder.

    A name that cannot be a path inside the folder (``..``, absolute, a backslash, too long, a file where others need
    a folder) is replaced by ``unsafe-HASH`` in the task's folder. The answer depends on the names alone.
    """
    by_place: dict[PurePosixPath, BlobEntry] = {}
    unusable: list[BlobEntry] = []
    nested: list[tuple[PurePosixPath, PurePosixPath, BlobEntry]] = []
    for entry in entries:
        path = _usable(entry.name.removeprefix(root))
        if path is None:
            unusable.append(entry)
        elif len(path.parts) > 2 and path.parts[1] == names.OUTPUT_FOLDER:
            nested.append((PurePosixPath(path.parts[0], *path.parts[2:]), path, entry))
        else:
            by_place[path] = entry
    for short, full, entry in nested:
        by_place[full if short in by_place else short] = entry
    folders = {parent for place in by_place for parent in place.parents}
    targets = [Target(entry, place) for place, entry in by_place.items() if place not in folders]
    unusable += [entry for place, entry in by_place.items() if place in folders]
    files = {target.place for target in targets}
    targets += [Target(entry, _mapped(entry.name, root, files), mapped=True) for entry in unusable]
    return sorted(targets, key=lambda target: target.place)


def _usable(name: str) -> PurePosixPath | None:
    try:
        path = names.safe_relative(name)
    except ValueError:
        return None
    longest = max(len(part.encode()) for part in path.parts)
    if str(path) != name or longest > _LONGEST_COMPONENT or len(name.encode()) > _LONGEST_PATH or name == INDEX_FILE:
        return None
    return path


def _mapped(name: str, root: str, files: Collection[PurePosixPath]) -> PurePosixPath:
    task = _usable(name.removeprefix(root).partition("/")[0])
    unsafe = f"unsafe-{hashlib.sha256(name.encode()).hexdigest()[:16]}"
    return PurePosixPath(unsafe) if task is None or task in files else task / unsafe


def _is_same(path: Path, entry: BlobEntry, kept: _Kept | None) -> bool:
    if path.is_symlink() or not path.is_file():
        return False
    if kept is not None and kept == _kept(path, entry.etag):
        return True
    return entry.md5 is not None and path.stat().st_size == entry.size and _md5(path) == entry.md5


def _kept(path: Path, etag: str) -> _Kept:
    facts = path.stat()
    return _Kept(etag, facts.st_size, facts.st_mtime_ns)


def _md5(path: Path) -> bytes:
    digest = hashlib.md5(usedforsecurity=False)
    with path.open("rb") as file:
        while piece := file.read(_PIECE):
            digest.update(piece)
    return digest.digest()


def _read_index(file: Path) -> dict[str, _Kept]:
    try:
        files = json.loads(file.read_text())["files"]
        return {place: _Kept(str(etag), int(size), int(mtime)) for place, (etag, size, mtime) in files.items()}
    except (OSError, ValueError, TypeError, KeyError, AttributeError):
        # Lost or damaged, it only costs comparing the files again.
        return {}


def _write_index(file: Path, index: dict[str, _Kept]) -> None:
    files = {place: [kept.etag, kept.size, kept.mtime_ns] for place, kept in sorted(index.items())}
    beside = file.with_name(f"{file.name}.{os.getpid()}.part")
    beside.write_text(json.dumps({"version": 1, "files": files}))
    beside.replace(file)


@contextlib.contextmanager
def _writing(directory: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise ConfigurationError(f"cannot write results below {directory}: {error.strerror or error}") from error
