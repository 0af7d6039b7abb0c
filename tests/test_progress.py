"""Renderers: plain lines, JSON lines, bars; nothing without being asked."""

from __future__ import annotations

import io
import json

from azbatchwrap import progress


def report(to: progress.Progress) -> None:
    to.start("upload", "uploading", total=3, unit="files")
    to.advance("upload", 2)
    to.advance("upload", 1)
    to.finish("upload")
    to.message("done [all]")


def test_a_pipe_gets_plain_lines() -> None:
    out = io.StringIO()
    with progress.for_stream(out) as lines:
        report(lines)
    first, last, message = out.getvalue().splitlines()
    assert first == "uploading …"
    assert last.startswith("uploading: 3/3 files in ")
    assert message == "done [all]"


def test_json_lines_carry_the_counts() -> None:
    out = io.StringIO()
    with progress.for_stream(out, as_json=True) as lines:
        report(lines)
    events = [json.loads(line) for line in out.getvalue().splitlines()]
    assert [event["event"] for event in events] == ["start", "progress", "finish", "message"]
    assert events[2]["completed"] == 3
    assert events[3]["text"] == "done [all]"


def test_a_terminal_gets_bars() -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    out = Terminal()
    with progress.for_stream(out) as bars:
        report(bars)
    assert "uploading" in out.getvalue()
    assert "done [all]" in out.getvalue()


def test_unknown_keys_and_silence_are_fine() -> None:
    out = io.StringIO()
    with progress.for_stream(out) as lines:
        lines.advance("never started")
        lines.finish("never started")
    report(progress.NullProgress())
    assert out.getvalue() == ""
