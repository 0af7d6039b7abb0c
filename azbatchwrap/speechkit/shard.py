"""The task that transcribes one shard on a node: runs `run-batch-client` on the files of a list.

A task file of the engine, uploaded as it is: standard library only, until the node's own packages are there.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

#: `run-batch-client` ends with these when it has done what it could: each file has its result in the summary.
DONE = (0, 1)


def do_action(engine: Any, *words: str) -> dict[str, Any]:  # noqa: ARG001  every task file takes the engine
    """``words`` are the client's flags. Returns the counts of the shard; its files are left in ``outputs``."""
    command = [sys.executable, "-m", "azbatchwrap.cli.speech", *words, "-output_folder", "outputs"]
    code = subprocess.run(command, check=False).returncode
    if code not in DONE:
        raise RuntimeError(f"run-batch-client ended with exit code {code}; see stderr.txt")
    summary = json.loads(Path("outputs", "run_summary.json").read_text(encoding="utf-8"))
    counts: dict[str, Any] = summary["overall_summary"]["file_stats"]
    return counts
