"""What is printed: text as it is, states in colour only on a terminal, results with their last error line."""

from __future__ import annotations

import csv
import json
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from azbatchwrap.batch import ErrorInfo, TaskResult
from azbatchwrap.cli.output import duration, last_line, print_json, print_table, readable
from azbatchwrap.cli.results import keep_results, show_results

START = datetime(2026, 11, 20, 10, tzinfo=timezone.utc)


def result(task_id: str, value: object = None, error: ErrorInfo | None = None) -> TaskResult:
    state = "failed" if error else "succeeded"
    ended = START + timedelta(seconds=2.5)
    return TaskResult(task_id, state, value=value, error=error, started=START, ended=ended, outputs=("a.txt",))


def test_a_table_shows_text_as_it_is(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("a", "b"), [("[bold]x[/bold]", "line\nbreak \x1b[31mred"), ("ümlaut", None)])
    shown = capsys.readouterr().out
    assert "[bold]x[/bold]" in shown
    assert "line\N{MIDDLE DOT}break \N{MIDDLE DOT}[31mred" in shown
    assert "\x1b" not in shown


def test_a_wide_table_is_not_cut_when_nobody_looks(capsys: pytest.CaptureFixture[str]) -> None:
    print_table(("a",), [("x" * 150,)])
    assert "x" * 150 in capsys.readouterr().out


@pytest.mark.parametrize(
    ("value", "text"),
    [(None, ""), (1.5, "1.5"), (-0.00201, "-0.00201"), (1234567.8, "1.23457e+06"), (True, "true"), ({"a": [1]}, '{"a": [1]}'), (START, "2026-11-20 10:00:00")],
)  # fmt: skip
def test_readable(value: object, text: str) -> None:
    assert readable(value) == text


def test_last_line_skips_empty_ones() -> None:
    assert last_line("Traceback\n  x\nValueError: no\n\n  \n") == "ValueError: no"
    assert last_line(None) == ""


@pytest.mark.parametrize(("seconds", "text"), [(None, ""), (0.04, "0.0 s"), (75, "1 min 15 s"), (7260, "2 h 01 min")])
def test_duration(seconds: float | None, text: str) -> None:
    assert duration(seconds) == text


def test_json_holds_records_and_times(capsys: pytest.CaptureFixture[str]) -> None:
    print_json({"at": START, "error": ErrorInfo("E", "m")})
    error = {"type": "E", "message": "m", "traceback": "", "module": "", "args": None}
    expected = {"at": START.isoformat(), "error": error}
    assert json.loads(capsys.readouterr().out) == expected


def test_results_show_values_in_columns_and_the_last_error_line(capsys: pytest.CaptureFixture[str]) -> None:
    error = ErrorInfo("ValueError", "first\nthe last line", "Traceback …")
    code = show_results([result("good", {"price": 1.25, "kind": "call"}), result("bad", error=error)], as_json=False)
    shown = capsys.readouterr().out
    assert code == 1
    for expected in ("price", "kind", "1.25", "call", "the last line", "2 tasks: 1 succeeded, 1 failed"):
        assert expected in shown
    assert "first" not in shown


def test_results_as_json(capsys: pytest.CaptureFixture[str]) -> None:
    code = show_results([result("one", [1, 2])], as_json=True, job="J")
    printed = json.loads(capsys.readouterr().out)
    assert code == 0
    assert printed["job"] == "J"
    assert printed["results"] == [
        {"task": "one", "state": "succeeded", "seconds": 2.5, "value": [1, 2], "error": None, "outputs": ["a.txt"]}
    ]


def test_a_thousand_results_are_summed_up(capsys: pytest.CaptureFixture[str]) -> None:
    results = [result(f"t{number}", number) for number in range(1000)] + [result("bad", error=ErrorInfo("E", "m"))]
    assert show_results(results, as_json=False) == 1
    shown = capsys.readouterr().out
    assert "1001 tasks: 1000 succeeded, 1 failed (shown: 1 that did not succeed)" in shown
    assert "t500" not in shown


def test_merged_files_hold_every_value(tmp_path: Path) -> None:
    results = [result("a", {"price": 1.5, "state": "x"}), result("b", "ü\n"), result("c", {"more": [1]})]
    assert str(tmp_path / "new") in keep_results(results, tmp_path / "new")
    with (tmp_path / "new" / "results.csv").open(newline="", encoding="utf-8") as stream:
        rows = list(csv.DictReader(stream))
    assert list(rows[0]) == ["task", "state", "seconds", "error", "price", "value.state", "value", "more"]
    assert [row["task"] for row in rows] == ["a", "b", "c"]
    assert (rows[0]["value.state"], rows[1]["value"], rows[2]["more"]) == ("x", "ü\n", "[1]")
    assert [item["value"] for item in json.loads((tmp_path / "new" / "results.json").read_text())] == [
        {"price": 1.5, "state": "x"}, "ü\n", {"more": [1]},
    ]  # fmt: skip
