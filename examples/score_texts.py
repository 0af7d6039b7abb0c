"""Score very many texts on any number of HTTP endpoints: a second consumer of azbatchwrap.batchkit.

    python examples/score_texts.py TEXTS SCORES http://127.0.0.1:8001 http://127.0.0.1:8002

Each endpoint gets a text by POST and answers JSON. Without endpoints, the words are counted in this process.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from azbatchwrap import batchkit


@dataclass(frozen=True, slots=True, kw_only=True)
class Text(batchkit.WorkItemRequest):
    path: Path


class Scorer(batchkit.WorkItemProcessor[Text]):
    async def process(self, item: Text, endpoint: batchkit.Endpoint) -> batchkit.WorkItemResult:
        answer = await endpoint.request(item.path.read_bytes())
        return batchkit.WorkItemResult(value=answer.json())

    def time_limit(self, item: Text, endpoint: batchkit.Endpoint) -> float:
        return 30.0


class Texts(batchkit.BatchRequest):
    @classmethod
    def is_valid_input_file(cls, path: Path) -> bool:
        return path.suffix == ".txt" and super().is_valid_input_file(path)

    def make_work_items(self) -> Iterator[Text]:
        for path in self.files:
            content = batchkit.file_fingerprint(path)
            yield Text(id=str(path), path=path, fingerprint=content, priority=float(content.partition("-")[0] or -1))

    def get_work_item_processor(self) -> Scorer:
        return Scorer()


def count_words(text: bytes) -> str:
    return json.dumps({"words": len(text.split())})


if __name__ == "__main__":
    if len(sys.argv) < 3:
        sys.exit(__doc__)
    texts, scores, *urls = sys.argv[1:]
    endpoints = [batchkit.EndpointSpec(url, url) for url in urls] or [batchkit.in_process("here", count_words)]
    config = batchkit.BatchConfig(input_folder=Path(texts), output_folder=Path(scores))
    report = batchkit.run(Texts, config, batchkit.RunOptions(endpoints=endpoints))
    print(report.counts)
    sys.exit(report.exit_code)
