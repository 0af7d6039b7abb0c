"""What runs on a node: ``prepare`` and ``release`` serve a job, ``run`` serves one task.

Standard library and relative imports only, Python 3.8 or later. `run` comes before every task, so the modules
it needs (`facts`, `chain`, `record`, `api`) import next to nothing at their top; the rest is imported where it is used.
"""

from __future__ import annotations

import sys


def main(words: list[str]) -> int:
    """Do what the one word says; returns the exit code."""
    if words == ["run"]:
        from .run import run

        return run()
    if words == ["prepare"]:
        from .prepare import prepare

        return prepare()
    if words == ["release"]:
        from .prepare import release

        return release()
    sys.stderr.write("usage: engine (prepare | release | run)\n")
    return 2
