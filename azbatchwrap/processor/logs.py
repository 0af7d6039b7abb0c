"""The log of a worker: lines of JSON or of words."""

from __future__ import annotations

import logging
from typing import IO

import orjson


class JsonLines(logging.Formatter):
    """One object per record: time (Unix seconds), level, logger, message, and the message's id where there is one."""

    def format(self, record: logging.LogRecord) -> str:
        facts = {
            "time": round(record.created, 6),
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
        }
        # By convention the id is the first argument of messages that begin so.
        if str(record.msg).startswith("message %s") and isinstance(record.args, tuple) and record.args:
            facts["id"] = str(record.args[0])
        if record.exc_info:
            facts["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(facts).decode()


def log_to(stream: IO[str], *, as_json: bool) -> None:
    """Send this package's log there: JSON lines from INFO up; or words from WARNING up, unless it is shown already."""
    logger = logging.getLogger("azbatchwrap")
    if logger.handlers and not as_json:
        return
    handler = logging.StreamHandler(stream)
    handler.setFormatter(JsonLines() if as_json else logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    handler.setLevel(logging.INFO if as_json else logging.WARNING)
    logger.handlers = [handler]
    logger.setLevel(min(logger.level or handler.level, handler.level))
