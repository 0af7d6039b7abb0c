"""Command lines as a node reads them: words, never a shell."""

from __future__ import annotations

import functools
import shlex


def split_command_line(text: str) -> list[str]:
    """The words of ``text``: split at blanks, quotes kept together and removed, nothing expanded.

    As on Azure Batch's Linux nodes, no shell is involved: ``$VAR``, ``*``, ``|``, ``&&`` and ``>`` are plain
    characters. Raises ValueError for a quote that is not closed, a NUL character and a line without words.
    """
    return list(_words(text))


@functools.lru_cache(maxsize=1024)
def _words(text: str) -> tuple[str, ...]:
    if "\0" in text:
        raise ValueError("the command line holds a NUL character")
    words = tuple(shlex.split(text))
    if not words or not words[0]:
        raise ValueError("the command line names no program")
    return words
