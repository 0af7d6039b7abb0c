"""Files and batches as the OpenAI API knows them, in a folder: one JSON file for each, written beside and renamed."""

from __future__ import annotations

import secrets
import shutil
import time
from pathlib import Path
from typing import Any

import orjson

from azbatchwrap.errors import NotFound

#: States of a batch in which nothing changes any more.
FINAL = frozenset({"failed", "completed", "expired", "cancelled"})


class OpenAIStore:
    """``<folder>/files/<id>.json`` with ``<id>.content``; ``<folder>/batches/<id>.json``, with ``<id>.input`` until its end."""

    def __init__(self, folder: Path) -> None:
        self._files = folder / "files"
        self._batches = folder / "batches"
        for part in (self._files, self._batches):
            part.mkdir(mode=0o700, parents=True, exist_ok=True)

    # Files

    def new_file(self, filename: str, purpose: str, file_id: str | None = None) -> dict[str, Any]:
        """The record of a file whose content goes to `content`; call `save_file` when it is there."""
        return {
            "id": file_id or f"file-{secrets.token_hex(12)}", "object": "file", "bytes": 0,
            "created_at": int(time.time()), "filename": filename, "purpose": purpose, "status": "processed",
        }  # fmt: skip

    def content(self, file_id: str) -> Path:
        return self._files / f"{_safe(file_id, 'file')}.content"

    def save_file(self, record: dict[str, Any]) -> dict[str, Any]:
        _write(self._files / f"{record['id']}.json", record)
        return self.file(record["id"])

    def file(self, file_id: str) -> dict[str, Any]:
        """Raises NotFound."""
        record = _read(self._files / f"{_safe(file_id, 'file')}.json", f"No such File object: {file_id}")
        return record | {"bytes": self.content(file_id).stat().st_size}

    def files(self, purpose: str | None = None) -> list[dict[str, Any]]:
        found = [self.file(path.stem) for path in self._files.glob("*.json")]
        chosen = [one for one in found if purpose in (None, one["purpose"])]
        return sorted(chosen, key=lambda one: one["created_at"], reverse=True)

    def delete_file(self, file_id: str) -> None:
        """Raises NotFound."""
        self.file(file_id)
        self.content(file_id).unlink()
        (self._files / f"{file_id}.json").unlink()

    # Batches

    def add_batch(self, record: dict[str, Any]) -> None:
        """Keeps its own hold on the input, which may be deleted as a file."""
        source, held = self.content(record["input_file_id"]), self.input(record["id"])
        try:
            held.hardlink_to(source)
        except OSError:  # a file system without links
            shutil.copyfile(source, held)
        self.save_batch(record)

    def input(self, batch_id: str) -> Path:
        return self._batches / f"{_safe(batch_id, 'batch')}.input"

    def save_batch(self, record: dict[str, Any]) -> None:
        _write(self._batches / f"{record['id']}.json", record)
        if record["status"] in FINAL:
            self.input(record["id"]).unlink(missing_ok=True)

    def batch(self, batch_id: str) -> dict[str, Any]:
        """Raises NotFound."""
        return _read(self._batches / f"{_safe(batch_id, 'batch')}.json", f"No batch found with id '{batch_id}'.")

    def batches(self) -> list[dict[str, Any]]:
        found = [_read(path, "") for path in self._batches.glob("*.json")]
        return sorted(found, key=lambda one: (one["created_at"], one["id"]), reverse=True)


def _safe(id_: str, kind: str) -> str:
    if not id_.replace("-", "").replace("_", "").isalnum() or not id_.isascii():
        raise NotFound(f"No such {kind} object: {id_}", status=404)
    return id_


def _write(path: Path, record: dict[str, Any]) -> None:
    beside = path.with_suffix(f".{secrets.token_hex(4)}.new")
    beside.write_bytes(orjson.dumps(record))
    beside.replace(path)


def _read(path: Path, message: str) -> dict[str, Any]:
    try:
        record: dict[str, Any] = orjson.loads(path.read_bytes())
    except FileNotFoundError as error:
        raise NotFound(message, status=404) from error
    return record
