"""Statements, targets, limits and errors of formulas."""

from __future__ import annotations

import json
from datetime import datetime

import pytest

from azbatchwrap.local.batch import autoscale

SYNTAX = "AutoScalingFormulaSyntaxError"
TOO_LONG = "AutoScalingFormulaTooLong"
EVALUATION = "AutoScalingFormulaEvaluationError"
INSUFFICIENT = "InsufficientSampleData"


@pytest.mark.parametrize(
    ("formula", "dedicated", "low_priority", "option"),
    [
        ("x = 1", 5, 1, "requeue"),
        ("$TargetDedicatedNodes=3", 3, 1, "requeue"),
        ("$TargetDedicatedNodes=3;;", 3, 1, "requeue"),
        (";$TargetDedicatedNodes=3", 3, 1, "requeue"),
        ("$TargetDedicatedNodes=2.99", 2, 1, "requeue"),
        ("$TargetDedicatedNodes=$TargetDedicatedNodes+1;$TargetDedicatedNodes=$TargetDedicatedNodes*2", 12, 1, "requeue"),
        ("$TargetDedicated=7", 7, 1, "requeue"),
        ("$TargetDedicatedNodes=7;$TargetDedicated=8", 7, 1, "requeue"),
        ("$TargetDedicated=8;$TargetDedicatedNodes=7", 7, 1, "requeue"),
        ("$TargetDedicated=8;x=$TargetDedicatedNodes;$TargetLowPriority=x", 8, 8, "requeue"),
        ("$TargetLowPriorityNodes=0;$TargetLowPriority=9", 5, 0, "requeue"),
        ("$NodeDeallocationOption=terminate", 5, 1, "terminate"),
        ("$NodeDeallocationOption=retaineddata", 5, 1, "retaineddata"),
        ('$NodeDeallocationOption="taskcompletion"', 5, 1, "taskcompletion"),
        ("$NodeDeallocationOption=1>2?requeue:terminate", 5, 1, "terminate"),
        ("$TargetDedicatedNodes=1;stop();$TargetDedicatedNodes=nothing", 1, 1, "requeue"),
        ("$TargetDedicatedNodes=1;x=2>1?stop():3;$TargetDedicatedNodes=9", 1, 1, "requeue"),
        ("x=1;x=vec(1);x=time();$TargetDedicatedNodes=x.hour", 19, 1, "requeue"),
        ("$TARGETDEDICATEDNODES=9", 5, 1, "requeue"),
    ],
)  # fmt: skip
def test_statements_set_targets(run, formula: str, dedicated: int, low_priority: int, option: str) -> None:
    evaluation = run(formula)
    assert (evaluation.dedicated, evaluation.low_priority, evaluation.deallocation_option) == (
        dedicated,
        low_priority,
        option,
    )


def test_own_variables_are_shown_in_alphabetical_order_without_regard_to_case(run) -> None:
    assert run("b=1;A=2;$z=3;C=vec(1,2.5)").results.split(";")[3:] == ["$z=3", "A=2", "b=1", "C=[1,2.5]"]


def test_variables_keep_their_values(run) -> None:
    evaluation = run("a=vec(1,2);b=a*2;$TargetDedicatedNodes=sum(b)")
    assert dict(evaluation.variables) == {"a": (1.0, 2.0), "b": (2.0, 4.0)}


@pytest.mark.parametrize(
    ("formula", "code", "detail"),
    [
        # not a formula
        ("", SYNTAX, "The formula has no statement."),
        (" ;; // nothing", SYNTAX, "The formula has no statement."),
        ("x = ", SYNTAX, "Line 1, Col 5: The formula ends too early."),
        ("x = 1 +\n", SYNTAX, "Line 2, Col 1: The formula ends too early."),
        ("x = (1", SYNTAX, "Line 1, Col 7: The formula ends too early."),
        ("x = 1)", SYNTAX, "Line 1, Col 6: Unexpected ')'."),
        ("x = 1\ny = 2", SYNTAX, "Line 2, Col 1: Unexpected 'y'."),
        ("x = [1,2]", SYNTAX, "Line 1, Col 5: Unexpected character '['."),
        ("x = 1 % 2", SYNTAX, "Line 1, Col 7: Unexpected character '%'."),
        ("x = 'a'", SYNTAX, "Line 1, Col 5: Unexpected character '''."),
        ('x = "a', SYNTAX, "Line 1, Col 5: Unexpected character '\"'."),
        ("x == 1 = 2", SYNTAX, "Line 1, Col 8: Unexpected '='."),
        ("1 = x", SYNTAX, "Line 1, Col 3: Unexpected '='."),
        ("x = 1 ? 2", SYNTAX, "Line 1, Col 10: The formula ends too early."),
        ("x = max(1,)", SYNTAX, "Line 1, Col 11: Unexpected ')'."),
        ("x = 1 /* open", SYNTAX, "Line 1, Col 8: Unexpected '*'."),
        ("x = $", SYNTAX, "Line 1, Col 5: Unexpected character '$'."),
        ("x = 5 y", SYNTAX, "Line 1, Col 7: Unexpected 'y'."),
        # too much
        ("x=1;" * 101, TOO_LONG, "The formula has 101 statements; at most 100 are allowed."),
        ("x=1" + " " * 8190, TOO_LONG, "The formula has 8193 characters; at most 8192 are allowed."),
        ("x=" + "max(" * 101 + "1" + ")" * 101, TOO_LONG, "Line 1, Col 6: The expression nests deeper than 100 levels."),
        # names
        ("$something_useless", EVALUATION, "Line 1, Col 1: The variable '$something_useless' is not defined"),
        ("x = 1;\n  y = x + z", EVALUATION, "Line 2, Col 11: The variable 'z' is not defined"),
        ("x = foo(1)", EVALUATION, "Line 1, Col 8: The function 'foo' is not defined"),
        ("x = Max(1)", EVALUATION, "Line 1, Col 8: The function 'Max' is not defined"),
        ("$CPUPercent = 1", EVALUATION, "Line 1, Col 1: '$CPUPercent' cannot be assigned to"),
        ("TimeInterval_Day = 1", EVALUATION, "Line 1, Col 1: 'TimeInterval_Day' cannot be assigned to"),
        ("requeue = 1", EVALUATION, "Line 1, Col 1: 'requeue' cannot be assigned to"),
        # targets
        ("$TargetDedicatedNodes = -1", EVALUATION, "must be a number of nodes, not -1"),
        ("$TargetDedicatedNodes = 1/0", EVALUATION, "must be a number of nodes, not Infinity"),
        ("$TargetDedicated = 0/0", EVALUATION, "must be a number of nodes, not NaN"),
        ("$TargetLowPriorityNodes = 3e9", EVALUATION, "must be a number of nodes, not 3000000000"),
        ("$TargetDedicatedNodes = $ActiveTasks.GetSample(1)", EVALUATION, "must be a number of nodes, not [2]"),
        ("$NodeDeallocationOption = 1", EVALUATION, "must be one of requeue, retaineddata, taskcompletion, terminate"),
        ('$NodeDeallocationOption = "later"', EVALUATION, "not later"),
        # types
        ('x = 1 + "a"', EVALUATION, "Line 1, Col 7: 'double + string' is not supported"),
        ('x = "a" + "b"', EVALUATION, "'string + string'"),
        ('x = 1 == "1"', EVALUATION, "'double == string'"),
        ("x = 1 - vec(1)", EVALUATION, "'double - doubleVec'"),
        ("x = vec(1) == vec(1)", EVALUATION, "'doubleVec == doubleVec'"),
        ("x = vec(1, 2) + vec(1)", EVALUATION, "different lengths: 2 and 1"),
        ("x = -vec(1)", EVALUATION, "Line 1, Col 5: '-doubleVec' is not supported"),
        ("x = !time()", EVALUATION, "'!timestamp'"),
        ("x = !TimeInterval_Day", EVALUATION, "'!timeinterval'"),
        ("x = -requeue", EVALUATION, "'-string'"),
        ("x = time() - TimeInterval_Hour", EVALUATION, "'timestamp - timeinterval'"),
        ("x = time() + time()", EVALUATION, "'timestamp + timestamp'"),
        ("x = time() * 2", EVALUATION, "'timestamp * double'"),
        ("x = TimeInterval_Hour + 1", EVALUATION, "'timeinterval + double'"),
        ("x = 1 / TimeInterval_Hour", EVALUATION, "'double / timeinterval'"),
        ("x = TimeInterval_Hour * TimeInterval_Hour", EVALUATION, "'timeinterval * timeinterval'"),
        ("x = TimeInterval_Hour / TimeInterval_Hour", EVALUATION, "'timeinterval / timeinterval'"),
        ("x = time() > TimeInterval_Day", EVALUATION, "'timestamp > timeinterval'"),
        ("x = time() ? 1 : 2", EVALUATION, "Line 1, Col 12: A condition must be a double, not a timestamp"),
        ("x = vec(1) && 1", EVALUATION, "A condition must be a double, not a doubleVec"),
        ("x = 1 && requeue", EVALUATION, "A condition must be a double, not a string"),
        # ranges
        ("x = TimeInterval_Hour / 0", EVALUATION, "The time interval is out of range"),
        ("x = TimeInterval_Year * 1e9", EVALUATION, "The time interval is out of range"),
        ("x = time() + TimeInterval_Year * 9000", EVALUATION, "The time is out of range"),
        ("x = time() + -3000 * TimeInterval_Year", EVALUATION, "The time is out of range"),
        # functions
        ("x = avg()", EVALUATION, "Line 1, Col 8: avg has no values to work on"),
        ("x = min(vec())", EVALUATION, "min has no values"),
        ("x = max(time())", EVALUATION, "A timestamp is neither a double nor a doubleVec"),
        ("x = lg(requeue)", EVALUATION, "A string is neither"),
        ("x = val(vec(1), 1)", EVALUATION, "Element 1 of 1 values does not exist"),
        ("x = val(vec(1), -1)", EVALUATION, "Element -1 of 1"),
        ("x = val(vec(1), 0/0)", EVALUATION, "Element nan of 1"),
        ("x = val(1, 0)", EVALUATION, "val takes a doubleVec and a double, not double, double"),
        ("x = val(vec(1))", EVALUATION, "val takes 2 arguments, not 1"),
        ("x = percentile(vec(), 50)", EVALUATION, "percentile 50 of 0 values"),
        ("x = percentile(vec(1), 101)", EVALUATION, "percentile 101 of 1 values"),
        ("x = rand(1)", EVALUATION, "rand takes no arguments"),
        ("x = stop(1)", EVALUATION, "stop takes no arguments"),
        ("x = time(1)", EVALUATION, "time takes one string"),
        ('x = time("2016", "2017")', EVALUATION, "time takes one string"),
        ('x = time("yesterday")', EVALUATION, "'yesterday' is not a date and time"),
        ('x = time("2016-13-01")', EVALUATION, "'2016-13-01' is not a date and time"),
        ('x = time("2016-10-13T19:18:47.123456789Z")', EVALUATION, "is not a date and time"),
        ("x=vec(" + "1," * 100 + "1);" + "x=vec(x,x);" * 10, EVALUATION, "more than 10000 elements"),
        # members and methods
        ("x = time().week", EVALUATION, "Line 1, Col 12: A timestamp has no member 'week'"),
        ("x = TimeInterval_Hour.hour", EVALUATION, "A timeinterval has no member 'hour'"),
        ("x = 1; y = x.GetSample(1)", EVALUATION, "Only metrics of the service have a method 'GetSample'"),
        ("x = vec(1).Count()", EVALUATION, "Only metrics"),
        ("x = $TargetDedicatedNodes.GetSample(1)", EVALUATION, "Only metrics"),
        ("x = $ActiveTasks.Last()", EVALUATION, "Line 1, Col 22: '$ActiveTasks' has no method 'Last'"),
        ("x = $ActiveTasks.GetSample()", EVALUATION, "GetSample does not take ()"),
        ("x = $ActiveTasks.GetSample(1, 2)", EVALUATION, "GetSample does not take (double)"),
        ("x = $ActiveTasks.GetSample(requeue)", EVALUATION, "GetSample does not take (string)"),
        ("x = $ActiveTasks.GetSample(-1)", EVALUATION, "GetSample cannot take -1 samples"),
        ("x = $ActiveTasks.GetSample(time(), time(), time())", EVALUATION, "GetSample does not take"),
        ("x = $ActiveTasks.GetSamplePercent()", EVALUATION, "GetSamplePercent does not take ()"),
        ("x = $ActiveTasks.GetSamplePercent(5)", EVALUATION, "GetSamplePercent does not take (double)"),
        ("x = $ActiveTasks.Count(1)", EVALUATION, "Count does not take (double)"),
        # samples
        ("x = $ActiveTasks.GetSample(TimeInterval_Minute)", INSUFFICIENT, "Line 1, Col 27: Insufficient data from data set: $ActiveTasks wanted 10%, received 0%"),
        ("x =\n $ActiveTasks\n .GetSample(TimeInterval_Minute * 2, 70)", INSUFFICIENT, "Line 3, Col 12: Insufficient data from data set: $ActiveTasks wanted 70%, received 50%"),
        ("x = $CPUPercent.GetSample(TimeInterval_Minute * 10, 0/0)", INSUFFICIENT, "wanted nan%, received 90%"),
    ],
)  # fmt: skip
def test_a_formula_fails_with_its_code_and_place(run, formula: str, code: str, detail: str) -> None:
    with pytest.raises(autoscale.AutoscaleError) as caught:
        run(formula)
    assert caught.value.code == code
    assert detail in caught.value.values[0][1]
    assert caught.value.results == "$TargetDedicatedNodes=5;$TargetLowPriorityNodes=1;$NodeDeallocationOption=requeue"
    assert caught.value.is_refusal == (code in {SYNTAX, TOO_LONG})


def test_check_refuses_only_what_is_no_formula() -> None:
    autoscale.check("$TargetDedicatedNodes = not_known_yet")
    autoscale.check("x = 1;" * 100)
    autoscale.check("x=1" + " " * 8189)
    with pytest.raises(autoscale.AutoscaleError) as caught:
        autoscale.check("$TargetDedicatedNodes = ")
    assert caught.value.is_refusal


def test_long_expressions_do_not_nest(run) -> None:
    assert run("x=" + "+".join("1" * 4000)).results.endswith(";x=4000")
    assert run("x=" + "-" * 4001 + "1").results.endswith(";x=-1")
    assert run("x=" + "(" * 4000 + "1" + ")" * 4000).results.endswith(";x=1")


def test_a_failed_run_changes_no_later_one(run) -> None:
    for _ in range(2):
        with pytest.raises(autoscale.AutoscaleError):
            run("$TargetDedicatedNodes = 9; x = nothing")
    assert run("x = $TargetDedicatedNodes").results.endswith(";x=5")


def test_a_metric_without_any_value_is_insufficient_data(now: datetime) -> None:
    with pytest.raises(autoscale.AutoscaleError) as caught:
        autoscale.evaluate("x = $ActiveTasks + 1", autoscale.SampleHistory(), now)
    assert caught.value.code == INSUFFICIENT


def test_the_values_of_an_error_are_ready_for_the_wire(run) -> None:
    with pytest.raises(autoscale.AutoscaleError) as caught:
        run("nothing")
    error = caught.value
    body = {"code": error.code, "message": error.message, "values": [{"name": n, "value": v} for n, v in error.values]}
    assert json.loads(json.dumps(body))["values"][0]["name"] == "Message"
