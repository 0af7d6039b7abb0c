"""Code that was written for the public batchkit 0.10 is told what to change, where it is defined."""

from __future__ import annotations

import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from azbatchwrap import batchkit
from azbatchwrap.batchkit.registry import load_batch_type
from azbatchwrap.errors import ConfigurationError


def processor() -> type:
    class Post(batchkit.WorkItemProcessor[Any]):
        def work_item_types(self) -> list[type]:
            return [batchkit.WorkItemRequest]

        def process_impl(self, work_item: Any, endpoint_config: Any, *rest: Any) -> Any: ...

    return Post


def checker() -> type:
    class Healthy(batchkit.EndpointStatusChecker):
        def check_endpoint(self, host: str, port: int, is_secure: bool, is_cloud_service: bool) -> bool:
            return True

    return Healthy


def summarizer() -> type:
    class Counting(batchkit.BatchRunSummarizer):
        def run_summary(self, snap_work_results: Any, *rest: Any) -> dict[str, Any]:
            return {}

    return Counting


def item() -> type:
    class Long(batchkit.WorkItemRequest):
        def priority(self) -> int:  # type: ignore[override]
            return 7

    return Long


def config() -> type:
    class Config(batchkit.BatchConfig):
        @staticmethod
        def from_args(args: Any) -> Any: ...

    return Config


def request_json() -> type:
    class Files(batchkit.BatchRequest):
        @staticmethod
        def from_json(json: Any) -> Any: ...  # type: ignore[override]

    return Files


def request_items() -> type:
    class Files(batchkit.BatchRequest):
        def make_work_items(self, output_dir: str, cache_search_dirs: Any, log_dir: str) -> Any: ...

    return Files


@pytest.mark.parametrize(
    ("define", "said"),
    [
        (processor, r"Post\.process_impl .* Here: process\(self, item, endpoint\)"),
        (checker, r"Healthy\.check_endpoint .* Here: async def check\(self, endpoint\)"),
        (summarizer, r"Counting\.run_summary .* Here: add"),
        (item, r"Long\.priority .* Here: a field"),
        (config, r"Config\.from_args .* Here: a class method"),
        (request_json, r"Files\.from_json .* Here: a class method"),
        (request_items, r"Files\.make_work_items .* Here: make_work_items\(self\)"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_what_would_be_passed_over_in_silence_is_refused(define: Callable[[], type], said: str) -> None:
    with pytest.raises(TypeError, match=said):
        define()


def test_a_whole_module_of_the_public_kit_is_refused_in_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The benchmark's program for the public kit, with our types under the names of its modules."""
    for name in ("client", "batch_config", "batch_request", "endpoint_status", "run_summarizer", "work_item"):
        monkeypatch.setitem(sys.modules, f"batchkit.{name}", _with_our_types(f"batchkit.{name}"))
    monkeypatch.setitem(sys.modules, "batchkit.work_item_processor", _with_our_types("batchkit.work_item_processor"))
    package = _with_our_types("batchkit")
    package.client = sys.modules["batchkit.client"]  # type: ignore[attr-defined]
    monkeypatch.setitem(sys.modules, "batchkit", package)
    source = Path(__file__).parents[2] / "bench" / "public_kit" / "batch_request.py"
    (tmp_path / "old_consumer.py").write_text(source.read_text())
    with pytest.raises(ConfigurationError, match=r"cannot be loaded: TypeError: Post\.process_impl"):
        load_batch_type(f"{tmp_path / 'old_consumer.py'}:Files")


def _with_our_types(name: str) -> ModuleType:
    made = ModuleType(name)
    vars(made).update({each: getattr(batchkit, each) for each in batchkit.__all__})
    return made
