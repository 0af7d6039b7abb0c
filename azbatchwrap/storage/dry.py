"""While a script is planned nothing is written: not by storage, and not by what rests on it."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from azbatchwrap.errors import ConfigurationError

#: Why nothing is written now; of the whole process, as its threads write too.
_reasons: list[str] = []


@contextlib.contextmanager
def nothing_written(reason: str) -> Iterator[None]:
    """Whatever would write in this block raises ConfigurationError with the ``reason``."""
    _reasons.append(reason)
    try:
        yield
    finally:
        _reasons.pop()


def check_may_write() -> None:
    """Raises ConfigurationError where nothing is to be written."""
    if _reasons:
        raise ConfigurationError(_reasons[-1])
