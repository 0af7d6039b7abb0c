from __future__ import annotations

import os
from itertools import permutations
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from azbatchwrap.errors import ConfigurationError
from azbatchwrap.storage.selection import Selection


def write(folder: Path, *names: str) -> Path:
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(name)
    return folder


def names_of(*paths: Path | str, flat: bool = False) -> list[str]:
    selection = Selection(flat=flat)
    for path in paths:
        selection.add(path)
    return sorted(selection.files())


def test_a_lone_file_keeps_its_base_name(tmp_path: Path) -> None:
    write(tmp_path, "deep/down/a.txt")
    assert names_of(tmp_path / "deep/down/a.txt") == ["a.txt"]


def test_a_folder_keeps_its_own_name_and_everything_below(tmp_path: Path) -> None:
    write(tmp_path, "data/a.txt", "data/x/y/b.txt", "data/.hidden", "data/__pycache__/c.pyc")
    assert names_of(tmp_path / "data") == ["data/.hidden", "data/a.txt", "data/x/y/b.txt"]


def test_a_pattern_names_files_from_its_fixed_part_on(tmp_path: Path) -> None:
    write(tmp_path, "data/a.csv", "data/b.txt", "data/x/c.csv")
    assert names_of(f"{tmp_path}/data/*.csv") == ["a.csv"]
    assert names_of(f"{tmp_path}/data/**/*.csv") == ["a.csv", "x/c.csv"]
    assert names_of(f"{tmp_path}/data/*") == ["a.csv", "b.txt", "x/c.csv"]


def test_a_file_whose_name_looks_like_a_pattern_is_that_file(tmp_path: Path) -> None:
    write(tmp_path, "[1]/a*.txt", "[1]/ab.txt")
    assert names_of(f"{tmp_path}/[1]/a*.txt") == ["a*.txt"]
    assert names_of(f"{tmp_path}/[1]/a?.txt") == ["a*.txt", "ab.txt"]


def test_relative_paths_and_patterns(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, "here[0]/in/a.txt")
    monkeypatch.chdir(tmp_path / "here[0]")
    assert names_of("in/a.txt") == names_of("in/*.txt") == names_of("./in/../in/a.txt") == ["a.txt"]
    assert names_of(".") == ["here[0]/in/a.txt"]


def test_colliding_files_get_the_folders_that_tell_them_apart(tmp_path: Path) -> None:
    write(tmp_path, "a/x.txt", "b/x.txt", "c/a/x.txt", "b/other.txt")
    paths = [tmp_path / name for name in ("a/x.txt", "b/x.txt", "b/other.txt")]
    assert names_of(*paths) == ["a/x.txt", "b/x.txt", "other.txt"]
    deeper = names_of(*paths, tmp_path / "c/a/x.txt")
    assert deeper == sorted(["b/x.txt", "c/a/x.txt", "other.txt", f"{tmp_path.name}/a/x.txt"])


def test_the_order_of_adding_does_not_matter(tmp_path: Path) -> None:
    write(tmp_path, "a/x.txt", "b/x.txt", "c/a/x.txt", "d/x.txt/inner")
    paths = [tmp_path / "a/x.txt", tmp_path / "b/x.txt", tmp_path / "c/a/x.txt", tmp_path / "d/x.txt"]
    answers = []
    for order in permutations(paths):
        selection = Selection()
        for path in order:
            selection.add(path)
        answers.append(sorted(selection.files().items()))
    assert all(answer == answers[0] for answer in answers)
    assert len(answers[0]) == 4


def test_the_files_of_a_folder_move_together(tmp_path: Path) -> None:
    write(tmp_path, "a/data/1.csv", "a/data/2.csv", "b/data/1.csv")
    assert names_of(tmp_path / "a/data", tmp_path / "b/data") == ["a/data/1.csv", "a/data/2.csv", "b/data/1.csv"]


def test_a_file_does_not_lie_where_a_folder_must(tmp_path: Path) -> None:
    write(tmp_path, "one/x", "two/x/inner")
    assert names_of(tmp_path / "one/x", tmp_path / "two/x") == ["one/x", "two/x/inner"]


def test_the_same_path_twice_is_one_file(tmp_path: Path) -> None:
    write(tmp_path, "a.txt")
    assert names_of(tmp_path / "a.txt", tmp_path / "." / "a.txt") == ["a.txt"]


def test_a_chosen_name_is_kept_and_two_equal_ones_are_refused(tmp_path: Path) -> None:
    write(tmp_path, "a.txt", "b.txt", "c/input.txt")
    selection = Selection()
    selection.add(tmp_path / "a.txt", "input.txt")
    selection.add(tmp_path / "c/input.txt")
    assert sorted(selection.files()) == ["c/input.txt", "input.txt"]
    selection.add(tmp_path / "b.txt", "input.txt")
    with pytest.raises(
        ConfigurationError, match=r"a\.txt and .*b\.txt would have the same name on a node, 'input.txt'"
    ):
        selection.files()


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/../../b", "", "C:x", "a\0b"])
def test_a_chosen_name_stays_inside_its_folder(tmp_path: Path, name: str) -> None:
    write(tmp_path, "a.txt")
    with pytest.raises(ConfigurationError):
        Selection().add(tmp_path / "a.txt", name)


def test_task_files_lie_in_one_folder_and_never_share_a_name(tmp_path: Path) -> None:
    write(tmp_path, "tasks/1_task.py", "tasks/2_task.py", "more/1_task.py")
    assert names_of(tmp_path / "tasks", flat=True) == ["1_task.py", "2_task.py"]
    with pytest.raises(ConfigurationError, match=r"same name on a node, '1_task\.py'"):
        names_of(tmp_path / "tasks", tmp_path / "more/1_task.py", flat=True)


@pytest.mark.parametrize("path", ["missing.txt", "missing/*.txt", "x" * 300, "empty"])
def test_what_is_not_there_is_named(tmp_path: Path, path: str) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(ConfigurationError, match=path.partition("/")[0]):
        Selection().add(tmp_path / path)


def test_an_empty_path_is_not_the_current_folder() -> None:
    with pytest.raises(ConfigurationError, match="empty path"):
        Selection().add("")


def test_a_pipe_is_refused_before_it_is_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ConfigurationError, match="pipe is not a regular file"):
        Selection().add(tmp_path / "pipe")
    with pytest.raises(ConfigurationError, match="pipe is not a regular file"):
        Selection().add(tmp_path)


def test_a_broken_link_is_named(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("nowhere")
    with pytest.raises(ConfigurationError, match="link"):
        Selection().add(tmp_path / "link")


def test_links_are_followed_but_not_in_circles(tmp_path: Path) -> None:
    write(tmp_path, "data/a.txt", "elsewhere/b.txt")
    (tmp_path / "data/out").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "data/again").symlink_to(tmp_path / "data")
    assert names_of(tmp_path / "data") == ["data/a.txt", "data/out/b.txt"]


WEIRD = st.text(st.characters(exclude_characters="/\0", exclude_categories=["Cs"]), min_size=1, max_size=30)


@given(WEIRD.filter(lambda name: name not in {".", ".."}))
def test_any_file_name_can_be_added(tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    folder = tmp_path_factory.mktemp("weird")
    (folder / name).write_text("x")
    assert names_of(folder / name) == [name]
    assert names_of(folder) == [f"{folder.name}/{name}"]
