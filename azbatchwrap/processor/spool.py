"""Results that their queue cannot take now wait here: a file of this worker, on the disk before anything else happens.

After a crash the next worker on this machine takes the file over and offers the results again, with the tokens under
which they were made: the queue refuses those that have been done anew since.
"""

from __future__ import annotations

import base64
import fcntl
import hashlib
import os
import secrets
from collections.abc import Sequence
from io import BufferedIOBase, FileIO
from pathlib import Path
from typing import Any

import orjson

from azbatchwrap.queues import Claim, Code, Result


class Spool:
    """The files of the queue ``name`` in ``folder``. One worker writes to one file, under a lock."""

    def __init__(self, folder: Path, name: str) -> None:
        self._folder = folder
        self._stem = hashlib.sha256(name.encode()).hexdigest()[:16]
        #: Without a buffer: what it has taken is in the file.
        self._file: FileIO | None = None

    def adopt(self) -> list[tuple[Claim, Result]]:
        """What workers that are gone have left; it is in this worker's file from now on."""
        found: list[tuple[Claim, Result]] = []
        for path in sorted(self._folder.glob(f"{self._stem}-*.jsonl")):
            with path.open("rb") as file:
                if not _locked(file):
                    continue
                found += [ending for line in file if (ending := _read(line)) is not None]
                if found:
                    self.write(found)
                path.unlink()
        return found

    def write(self, endings: Sequence[tuple[Claim, Result]]) -> int:
        """Keep ``endings`` until `clear`; how many of them, from the first on, there was room for.

        Raises OSError where no file can be made.
        """
        file = self._file = self._file or self._opened()
        kept = 0
        for claim, result in endings:
            line, end = _line(claim, result), file.tell()
            try:
                whole = file.write(line) == len(line)
            except OSError:
                break
            if not whole:
                file.seek(end)
                file.truncate()
                break
            kept += 1
        os.fsync(file.fileno())
        return kept

    def _opened(self) -> FileIO:
        self._folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        path = self._folder / f"{self._stem}-{os.getpid()}-{secrets.token_hex(4)}.jsonl"
        file = FileIO(path, "x")
        _locked(file)
        return file

    def clear(self) -> None:
        """The queue has all of them."""
        if self._file is not None:
            Path(str(self._file.name)).unlink(missing_ok=True)
            self._file.close()
            self._file = None


def _locked(file: FileIO | BufferedIOBase) -> bool:
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _line(claim: Claim, result: Result) -> bytes:
    facts: dict[str, Any] = {
        "id": claim.id, "token": claim.token, "code": result.code.value, "status": result.status,
        "attempts": result.attempts, "error": result.error, "finished": result.finished,
        "payload": base64.b64encode(result.payload).decode(),
    }  # fmt: skip
    return orjson.dumps(facts) + b"\n"


def _read(line: bytes) -> tuple[Claim, Result] | None:
    """``None`` for a line whose writer died while it wrote."""
    try:
        facts = orjson.loads(line)
    except orjson.JSONDecodeError:
        return None
    claim = Claim(facts["id"], b"", b"", 0.0, facts["token"])
    return claim, Result(
        facts["id"], Code(facts["code"]), facts["status"], facts["attempts"], facts["error"],
        base64.b64decode(facts["payload"]), facts["finished"],
    )  # fmt: skip
