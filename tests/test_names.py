"""Names stay legal and inside their folders, whatever comes from outside."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from azbatchwrap import names


@given(st.text(min_size=0, max_size=80))
def test_container_names_are_legal_for_any_project(project: str) -> None:
    assert names.CONTAINER_PATTERN.match(names.files_container(project))
    assert names.CONTAINER_PATTERN.match(names.output_container(project))


@pytest.mark.parametrize(("one", "other"), [("My Project", "my-project"), ("a_b", "a-b"), ("é", "è"), ("A", "a")])
def test_projects_that_look_alike_get_different_containers(one: str, other: str) -> None:
    assert names.files_container(one) != names.files_container(other)


def test_new_ids_are_legal_and_differ() -> None:
    ids = {names.new_id("job") for _ in range(200)}
    assert len(ids) == 200
    assert all(names.is_id(one) for one in ids)


@pytest.mark.parametrize("text", ["", "a b", "a/b", "ä", "x" * 65, "a\n"])
def test_illegal_ids_are_seen(text: str) -> None:
    assert not names.is_id(text)


@pytest.mark.parametrize(
    "text", ["../x", "a/../../b", "/etc/passwd", "..", "", "C:\\x", "a\\..\\..\\b", "a\0b", "\\\\host\\x"]
)
def test_paths_that_leave_their_folder_are_refused(text: str) -> None:
    with pytest.raises(ValueError, match="does not name a file inside"):
        names.safe_relative(text)


@given(st.text())
def test_a_safe_path_never_climbs(text: str) -> None:
    try:
        path = names.safe_relative(text)
    except ValueError:
        return
    assert not path.is_absolute()
    assert ".." not in path.parts
