"""Batch types by name: named explicitly, imported once, instead of searched for on the whole path."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

from azbatchwrap.errors import ConfigurationError

from .types import BatchRequest


def load_batch_type(text: str) -> type[BatchRequest]:
    """The type that ``MODULE:CLASS`` or ``FILE.py:CLASS`` names. Raises ConfigurationError.

    A file is imported under its own name, with its folder on the path, so that worker processes find it, too.
    """
    place, _, name = text.rpartition(":")
    if not place or not name:
        raise ConfigurationError(f"{text!r}: expected MODULE:CLASS or FILE.py:CLASS")
    module_name = place
    if place.endswith(".py"):
        path = Path(place).resolve()
        if not path.is_file():
            raise ConfigurationError(f"{text!r}: there is no file {path}")
        sys.path.insert(0, str(path.parent))
        module_name = path.stem
    try:
        found = getattr(importlib.import_module(module_name), name)
    except Exception as error:
        raise ConfigurationError(f"{text!r} cannot be loaded: {type(error).__name__}: {error}") from error
    if not isinstance(found, type) or not issubclass(found, BatchRequest):
        raise ConfigurationError(f"{text!r} is no BatchRequest")
    return found
