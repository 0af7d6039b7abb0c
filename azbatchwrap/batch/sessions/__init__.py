"""Sessions: functions as tasks, futures for their results."""

from .executor import SessionExecutor
from .future import Future, as_completed
from .policy import PoolPolicy
from .session import Session

__all__ = ["Future", "PoolPolicy", "Session", "SessionExecutor", "as_completed"]
