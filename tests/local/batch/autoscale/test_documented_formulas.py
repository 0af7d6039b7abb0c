"""The sample formulas of the product's public documentation, with the targets they come to worked out by hand."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta, timezone

import pytest

from azbatchwrap.local.batch import autoscale

#: What the documentation ends most formulas with.
KEEP_TASKS = "$NodeDeallocationOption = taskcompletion;"

PENDING_TASKS = f"""
startingNumberOfVMs = 1;
maxNumberofVMs = 25;
pendingTaskSamplePercent = $PendingTasks.GetSamplePercent(180 * TimeInterval_Second);
pendingTaskSamples = pendingTaskSamplePercent < 70 ? startingNumberOfVMs
    : avg($PendingTasks.GetSample(180 * TimeInterval_Second));
$TargetDedicatedNodes=min(maxNumberofVMs, pendingTaskSamples);
{KEEP_TASKS}
"""
PREEMPTED_NODES = f"""
maxNumberofVMs = 25;
$TargetDedicatedNodes = min(maxNumberofVMs, $PreemptedNodeCount.GetSample(180 * TimeInterval_Second));
$TargetLowPriorityNodes = min(maxNumberofVMs , maxNumberofVMs - $TargetDedicatedNodes);
{KEEP_TASKS}
"""
CPU = f"""
$totalDedicatedNodes =
    (min($CPUPercent.GetSample(TimeInterval_Minute * 10)) > 0.7) ?
    ($CurrentDedicatedNodes * 1.1) : $CurrentDedicatedNodes;
$totalDedicatedNodes =
    (avg($CPUPercent.GetSample(TimeInterval_Minute * 60)) < 0.2) ?
    ($CurrentDedicatedNodes * 0.9) : $totalDedicatedNodes;
$TargetDedicatedNodes = min(400, $totalDedicatedNodes);
{KEEP_TASKS}
"""
WORKING_HOURS = f"""
$curTime = time();
$workHours = $curTime.hour >= 8 && $curTime.hour < 18;
$isWeekday = $curTime.weekday >= 1 && $curTime.weekday <= 5;
$isWorkingWeekdayHour = $workHours && $isWeekday;
$TargetDedicatedNodes = $isWorkingWeekdayHour ? 20:10;
{KEEP_TASKS}
"""
TASKS = f"""
// How much of the last quarter of an hour is known?
$samples = $PendingTasks.GetSamplePercent(TimeInterval_Minute * 15);
// Too little: look at the newest sample only.
$tasks = $samples < 70 ? max(0,$PendingTasks.GetSample(1)) : max( $PendingTasks.GetSample(1),
    avg($PendingTasks.GetSample(TimeInterval_Minute * 15)));
// Nothing to do halves the pool.
$targetVMs = $tasks > 0? $tasks:max(0, $TargetDedicatedNodes/2);
/* Never more than twenty. */
$TargetDedicatedNodes = max(0, min($targetVMs, 20));
{KEEP_TASKS}
"""
PARALLEL_TASKS = f"""
$samples = $ActiveTasks.GetSamplePercent(TimeInterval_Minute * 15);
$tasks = $samples < 70 ? max(0,$ActiveTasks.GetSample(1)) : max( $ActiveTasks.GetSample(1),avg($ActiveTasks.GetSample(TimeInterval_Minute * 15)));
// four slots on each node
$cores = $TargetDedicatedNodes * 4;
$extraVMs = (($tasks - $cores) + 3) / 4;
$targetVMs = ($TargetDedicatedNodes + $extraVMs);
$TargetDedicatedNodes = max(0,min($targetVMs,3));
{KEEP_TASKS}
"""
INITIAL_SIZE = """
    $TargetDedicatedNodes = 4;
    lifespan         = time() - time("{made:%a, %d %b %Y %H:%M:%S} GMT");
    span             = TimeInterval_Minute * 60;
    startup          = TimeInterval_Minute * 10;
    ratio            = 50;

    $TargetDedicatedNodes = (lifespan > startup ? (max($RunningTasks.GetSample(span, ratio), $ActiveTasks.GetSample(span, ratio)) == 0 ? 0 : $TargetDedicatedNodes) : 4);
"""
REFERENCE_EXAMPLE = (
    "totalNodes=($CPUPercent.GetSamplePercent(TimeInterval_Minute*0,TimeInterval_Minute*10)<0.7?5:"
    "(min($CPUPercent.GetSample(TimeInterval_Minute*0, TimeInterval_Minute*10))>0.8?"
    "($CurrentDedicated*1.1):$CurrentDedicated));$TargetDedicated=min(100,totalNodes);"
)

Fill = Callable[..., autoscale.SampleHistory]


@pytest.mark.parametrize(
    ("formula", "expected"),
    [
        # 4 of 6 samples of the last 3 minutes can be seen, 66 %: the starting number
        (PENDING_TASKS, (1, 1, "taskcompletion")),
        # 3 preempted nodes are replaced, 22 of 25 are left to spot nodes
        (PREEMPTED_NODES, (3, 22, "taskcompletion")),
        # 0.9 > 0.7: 10 % more than 10
        (CPU, (11, 1, "taskcompletion")),
        # a weekday, but evening
        (WORKING_HOURS, (10, 1, "taskcompletion")),
        # 28 of 30 samples: 20 pending tasks
        (TASKS, (20, 1, "taskcompletion")),
        # newest 2, average (2 + 29) / 2 = 15.5; 5 + (15.5 - 20 + 3) / 4 = 4.625; at most 3
        (PARALLEL_TASKS, (3, 1, "taskcompletion")),
        (REFERENCE_EXAMPLE, (11, 1, "requeue")),
        ("$TargetDedicatedNodes = (time().weekday == 1 ? 5:1);", (1, 1, "requeue")),
        ("$TargetDedicatedNodes = 0", (0, 1, "requeue")),
        ("$TargetDedicatedNodes = $CurrentDedicatedNodes;", (10, 1, "requeue")),
        ("$TargetDedicatedNodes = $CurrentDedicatedNodes + 0; $NodeDeallocationOption = requeue", (10, 1, "requeue")),
        ("$TargetDedicated=0;$TargetLowPriority=3", (0, 3, "requeue")),
    ],
)
def test_a_documented_formula_sets_its_targets(run, formula: str, expected: tuple[int, int, str]) -> None:
    evaluation = run(formula)
    assert (evaluation.dedicated, evaluation.low_priority, evaluation.deallocation_option) == expected


def test_pending_tasks_follow_the_average_once_enough_samples_are_there(fill: Fill, now: datetime) -> None:
    assert autoscale.evaluate(PENDING_TASKS, fill(range(10), delay=0), now).dedicated == 20
    assert autoscale.evaluate(PENDING_TASKS, fill(range(10), delay=0, PendingTasks=60), now).dedicated == 25
    assert autoscale.evaluate(PENDING_TASKS, fill(range(0)), now).dedicated == 1


def test_a_new_pool_without_samples_of_preemption_keeps_its_size(fill: Fill, now: datetime) -> None:
    with pytest.raises(autoscale.AutoscaleError) as caught:
        autoscale.evaluate(PREEMPTED_NODES, fill(range(0)), now, autoscale.PoolNow(0, 25))
    assert caught.value.code == "InsufficientSampleData"
    assert caught.value.results == "$TargetDedicatedNodes=0;$TargetLowPriorityNodes=25;$NodeDeallocationOption=requeue"


def test_low_cpu_use_shrinks_the_pool(fill: Fill, pool: autoscale.PoolNow, now: datetime) -> None:
    assert autoscale.evaluate(CPU, fill(range(200), CPUPercent=0.1), now, pool).dedicated == 9
    assert autoscale.evaluate(CPU, fill(range(200), CPUPercent=0.5), now, pool).dedicated == 10


@pytest.mark.parametrize(
    ("moment", "dedicated", "shown"),
    [
        (datetime(2016, 10, 13, 8, 0, tzinfo=timezone.utc), 20, "2016-10-13T08:00:00.000Z"),
        (datetime(2016, 10, 13, 17, 59, 59, tzinfo=timezone.utc), 20, "2016-10-13T17:59:59.000Z"),
        (datetime(2016, 10, 13, 18, 0, tzinfo=timezone.utc), 10, "2016-10-13T18:00:00.000Z"),
        (datetime(2016, 10, 15, 12, 0, tzinfo=timezone.utc), 10, "2016-10-15T12:00:00.000Z"),
        (datetime(2016, 10, 13, 11, 0, tzinfo=timezone(timedelta(hours=2))), 20, "2016-10-13T09:00:00.000Z"),
    ],
)
def test_working_hours(fill: Fill, moment: datetime, dedicated: int, shown: str) -> None:
    evaluation = autoscale.evaluate(WORKING_HOURS, fill(range(0)), moment)
    assert evaluation.dedicated == dedicated
    assert f"$curTime={shown};" in evaluation.results


def test_the_documented_results_of_working_hours(fill: Fill, now: datetime) -> None:
    formula = WORKING_HOURS.replace(KEEP_TASKS, "")
    assert autoscale.evaluate(formula, fill(range(0)), now).results == (
        "$TargetDedicatedNodes=10;$TargetLowPriorityNodes=0;$NodeDeallocationOption=requeue;"
        "$curTime=2016-10-13T19:18:47.805Z;$isWeekday=1;$isWorkingWeekdayHour=0;$workHours=0"
    )


def test_five_nodes_on_mondays(fill: Fill) -> None:
    formula = "$TargetDedicatedNodes = (time().weekday == 1 ? 5:1);"
    monday = datetime(2024, 1, 1, 12, tzinfo=timezone.utc)
    assert autoscale.evaluate(formula, fill(range(0)), monday).dedicated == 5


def test_tasks_with_few_samples_or_none(fill: Fill, pool: autoscale.PoolNow, now: datetime) -> None:
    one_sample = fill(range(5, 6), PendingTasks=8)
    assert autoscale.evaluate(TASKS, one_sample, now, pool).dedicated == 8
    assert autoscale.evaluate(TASKS, fill(range(0)), now, pool).dedicated == 2  # half of 5
    assert autoscale.evaluate(TASKS, fill(range(60), PendingTasks=0), now, pool).dedicated == 2


def test_parallel_tasks_grow_within_their_bounds(fill: Fill, now: datetime) -> None:
    empty = autoscale.PoolNow(target_dedicated=0)
    assert autoscale.evaluate(PARALLEL_TASKS, fill(range(2, 3)), now, empty).dedicated == 1  # (2 + 3) / 4
    assert autoscale.evaluate(PARALLEL_TASKS, fill(range(60), ActiveTasks=9), now, empty).dedicated == 3
    assert autoscale.evaluate(PARALLEL_TASKS, fill(range(60), ActiveTasks=0), now, empty).dedicated == 0


@pytest.mark.parametrize(("minutes", "busy", "dedicated"), [(5, 0, 4), (120, 4, 4), (120, 0, 0)])
def test_an_initial_size_until_the_pool_is_ten_minutes_old(
    fill: Fill, now: datetime, minutes: int, busy: int, dedicated: int
) -> None:
    formula = INITIAL_SIZE.format(made=now - timedelta(minutes=minutes))
    history = fill(range(150), RunningTasks=busy, ActiveTasks=0)
    assert autoscale.evaluate(formula, history, now).dedicated == dedicated


def test_an_initial_size_without_enough_samples_fails_with_the_place(fill: Fill, now: datetime) -> None:
    formula = INITIAL_SIZE.format(made=now - timedelta(hours=1))
    with pytest.raises(autoscale.AutoscaleError) as caught:
        autoscale.evaluate(formula, fill(range(50)), now)
    assert caught.value.values == (
        ("Message", "Line 8, Col 79: Insufficient data from data set: $RunningTasks wanted 50%, received 40%"),
    )


@pytest.mark.parametrize(
    ("statement", "shown"),
    [
        ("$runningTasksSample = $RunningTasks.GetSample(1 * TimeInterval_Minute, 6 * TimeInterval_Minute);", "[1,1,1,1,1,1,1,1,1,1]"),
        ("$runningTasksSample = $RunningTasks.GetSample(60 * TimeInterval_Second, 120 * TimeInterval_Second, 75);", "[1,1]"),
        ("$runningTasksSample = $RunningTasks.GetSample(TimeInterval_Minute * 10, 80);", f"[{','.join('1' * 18)}]"),
    ],
)  # fmt: skip
def test_documented_looks_back(statement: str, shown: str, fill: Fill, now: datetime) -> None:
    evaluation = autoscale.evaluate(statement, fill(range(60), RunningTasks=1), now)
    assert evaluation.results.endswith(f";$runningTasksSample={shown}")


def test_the_documented_missing_minute(past: autoscale.SampleHistory, now: datetime) -> None:
    with pytest.raises(autoscale.AutoscaleError) as caught:
        autoscale.evaluate("x = $CPUPercent.GetSample(TimeInterval_Minute * 10, 95)", past, now)
    assert caught.value.values[0][1].endswith("$CPUPercent wanted 95%, received 90%")


def test_the_recorded_error_of_a_pool_without_samples(fill: Fill, now: datetime) -> None:
    formula = "$RunningTasks.GetSample(10 * TimeInterval_Second, 0 * TimeInterval_Second, 100);"
    with pytest.raises(autoscale.AutoscaleError) as caught:
        autoscale.evaluate(formula, fill(range(0)), now)
    assert caught.value.code == "InsufficientSampleData"
    assert caught.value.message == "Autoscale evaluation failed due to insufficient sample data"
    assert caught.value.values == (
        ("Message", "Line 1, Col 24: Insufficient data from data set: $RunningTasks wanted 100%, received 0%"),
    )


def test_the_recorded_results_of_a_formula_with_its_own_variables(fill: Fill, now: datetime) -> None:
    formula = """
        $maxTasksPerNode = 4; $round = 3;
        $samples = $PendingTasks.GetSamplePercent(TimeInterval_Minute, 3 * TimeInterval_Minute);
        $tasks = 0 * $PendingTasks.Count(); $targetVMs = 1;
        $TargetDedicatedNodes = 2; $TargetLowPriorityNodes = 5; $NodeDeallocationOption = taskcompletion
    """
    assert autoscale.evaluate(formula, fill(range(60)), now).results == (
        "$TargetDedicatedNodes=2;$TargetLowPriorityNodes=5;$NodeDeallocationOption=taskcompletion;"
        "$maxTasksPerNode=4;$round=3;$samples=100;$targetVMs=1;$tasks=0"
    )
