"""Autoscaling over the wire; the formula language has its own tests."""

from __future__ import annotations

import datetime as dt

import pytest
from azure.batch import BatchClient, models
from azure.core.exceptions import HttpResponseError, ResourceExistsError

from tests.local.batch.conftest import add_pool
from tests.waiting import wait_until


def enable(client: BatchClient, pool_id: str, formula: str) -> None:
    interval = dt.timedelta(minutes=6)
    client.enable_pool_auto_scale(
        pool_id,
        models.BatchPoolEnableAutoScaleOptions(auto_scale_formula=formula, auto_scale_evaluation_interval=interval),
    )


def test_enabling_evaluates_at_once(client: BatchClient) -> None:
    pool_id = add_pool(client, nodes=0)

    enable(client, pool_id, "$TargetDedicatedNodes = 2;")

    wait_until(lambda: client.get_pool(pool_id).current_dedicated_nodes == 2)
    pool = client.get_pool(pool_id)
    assert pool.enable_auto_scale
    assert pool.auto_scale_evaluation_interval == dt.timedelta(minutes=6)
    expected = "$TargetDedicatedNodes=2;$TargetLowPriorityNodes=0;$NodeDeallocationOption=requeue"
    assert pool.auto_scale_run.results == expected
    tried = client.evaluate_pool_auto_scale(
        pool_id, models.BatchPoolEvaluateAutoScaleOptions(auto_scale_formula="$TargetDedicatedNodes=3")
    )
    assert tried.results.startswith("$TargetDedicatedNodes=3;")
    assert client.get_pool(pool_id).target_dedicated_nodes == 2
    with pytest.raises(ResourceExistsError):
        client.begin_resize_pool(pool_id, models.BatchPoolResizeOptions(target_dedicated_nodes=1))

    client.disable_pool_auto_scale(pool_id)

    pool = client.get_pool(pool_id)
    assert (pool.enable_auto_scale, pool.auto_scale_formula, pool.auto_scale_run) == (False, None, None)
    assert pool.current_dedicated_nodes == 2


def test_a_pool_may_be_made_with_a_formula(client: BatchClient) -> None:
    pool_id = add_pool(
        client,
        nodes=None,
        target_dedicated_nodes=None,
        enable_auto_scale=True,
        auto_scale_formula="$TargetDedicatedNodes = 1; $NodeDeallocationOption = taskcompletion;",
    )
    wait_until(lambda: client.get_pool(pool_id).current_dedicated_nodes == 1)


def test_a_formula_with_a_fault_is_refused(client: BatchClient) -> None:
    pool_id = add_pool(client, nodes=0)
    with pytest.raises(HttpResponseError) as refused:
        enable(client, pool_id, "$TargetDedicatedNodes = ;")
    assert refused.value.status_code == 400
    assert client.get_pool(pool_id).enable_auto_scale is False
