"""Files to blobs named by their content: in parallel, each once, with bounded memory.

A file up to `SINGLE` bytes is read once, and the bytes that were hashed are the bytes that are sent. A larger one is
hashed, then sent in blocks that are hashed again on their way: its blob appears only if both hashes agree.
"""

from __future__ import annotations

import base64
import contextlib
import hashlib
import os
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from azbatchwrap import names
from azbatchwrap.errors import ConfigurationError
from azbatchwrap.progress import Progress
from azbatchwrap.storage.hashes import HashCache, Stamp
from azbatchwrap.storage.inventory import Inventory
from azbatchwrap.storage.records import Content
from azbatchwrap.storage.wire import BlobWire

MIB = 1024 * 1024
#: Files up to this size are held in memory whole, one per connection.
SINGLE = 4 * MIB
#: Size of a block of a larger file, and how many are in memory at once.
BLOCK, BLOCKS_IN_FLIGHT = 8 * MIB, 4
#: A blob has at most this many blocks (Put Block, "Remarks").
_MOST_BLOCKS = 50_000
#: A file that changes while it is read is read again this often.
_READINGS = 3
#: Seconds between two reports of progress.
_REPORT_INTERVAL = 0.2


class _Changed(Exception):
    """The file is not what it was when its hash was taken."""


class _Stopped(Exception):
    """Another file failed, or the user interrupted: the rest is not sent."""


@dataclass(slots=True)
class _Tally:
    """Bytes dealt with, counted by workers and reported by the caller's thread."""

    done: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, size: int) -> None:
        with self.lock:
            self.done += size


class Uploader:
    """Puts files and bytes into one container under their content's hash."""

    def __init__(self, wire: BlobWire, inventory: Inventory, hashes: HashCache, progress: Progress) -> None:
        self._wire = wire
        self._inventory = inventory
        self._hashes = hashes
        self._progress = progress
        self._claimed: set[str] = set()
        #: Hashes of what the last `upload` really sent.
        self._sent: set[str] = set()
        self._lock = threading.Lock()
        self._turn = threading.Lock()
        self._stop = threading.Event()

    def upload(self, paths: Iterable[Path], what: str = "files") -> dict[Path, Content]:
        """Sends the files that the container lacks and says what each holds.

        Raises ConfigurationError for a file that cannot be read or does not stop changing, ServiceError as the
        service answers. What was sent before an error stays, and is not sent again.
        """
        sizes = {path: _stat(path).st_size for path in paths}
        if not sizes:
            return {}
        with self._turn:
            self._inventory.refresh()
            self._claimed.clear()
            self._sent.clear()
            self._stop.clear()
            tally = _Tally()
            key, text = f"upload-{what}", None
            self._progress.start(key, f"uploading {len(sizes)} {what}", sum(sizes.values()), "B")
            try:
                contents = self._all(sizes, tally, lambda: self._progress.update(key, tally.done))
                kept = sum(content.sha256 not in self._sent for content in contents.values())
                text = f"{len(sizes)} {what}, {kept} of them there already" if kept else None
                return contents
            finally:
                self._hashes.save()
                self._progress.finish(key, text)

    def upload_bytes(self, data: bytes) -> Content:
        """Sends bytes that are no file, unless the container holds them."""
        self._inventory.refresh()
        content = Content(hashlib.sha256(data).hexdigest(), len(data))
        if not self._inventory.holds(content):
            self._put(content, data)
        return content

    def _all(self, sizes: Mapping[Path, int], tally: _Tally, report: Callable[[], None]) -> dict[Path, Content]:
        small = [path for path, size in sizes.items() if size <= SINGLE]
        large = [path for path, size in sizes.items() if size > SINGLE]
        with _pool(self._wire.connections, "upload") as workers, _pool(1, "upload-large") as coordinator:
            chosen = [(path, workers) for path in small] + [(path, coordinator) for path in large]
            futures = {path: pool.submit(self._one, path, tally) for path, pool in chosen}
            try:
                _wait_for(futures.values(), report)
            except BaseException:
                self._stop.set()
                raise
            return {path: future.result() for path, future in futures.items()}

    def _one(self, path: Path, tally: _Tally) -> Content:
        for _ in range(_READINGS):
            with contextlib.suppress(_Changed):
                return self._attempt(path, tally)
        raise ConfigurationError(f"{path} keeps changing while it is uploaded: wait until it is written, or copy it")

    def _attempt(self, path: Path, tally: _Tally) -> Content:
        with _opened(path) as file:
            stamp = Stamp.of(os.fstat(file.fileno()))
            sha256 = self._hashes.known(path, stamp)
            if sha256 is not None and self._inventory.holds(Content(sha256, stamp.size)):
                content = Content(sha256, stamp.size)
            elif stamp.size <= SINGLE:
                content = self._small(path, file, stamp)
            else:
                content = self._large(path, file, stamp, sha256)
        tally.add(content.size)
        return content

    def _small(self, path: Path, file: BinaryIO, stamp: Stamp) -> Content:
        data = file.read(SINGLE + 1)
        _check_unchanged(file, stamp, len(data))
        content = Content(hashlib.sha256(data).hexdigest(), len(data))
        self._hashes.learn(path, stamp, content.sha256)
        if not self._inventory.holds(content) and self._claim(content):
            self._put(content, data)
        return content

    def _put(self, content: Content, data: bytes) -> None:
        blob = names.content_blob(content.sha256)
        self._wire.put_blob(self._inventory.container, blob, data)
        self._inventory.add(blob, content.size)
        self._sent.add(content.sha256)

    def _large(self, path: Path, file: BinaryIO, stamp: Stamp, sha256: str | None) -> Content:
        if sha256 is None:
            sha256 = self._sha256(file)
            _check_unchanged(file, stamp, file.tell())
            self._hashes.learn(path, stamp, sha256)
        content = Content(sha256, stamp.size)
        if not self._inventory.holds(content):
            file.seek(0)
            self._send_blocks(file, content)
        return content

    def _send_blocks(self, file: BinaryIO, content: Content) -> None:
        """Blocks go out several at once while this thread reads and hashes on."""
        container, blob = self._inventory.container, names.content_blob(content.sha256)
        size = block_size(content.size)
        digest = hashlib.sha256()
        ids: list[str] = []
        sent = 0
        free = threading.Semaphore(BLOCKS_IN_FLIGHT)
        with _pool(BLOCKS_IN_FLIGHT, "upload-block") as workers:
            pending: list[Future[None]] = []
            for data in self._pieces(file, size):
                free.acquire()
                pending = _unfinished(pending)
                ids.append(block_id(len(ids)))
                future = workers.submit(self._wire.put_block, container, blob, ids[-1], data)
                future.add_done_callback(lambda _: free.release())
                pending.append(future)
                digest.update(data)
                sent += len(data)
            for future in pending:
                future.result()
        if sent != content.size or digest.hexdigest() != content.sha256:
            raise _Changed
        self._wire.put_block_list(container, blob, ids, content.sha256)
        self._inventory.add(blob, content.size)
        self._sent.add(content.sha256)

    def _sha256(self, file: BinaryIO) -> str:
        digest = hashlib.sha256()
        for data in self._pieces(file, MIB):
            digest.update(data)
        return digest.hexdigest()

    def _pieces(self, file: BinaryIO, size: int) -> Iterator[bytes]:
        while data := file.read(size):
            if self._stop.is_set():
                raise _Stopped
            yield data

    def _claim(self, content: Content) -> bool:
        """True once per content: of equal files one is sent."""
        with self._lock:
            if content.sha256 in self._claimed:
                return False
            self._claimed.add(content.sha256)
            return True


def block_size(size: int) -> int:
    """Bytes of one block of a blob of ``size`` bytes: whole MiB, and few enough of them."""
    return max(BLOCK, -(-size // (_MOST_BLOCKS * MIB)) * MIB)


def block_id(number: int) -> str:
    return base64.b64encode(f"{number:08d}".encode()).decode()


def _check_unchanged(file: BinaryIO, stamp: Stamp, read: int) -> None:
    if read != stamp.size or Stamp.of(os.fstat(file.fileno())) != stamp:
        raise _Changed


def _stat(path: Path) -> os.stat_result:
    try:
        return path.stat()
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}") from error


@contextlib.contextmanager
def _opened(path: Path) -> Iterator[BinaryIO]:
    try:
        file = path.open("rb", buffering=0)
    except OSError as error:
        raise ConfigurationError(f"cannot read {path}: {error.strerror}") from error
    with file:
        yield file


@contextlib.contextmanager
def _pool(size: int, name: str) -> Iterator[ThreadPoolExecutor]:
    """Threads that end with the block; on an error or an interrupt what has not begun is dropped."""
    pool = ThreadPoolExecutor(size, thread_name_prefix=name)
    try:
        yield pool
    except BaseException:
        pool.shutdown(wait=True, cancel_futures=True)
        raise
    pool.shutdown()


def _wait_for(futures: Iterable[Future[Content]], report: Callable[[], None]) -> None:
    """Until all are done, or raises the first error."""
    pending = set(futures)
    while pending:
        done, pending = wait(pending, timeout=_REPORT_INTERVAL, return_when=FIRST_EXCEPTION)
        report()
        for future in done:
            future.result()


def _unfinished(futures: Sequence[Future[None]]) -> list[Future[None]]:
    """Those still under way. Raises the error of one that failed."""
    for future in futures:
        if future.done():
            future.result()
    return [future for future in futures if not future.done()]
