"""Files named in a file: `FileList` keeps the text, not an object per name, since there may be millions."""

from __future__ import annotations

import io
import os
from array import array
from collections.abc import Sequence
from pathlib import Path
from typing import overload

from azbatchwrap.errors import ConfigurationError


class FileList(Sequence[Path]):
    """The files named in ``text``, one per line; relative names are below ``folder``. Empty lines are passed over."""

    def __init__(self, text: bytes, folder: Path) -> None:
        self._text = text
        self._folder = folder
        self._starts = array("Q")
        at = 0
        for line in io.BytesIO(text):
            if line.strip():
                self._starts.append(at)
            at += len(line)

    def __len__(self) -> int:
        return len(self._starts)

    @overload
    def __getitem__(self, place: int) -> Path: ...
    @overload
    def __getitem__(self, place: slice) -> Sequence[Path]: ...
    def __getitem__(self, place: int | slice) -> Path | Sequence[Path]:
        if isinstance(place, slice):
            return [self[number] for number in range(*place.indices(len(self)))]
        start = self._starts[place]
        end = self._text.find(b"\n", start)
        name = self._text[start : end if end >= 0 else len(self._text)].rstrip(b"\r")
        return self._folder / os.fsdecode(name)


def read_list(file: Path, folder: Path) -> FileList:
    """Raises ConfigurationError when ``file`` cannot be read."""
    try:
        return FileList(file.read_bytes(), folder)
    except OSError as error:
        raise ConfigurationError(f"the list of files {file} cannot be read: {error.strerror}") from error
