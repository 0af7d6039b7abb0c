"""A task that is a worker of the batch processor. Uploaded by `processor.on_pool`."""

from __future__ import annotations

import subprocess
import sys
from typing import Any


def do_action(_engine: Any, interpreter: str, *words: str) -> dict[str, object]:
    """Run ``azbatchwrap processor run WORDS`` until it ends. ``interpreter`` "-" is the one that runs this task."""
    python = sys.executable if interpreter == "-" else interpreter
    command = [python, "-m", "azbatchwrap.cli.main", "processor", "run", *words]
    done = subprocess.run(command, check=False)
    if done.returncode:
        raise RuntimeError(f"the processor ended with exit code {done.returncode}; its standard error says why")
    return {"exit_code": done.returncode}
