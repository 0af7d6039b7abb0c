"""Sessions: functions as tasks, futures for their results."""

from .future import Future, as_completed
from .session import Session

__all__ = ["Future", "Session", "as_completed"]
