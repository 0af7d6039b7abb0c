"""From lines of a file to messages in a queue."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from itertools import islice
from typing import IO

from azbatchwrap.processor.message import SIZE_LIMIT, Reader
from azbatchwrap.queues import Item, Put, Queue, Refused

#: Lines stored in one call.
BATCH = 500
#: Faults that are told one by one; the rest are only counted.
FAULTS_TOLD = 100


@dataclass(slots=True)
class Submission:
    """What became of the lines. ``faults`` names the line number of each that was not stored."""

    stored: int = 0
    same: int = 0
    conflicts: int = 0
    invalid: int = 0
    faults: list[str] = field(default_factory=list)

    @property
    def complete(self) -> bool:
        return not (self.conflicts or self.invalid)

    def fault(self, number: int, text: str) -> None:
        if len(self.faults) < FAULTS_TOLD:
            self.faults.append(f"line {number}: {text}")


async def submit(queue: Queue, lines: Iterable[tuple[int, bytes]], reader: Reader) -> Submission:
    """Put each line's request into ``queue``. Lines that are none are kept as dead letters and answered, if they can
    be: by id with INVALID_REQUEST.
    """
    report = Submission()
    source = iter(lines)
    while batch := list(islice(source, BATCH)):
        read = [(number, reader(raw)) for number, raw in batch]
        items = [(number, one) for number, one in read if isinstance(one, Item)]
        refused = [(number, one) for number, one in read if isinstance(one, Refused)]
        for (number, item), answer in zip(items, await queue.put([item for _, item in items]), strict=True):
            _count(report, number, item, answer)
        if refused:
            await queue.refuse([one for _, one in refused])
        for number, bad in refused:
            report.invalid += 1
            report.fault(number, f"{bad.reason} (kept as {bad.id})")
    return report


def _count(report: Submission, number: int, item: Item, answer: Put) -> None:
    if answer is Put.STORED:
        report.stored += 1
    elif answer is Put.SAME:
        report.same += 1
    else:
        report.conflicts += 1
        report.fault(number, f"the id {item.id!r} is taken by another body")


def numbered_lines(stream: IO[bytes], limit: int = SIZE_LIMIT) -> Iterator[tuple[int, bytes]]:
    """Lines with their numbers from 1, blank ones left out. Of a line beyond ``limit`` only the beginning is kept,
    one byte more than allowed.
    """
    number = 0
    while line := stream.readline(limit + 2):
        number += 1
        whole = line
        while not line.endswith(b"\n") and (line := stream.readline(1 << 20)):
            pass
        if text := whole.strip():
            yield number, text[: limit + 1]
