"""Batches under way: puts their requests into the queue, and their results into files as they come."""

from __future__ import annotations

import asyncio
import logging
import secrets
import time
from collections.abc import Sequence
from typing import Any

from azbatchwrap.errors import AzBatchWrapError, ManifestError
from azbatchwrap.processor.files import BatchFile, BatchOutput
from azbatchwrap.processor.openai_store import FINAL, OpenAIStore
from azbatchwrap.queues import Item, Queue

log = logging.getLogger(__name__)

#: Between looks for new results (seconds), and results read in one look.
LOOK_INTERVAL = 0.2
PAGE = 500
#: Completion windows: a number and its unit.
_UNITS = {"s": 1, "m": 60, "h": 3_600, "d": 86_400}
_LONGEST_WINDOW = 30 * 86_400
#: Limits of a batch's metadata, as OpenAI has them: pairs, characters of a key and of a value.
_PAIRS, _KEY_LENGTH, _VALUE_LENGTH = 16, 64, 512


class InvalidBatch(ValueError):
    """A batch cannot be made; ``param`` names the argument to blame."""

    def __init__(self, message: str, param: str) -> None:
        super().__init__(message)
        self.param = param


class Batches:
    """All batches of ``store`` on ``queue``. Call `follow` as a task: it is what moves them on."""

    def __init__(self, store: OpenAIStore, queue: Queue) -> None:
        self.store, self._queue = store, queue
        self._outputs: dict[str, BatchOutput] = {}
        self._cursor = ""

    def create(self, input_file_id: str, endpoint: str, window: str, metadata: Any) -> dict[str, Any]:
        """Raises InvalidBatch, or NotFound for the file."""
        seconds = _seconds(window)
        file = self.store.file(input_file_id)
        if file["purpose"] != "batch":
            raise InvalidBatch(f"the purpose of {input_file_id} is not 'batch'", "input_file_id")
        if not endpoint.startswith("/v1/"):
            raise InvalidBatch(f"the endpoint {endpoint!r} does not begin with /v1/", "endpoint")
        _check_metadata(metadata)
        now = int(time.time())
        times = ("in_progress", "finalizing", "completed", "failed", "expired", "cancelling", "cancelled")
        record = {
            "id": f"batch_{secrets.token_hex(12)}", "object": "batch", "endpoint": endpoint, "errors": None,
            "input_file_id": input_file_id, "completion_window": window, "status": "validating",
            "output_file_id": None, "error_file_id": None, "created_at": now, "expires_at": now + seconds,
            **{f"{name}_at": None for name in times},
            "request_counts": {"total": 0, "completed": 0, "failed": 0}, "metadata": metadata,
        }  # fmt: skip
        self.store.add_batch(record)
        return record

    async def cancel(self, batch_id: str) -> dict[str, Any]:
        """Raises NotFound."""
        record = self.store.batch(batch_id)
        if record["status"] not in FINAL | {"cancelling"}:
            record |= {"status": "cancelling", "cancelling_at": int(time.time())}
            self.store.save_batch(record)
        return record

    async def follow(self) -> None:
        """Move all batches on until cancelled."""
        while True:
            try:
                active = [record for record in self.store.batches() if record["status"] not in FINAL]
                for record in active:
                    await self._begin(record)
                if active:
                    await self._collect(active)
            except (AzBatchWrapError, OSError) as error:  # the queue or the disk: both may come back
                log.warning("batches: %s", error)
            await asyncio.sleep(LOOK_INTERVAL)

    async def _begin(self, record: dict[str, Any]) -> None:
        """Validate a new batch and put its requests; carry out a cancellation."""
        if record["status"] == "validating":
            await self._validate(record)
        elif record["status"] == "cancelling":
            await self._cancel_requests(record)
        elif record["status"] == "in_progress" and record["id"] not in self._outputs:
            # Begun by a process that is gone: what it had put is known by its ids.
            self._open_output(record)
            await self._put(record)

    async def _cancel_requests(self, record: dict[str, Any]) -> None:
        if record["id"] not in self._outputs:
            self._open_output(record)
        if record["request_counts"]["total"]:  # otherwise nothing was put yet
            done = self._outputs[record["id"]].done
            ids = [item.id for item in self._file(record).items()]
            await self._queue.cancel([id_ for id_ in ids if id_.partition(":")[2] not in done])

    async def _validate(self, record: dict[str, Any]) -> None:
        try:
            total = await asyncio.to_thread(self._file(record).check)
        except ManifestError as error:
            faults = [{"code": "invalid_request", "message": one, "param": None, "line": None} for one in error.faults]
            faults = faults or [{"code": "invalid_file", "message": str(error), "param": None, "line": None}]
            now = int(time.time())
            record |= {"status": "failed", "failed_at": now, "errors": {"object": "list", "data": faults}}
            self.store.save_batch(record)
            return
        record["request_counts"]["total"] = total
        record |= {"status": "in_progress", "in_progress_at": int(time.time())}
        self._open_output(record)
        await self._put(record)
        self.store.save_batch(record)

    async def _put(self, record: dict[str, Any]) -> None:
        batch: list[Item] = []
        for item in self._file(record).items():
            batch.append(item)
            if len(batch) >= PAGE:
                await self._queue.put(batch)
                batch = []
        await self._queue.put(batch)

    def _file(self, record: dict[str, Any]) -> BatchFile:
        return BatchFile(self.store.input(record["id"]), f"{record['id']}:", record["expires_at"], record["endpoint"])

    def _open_output(self, record: dict[str, Any]) -> None:
        batch_id = record["id"]
        paths = [self.store.content(file_id) for file_id in _file_ids(batch_id)]
        output = self._outputs[batch_id] = BatchOutput(paths[0], paths[1], f"{batch_id}:")
        output.load()
        self._cursor = ""

    async def _collect(self, active: Sequence[dict[str, Any]]) -> None:
        while (page := await self._queue.results(self._cursor, PAGE)).results:
            self._cursor = page.cursor
            for output in self._outputs.values():
                await asyncio.to_thread(output.add, page.results)
        for record in active:
            if record["id"] in self._outputs:
                self._update(record, self._outputs[record["id"]])

    def _update(self, record: dict[str, Any], output: BatchOutput) -> None:
        before = dict(record)
        counts = {**record["request_counts"], "completed": output.completed, "failed": output.failed}
        record["request_counts"] = counts
        for key, file_id, path in zip(
            ("output_file_id", "error_file_id"), _file_ids(record["id"]), (output.output, output.errors), strict=True
        ):
            if record[key] is None and path.exists():
                self.store.save_file(self.store.new_file(f"{file_id}.jsonl", "batch_output", file_id))
                record[key] = file_id
        if len(output.done) >= counts["total"]:
            now = int(time.time())
            ended = "cancelled" if record["status"] == "cancelling" else "expired" if output.expired else "completed"
            record |= {"status": ended, "finalizing_at": now, f"{ended}_at": now}
            del self._outputs[record["id"]]
        if record != before:
            self.store.save_batch(self._unless_cancelled(record))

    def _unless_cancelled(self, record: dict[str, Any]) -> dict[str, Any]:
        """Somebody may have asked for the end while results were collected."""
        stored = self.store.batch(record["id"])
        if stored["status"] == "cancelling" and record["status"] == "in_progress":
            record |= {"status": "cancelling", "cancelling_at": stored["cancelling_at"]}
        return record


def _file_ids(batch_id: str) -> tuple[str, str]:
    number = batch_id.partition("_")[2]
    return f"file-{number}-output", f"file-{number}-errors"


def _seconds(window: str) -> int:
    number, unit = window[:-1], window[-1:]
    if not number.isdecimal() or unit not in _UNITS or not 0 < int(number) * _UNITS[unit] <= _LONGEST_WINDOW:
        raise InvalidBatch(f"the completion window {window!r} is none such as 24h", "completion_window")
    return int(number) * _UNITS[unit]


def _check_metadata(metadata: Any) -> None:
    pairs = metadata.items() if isinstance(metadata, dict) else [] if metadata is None else [(metadata, None)]
    good = all(
        isinstance(value, str) and len(key) <= _KEY_LENGTH and len(value) <= _VALUE_LENGTH for key, value in pairs
    )
    if not good or len(pairs) > _PAIRS:
        limits = f"{_PAIRS} pairs of text, up to {_KEY_LENGTH} characters to one of up to {_VALUE_LENGTH}"
        raise InvalidBatch(f"the metadata may have {limits}", "metadata")
