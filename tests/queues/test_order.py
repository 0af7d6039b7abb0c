"""Queues that keep an order: priority, then deadline, then arrival."""

from __future__ import annotations

import pytest

from tests.queues.conftest import Store, item


@pytest.mark.parametrize("store", ["sqlite", "redis"], indirect=True)
async def test_priority_goes_before_deadline(store: Store) -> None:
    queue = await store.worker()
    await queue.put([
        item("late", seconds=500), item("early", seconds=100), item("never", seconds=10_000_000_000),
        item("urgent", seconds=900, priority=2), item("background", seconds=50, priority=-1),
    ])  # fmt: skip
    claims = await queue.claim(10, 30)
    assert [claim.id for claim in claims] == ["urgent", "early", "late", "never", "background"]
