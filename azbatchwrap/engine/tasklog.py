"""The logger that task files use."""

from __future__ import annotations

import logging
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable


def make_logger(step_name: Callable[[], str]) -> logging.Logger:
    """A logger on stderr at level INFO whose lines carry the time (UTC) and the step that runs when they are made."""
    formatter = logging.Formatter("%(asctime)s %(levelname)s [%(step)s] %(message)s", "%Y-%m-%dT%H:%M:%SZ")
    formatter.converter = time.gmtime
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter)

    def mark(line: logging.LogRecord) -> bool:
        line.step = step_name()
        return True

    handler.addFilter(mark)
    logger = logging.getLogger("azbatchwrap.task")
    logger.handlers[:] = [handler]
    logger.setLevel(logging.INFO)
    # A task that configures the root logger must not get every line twice.
    logger.propagate = False
    return logger
