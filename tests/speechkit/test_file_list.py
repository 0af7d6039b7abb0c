"""Lists of files: what is named in the lines, without an object for each of them."""

from __future__ import annotations

import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from azbatchwrap.errors import ConfigurationError
from azbatchwrap.speechkit.file_list import FileList, read_list

NAME = st.text(st.characters(blacklist_categories=["Cs", "Cc"]), min_size=1).filter(
    lambda name: name.strip() and not name.startswith("/")
)


@given(st.lists(NAME), st.sampled_from(["\n", "\r\n"]), st.booleans())
def test_every_line_is_a_file(names: list[str], end: str, last: bool) -> None:
    text = end.join(names) + (end if last else "")
    found = FileList(text.encode(), Path("in"))
    assert list(found) == [Path("in") / name for name in names]
    assert len(found) == len(names)
    assert found[1:3] == [Path("in") / name for name in names[1:3]]


def test_absolute_names_empty_lines_and_bytes_that_are_no_text() -> None:
    found = FileList(b"/data/a.wav\n\n  \nb\xff.wav", Path("in"))
    assert [bytes(path) for path in found] == [b"/data/a.wav", b"in/b\xff.wav"]
    assert found[-1] == found[1]
    with pytest.raises(IndexError):
        found[2]


def test_a_list_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="absent"):
        read_list(tmp_path / "absent", tmp_path)


def test_a_million_names_weigh_little_more_than_their_text() -> None:
    text = b"".join(b"folder/sound-%07d.wav\n" % number for number in range(1_000_000))
    tracemalloc.start()
    found = FileList(text, Path("in"))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert (len(found), found[-1]) == (1_000_000, Path("in/folder/sound-0999999.wav"))
    assert most < 24_000_000 + len(text)
