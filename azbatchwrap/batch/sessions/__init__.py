"""Sessions: functions as tasks, futures for their results."""

from .executor import SessionExecutor
from .future import Future, as_completed
from .session import Session

__all__ = ["Future", "Session", "SessionExecutor", "as_completed"]
