"""The session's story whole: the example on a good day and on a bad one."""

from __future__ import annotations

import secrets
import subprocess
import sys
from pathlib import Path
from xml.etree import ElementTree as ET

from azbatchwrap.local.stack import Stack
from tests.fixtures_stack import LocalStack

EXAMPLE = Path(__file__).parents[2] / "examples" / "session.py"
CALLS = 40
BAD_DAY = {"throttle": 0.1, "retry_after": 0, "spot_preemption": 0.9}


def run_example(stack: LocalStack, folder: Path) -> str:
    environment = stack.environment | {"AZBATCHWRAP_PROJECT": f"story-{secrets.token_hex(3)}"}
    command = [sys.executable, str(EXAMPLE), str(folder), str(CALLS)]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=110, check=False)
    assert done.returncode == 0, done.stderr
    dots = ET.fromstring((folder / "estimates.svg").read_text())
    assert len(list(dots)) == CALLS - 1
    assert (folder / "timeline.svg").stat().st_size > 0
    return done.stdout


def test_the_same_results_on_a_bad_day(local_stack: LocalStack, tmp_path: Path) -> None:
    good = run_example(local_stack, tmp_path / "good")
    assert "39 estimates, 1 failed: {13: ValueError('thirteen brings bad luck', 13)}" in good
    assert "by 39 estimates" in good
    stack = Stack(local_stack.folder)
    before = stack.chaos()
    stack.chaos(BAD_DAY)
    try:
        bad = run_example(local_stack, tmp_path / "bad")
    finally:
        stack.chaos({name: before[name] for name in BAD_DAY})
    assert bad == good
    pictures = [(tmp_path / day / "estimates.svg").read_text() for day in ("good", "bad")]
    assert pictures[0] == pictures[1]
