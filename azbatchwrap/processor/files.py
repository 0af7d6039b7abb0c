"""OpenAI batch files: requests in, an output file and an error file that grow as results come, each line once.

Source of the formats: https://platform.openai.com/docs/guides/batch and its API reference.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, Any

import orjson

from azbatchwrap.errors import ManifestError
from azbatchwrap.processor.message import InvalidRequest, Reader, one_line
from azbatchwrap.processor.submit import numbered_lines
from azbatchwrap.queues import Code, Item, Result

#: Limits of the service whose format this is.
LINES_LIMIT = 50_000
FILE_LIMIT = 200 * 1024 * 1024
#: Faults of a file that are told.
FAULTS_TOLD = 100
#: What a line says whose request ended otherwise than by an answer.
_ERRORS = {
    Code.DEADLINE_EXCEEDED: ("batch_expired", "This request could not be executed before the completion window expired."),
    Code.CANCELLED: ("batch_cancelled", "This request was cancelled before it was executed."),
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class BatchFile:
    """A readable batch file: its requests under the ids ``<prefix><custom_id>``, all with the same deadline."""

    path: Path
    prefix: str
    deadline: float
    endpoint: str | None = None

    def items(self) -> Iterator[Item]:
        """The requests. Raises ManifestError with every fault (line number, what is wrong) before the first one."""
        self.check()
        for _, item in self._read([]):
            yield item

    def check(self) -> int:
        """Number of requests. Raises ManifestError."""
        faults: list[str] = []
        seen: set[str] = set()
        count = 0
        if self.path.stat().st_size > FILE_LIMIT:
            raise ManifestError(f"the batch file has more than {FILE_LIMIT} bytes")
        for number, item in self._read(faults):
            count += 1
            if item.id in seen:
                faults.append(f"line {number}: the custom_id {item.id.removeprefix(self.prefix)!r} is there twice")
            seen.add(item.id)
            if count > LINES_LIMIT:
                raise ManifestError(f"the batch file has more than {LINES_LIMIT} lines")
        if not count and not faults:
            faults.append("it has no requests")
        if faults:
            raise ManifestError("the batch file cannot be run:", faults[:FAULTS_TOLD])
        return count

    def _read(self, faults: list[str]) -> Iterator[tuple[int, Item]]:
        reader = Reader()
        with self.path.open("rb") as file:
            for number, raw in numbered_lines(file):
                try:
                    yield number, self._item(reader, raw)
                except InvalidRequest as error:
                    faults.append(f"line {number}: {error}")

    def _item(self, reader: Reader, raw: bytes) -> Item:
        try:
            facts = orjson.loads(raw)
        except orjson.JSONDecodeError as error:
            raise InvalidRequest(f"it is no JSON: {error}") from error
        if not isinstance(facts, dict) or not isinstance(facts.get("custom_id"), str):
            raise InvalidRequest("it has no custom_id")
        if self.endpoint is not None and facts.get("url") != self.endpoint:
            raise InvalidRequest(f"its url is not {self.endpoint}, the endpoint of the batch")
        facts |= {"custom_id": self.prefix + facts["custom_id"], "deadline": self.deadline}
        return reader.item(facts)


@dataclass(slots=True)
class BatchOutput:
    """The output file and the error file of a batch, with the ids that are in them. Goes on where it stopped."""

    output: Path
    errors: Path
    prefix: str
    done: set[str] = field(default_factory=set)
    completed: int = 0
    failed: int = 0
    expired: int = 0
    cancelled: int = 0

    def load(self) -> None:
        """Read what is there already; half a line at the end of a file, left by a crash, is cut off."""
        for path in (self.output, self.errors):
            if path.exists():
                with path.open("r+b") as file:
                    for line in _whole_lines(file):
                        self._count(orjson.loads(line))

    def add(self, results: Iterable[Result]) -> int:
        """Append those that belong here and are not there yet; returns how many."""
        lines: dict[Path, list[bytes]] = {self.output: [], self.errors: []}
        added = 0
        for result in results:
            custom_id = result.id.removeprefix(self.prefix)
            if not result.id.startswith(self.prefix) or custom_id in self.done:
                continue
            facts = batch_line(result, custom_id)
            lines[self.output if result.code is Code.OK else self.errors].append(orjson.dumps(facts) + b"\n")
            self._count(facts)
            added += 1
        for path, new in lines.items():
            if new:
                with path.open("ab") as file:
                    file.writelines(new)
                    file.flush()
                    os.fsync(file.fileno())
        return added

    def _count(self, facts: dict[str, Any]) -> None:
        self.done.add(facts["custom_id"])
        error = (facts["error"] or {}).get("code")
        if error is None and facts["response"]["status_code"] < 300:
            self.completed += 1
        else:
            self.failed += 1
            self.expired += error == "batch_expired"
            self.cancelled += error == "batch_cancelled"


def batch_line(result: Result, custom_id: str) -> dict[str, Any]:
    """One line of an output or error file."""
    line: dict[str, Any] = {
        "id": f"batch_req_{result.id}", "custom_id": custom_id, "response": None, "error": None,
    }  # fmt: skip
    answered = result.code in {Code.OK, Code.INFERENCE_ERROR} and result.payload and result.status is not None
    if answered:
        body = orjson.Fragment(one_line(result.payload))
        line["response"] = {"status_code": result.status, "request_id": result.id, "body": body}
    else:
        code, message = _ERRORS.get(result.code, (result.code.value.lower(), result.error))
        line["error"] = {"code": code, "message": message}
    return line


def _whole_lines(file: IO[bytes]) -> Iterator[bytes]:
    end = 0
    for line in file:
        if not line.endswith(b"\n"):
            file.truncate(end)
            return
        end += len(line)
        yield line
