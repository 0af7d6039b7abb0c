"""The processes that are measured: ours, and a bare aiohttp loop. As small as the public kit's program beside them."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

#: Names the file in which attempts are noted, where that is asked for.
ATTEMPTS = "BENCH_ATTEMPTS"


def run_ours(config: Path, inputs: Path | None, outputs: Path, count: int, mode: str) -> None:
    """Through `batchkit.run`, as its command line does: over the files of a folder, or over items made on the way."""
    from azbatchwrap import batchkit

    noted = open_noted()

    class Post(batchkit.WorkItemProcessor[batchkit.WorkItemRequest]):
        async def process(self, item: batchkit.WorkItemRequest, endpoint: batchkit.Endpoint) -> Any:
            if noted is not None:
                note_attempt(noted, endpoint.spec.port, item.id)
            answer = await endpoint.request(item.id.encode())
            return batchkit.WorkItemResult(value=answer.status)

    class Files(batchkit.BatchRequest):
        def make_work_items(self) -> Iterator[batchkit.WorkItemRequest]:
            if inputs is None:
                return (batchkit.WorkItemRequest(id=f"/data/inputs/item-{number:07d}.txt") for number in range(count))
            return (batchkit.WorkItemRequest(id=str(path)) for path in self.files)

        def get_work_item_processor(self) -> Post:
            return Post()

    files = [] if inputs is None else None
    kit_config = batchkit.BatchConfig(input_folder=inputs, output_folder=outputs)
    options = batchkit.RunOptions(mode=batchkit.Mode.of(mode), endpoints=config, files=files)
    report = batchkit.run(Files, kit_config, options)
    assert (report.exit_code, report.counts.passed) == (0, count), report


def run_bare(config: Path, inputs: Path) -> None:
    """The loop that one would write in five minutes: no retries, no health, no results on disk."""
    import aiohttp
    import uvloop

    entries = json.loads(config.read_text()).values()
    urls = [entry["url"] for entry in entries for _ in range(entry["concurrency"])]
    names = iter(sorted(path.as_posix() for path in inputs.iterdir()))

    async def main() -> None:
        async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as session:

            async def slot(url: str) -> None:
                for name in names:
                    async with session.post(url, data=name.encode()) as answer:
                        await answer.read()

            await asyncio.gather(*(slot(url) for url in urls))

    uvloop.run(main())


def open_noted() -> int | None:
    path = os.environ.get(ATTEMPTS)
    return None if path is None else os.open(path, os.O_WRONLY | os.O_APPEND)


def note_attempt(noted: int, port: int, item: str) -> None:
    os.write(noted, f"{time.monotonic()} {port} {item}\n".encode())


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("kind", choices=["ours", "bare"])
    parser.add_argument("--config", type=Path, required=True)
    parser.add_argument("--inputs", type=Path)
    parser.add_argument("--outputs", type=Path)
    parser.add_argument("--count", type=int, default=0)
    parser.add_argument("--mode", default="ONESHOT")
    given = parser.parse_args()
    if given.kind == "ours":
        run_ours(given.config, given.inputs, given.outputs, given.count, given.mode)
    else:
        run_bare(given.config, given.inputs)


if __name__ == "__main__":
    main()
