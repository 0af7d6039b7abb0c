"""The work of the stress test: each line of a file is an item that says how it goes wrong."""

from __future__ import annotations

import os
import random
import signal
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass

from azbatchwrap import batchkit
from azbatchwrap.backoff import Backoff
from azbatchwrap.errors import EndpointDown, ServiceError


@dataclass(frozen=True, slots=True, kw_only=True)
class Word(batchkit.WorkItemRequest):
    kind: str


class Try(batchkit.WorkItemProcessor[Word]):
    """Runs in worker processes, as the public kit's items do."""

    isolation = batchkit.Isolation.PROCESS
    backoff = Backoff(attempts=10, base=0.05, cap=2.0)

    def process(self, item: Word, endpoint: batchkit.Endpoint) -> batchkit.WorkItemResult:
        if item.kind == "crash":
            os.kill(os.getpid(), signal.SIGSEGV)
        if item.kind == "hang":
            time.sleep(3600)
        if item.kind == "oserror" and random.random() < 0.2:
            raise OSError("this process cannot")
        return batchkit.WorkItemResult(value=ask(endpoint.url, item.id.encode()))

    def time_limit(self, item: Word, endpoint: batchkit.Endpoint) -> float:
        return 0.2 if item.kind == "hang" else 30.0


def ask(url: str, body: bytes) -> str:
    request = urllib.request.Request(url, data=body, method="POST")
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.read().decode()
    except urllib.error.HTTPError as error:
        raise ServiceError(f"answered {error.code}", status=error.code) from None
    except urllib.error.URLError as error:
        raise EndpointDown(str(error.reason), sent=not isinstance(error.reason, ConnectionRefusedError)) from None


class Mixed(batchkit.BatchRequest):
    def make_work_items(self) -> Iterator[Word]:
        for path in self.files:
            for line in path.read_text().splitlines():
                yield Word(id=line, kind=line.split()[0])

    def get_work_item_processor(self) -> Try:
        return Try()
