"""A consumer for the tests: items are lines or files, sent to the endpoint as they are. Run by path from the CLI."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from azbatchwrap import batchkit
from azbatchwrap.backoff import Backoff

QUICK = Backoff(attempts=6, base=0.01, cap=0.1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Word(batchkit.WorkItemRequest):
    text: str


class Send(batchkit.WorkItemProcessor[Word]):
    """Sends the word and keeps the answer."""

    backoff = QUICK

    def __init__(self, limit: float = 30.0) -> None:
        self._limit = limit

    async def process(self, item: Word, endpoint: batchkit.Endpoint) -> batchkit.WorkItemResult:
        answer = await endpoint.request(item.text.encode(), path="/work")
        return batchkit.WorkItemResult(value=answer.json())

    def time_limit(self, item: Word, endpoint: batchkit.Endpoint) -> float:
        return self._limit


class Words(batchkit.BatchRequest):
    """One item per line of each file; or, made in a test, the words it is given."""

    words: Any = ()
    processor: Any = None

    def make_work_items(self) -> Iterator[Word]:
        for word in self.words:
            yield word if isinstance(word, Word) else Word(id=word, text=word)
        for path in self.files:
            for line in path.read_text().splitlines():
                yield Word(id=f"{path.name}:{line}", text=line, fingerprint=batchkit.file_fingerprint(path))

    def get_work_item_processor(self) -> Any:
        return self.processor or Send()


class WholeFiles(batchkit.BatchRequest):
    """One item per file; the endpoint gets its content."""

    def make_work_items(self) -> Iterator[Word]:
        for path in self.files:
            yield Word(id=path.name, text=path.read_text())

    def get_work_item_processor(self) -> Send:
        return Send()


class Crash(batchkit.WorkItemProcessor[Word]):
    """Does in a worker process what the word says."""

    isolation = batchkit.Isolation.PROCESS
    backoff = QUICK

    def process(self, item: Word, endpoint: batchkit.Endpoint) -> batchkit.WorkItemResult:
        if item.text == "die":
            os.kill(os.getpid(), signal.SIGKILL)
        if item.text == "hang":
            time.sleep(3600)
        if item.text == "exit":
            raise SystemExit(3)
        if item.text == "odd error":
            raise OddError("a", "b")
        return batchkit.WorkItemResult(value={"pid": os.getpid(), "url": endpoint.url})

    def time_limit(self, item: Word, endpoint: batchkit.Endpoint) -> float:
        return 0.5 if item.text == "hang" else 30.0


class OddError(Exception):
    """Pickles, but does not unpickle."""

    def __init__(self, first: str, second: str) -> None:
        super().__init__(first + second)


def batch_of(words: Any, processor: Any = None, folder: Path | None = None) -> Words:
    """A batch of these words."""
    batch = Words([], batchkit.BatchConfig(output_folder=folder or Path()))
    batch.words = words
    batch.processor = processor
    return batch
