"""The front door of the framework."""

from __future__ import annotations

from azbatchwrap import batchkit, endpoints

SEED = {
    "WorkItemRequest", "WorkItemResult", "WorkItemProcessor", "BatchRequest", "BatchConfig", "BatchRunSummarizer",
    "EndpointStatusChecker",
}  # fmt: skip


def test_every_name_is_there_once() -> None:
    for module in (batchkit, endpoints):
        assert len(set(module.__all__)) == len(module.__all__)
        assert all(hasattr(module, name) for name in module.__all__)


def test_the_seven_types_have_their_first_names() -> None:
    assert set(batchkit.__all__) >= SEED


def test_the_readmes_modes_are_known_in_any_case() -> None:
    assert batchkit.Mode.of("apiserver") is batchkit.Mode.of("REST") is batchkit.Mode.REST
    assert batchkit.Mode.of("OneShot") is batchkit.Mode.ONESHOT
