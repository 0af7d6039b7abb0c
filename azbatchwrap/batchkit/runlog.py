"""``run.log``: what happened when, in the log folder, rotating; and the same, filtered, on the console."""

from __future__ import annotations

import contextlib
import logging
import logging.handlers
from collections.abc import Iterator
from pathlib import Path

from azbatchwrap.errors import ConfigurationError

#: As the public kit: a gigabyte of logs at most.
FILE_SIZE = 50 * 1024 * 1024
FILES = 20
FORMAT = "%(asctime)s %(levelname)s %(name)s: %(message)s"


@contextlib.contextmanager
def run_log(folder: Path | None, *, file_level: str, console_level: str, console: bool) -> Iterator[None]:
    """Log to ``folder``/run.log (if a folder is given) and to standard error (if ``console``) for the time of a run."""
    ours = logging.getLogger("azbatchwrap")
    before = ours.level
    handlers: list[logging.Handler] = []
    if folder is not None:
        handlers.append(_file_handler(folder, _level(file_level)))
    if console:
        shown = logging.StreamHandler()
        shown.setLevel(_level(console_level))
        handlers.append(shown)
    for handler in handlers:
        handler.setFormatter(logging.Formatter(FORMAT))
        ours.addHandler(handler)
    if handlers:
        ours.setLevel(min(handler.level for handler in handlers))
    try:
        yield
    finally:
        ours.setLevel(before)
        for handler in handlers:
            ours.removeHandler(handler)
            handler.close()


def _file_handler(folder: Path, level: int) -> logging.Handler:
    try:
        folder.mkdir(parents=True, exist_ok=True)
        handler = logging.handlers.RotatingFileHandler(
            folder / "run.log", maxBytes=FILE_SIZE, backupCount=FILES - 1, encoding="utf-8"
        )
    except OSError as error:
        raise ConfigurationError(f"log folder {folder}: cannot be written: {error.strerror}") from error
    handler.setLevel(level)
    return handler


def _level(name: str) -> int:
    number = logging.getLevelName(name.upper())
    if not isinstance(number, int):
        raise ConfigurationError(f"log level {name!r}: use DEBUG, INFO, WARNING, ERROR or CRITICAL")
    return number
