from __future__ import annotations

import os
import re
import string
import urllib.parse
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from azbatchwrap.local.batch.node import files


@pytest.fixture
def root(tmp_path: Path) -> Path:
    root = tmp_path / "data" / "node"
    task = root / "workitems" / "j" / "job-1" / "t"
    (task / "wd" / "sub").mkdir(parents=True)
    (root / "shared").mkdir()
    (root / "shared" / "input.txt").write_text("shared")
    (task / "stdout.txt").write_text("0123456789")
    (task / "wd" / "sub" / "deep.csv").write_text("a,b")
    (task / "wd" / "in.txt").symlink_to(root / "shared" / "input.txt")
    (task / "wd" / "again").symlink_to(task / "wd")
    (task / "wd" / "out.txt").symlink_to(tmp_path / "outside.txt")
    (task / "wd" / "etc").symlink_to("/etc")
    (task / "wd" / "dangling").symlink_to("nowhere")
    (task / "wd" / "sibling").symlink_to(tmp_path / "data" / "node-other")
    (tmp_path / "outside.txt").write_text("secret")
    (tmp_path / "data" / "node-other").mkdir()
    (tmp_path / "data" / "node-other" / "x.txt").write_text("secret")
    return root


@pytest.fixture
def task(root: Path) -> Path:
    return root / "workitems" / "j" / "job-1" / "t"


def content(entry: files.FileEntry, start: int = 0, end: int | None = None) -> bytes:
    return b"".join(files.read_range(entry, start, end))


def test_the_top_level(root: Path, task: Path) -> None:
    assert [entry.name for entry in files.list_files(root, task)] == ["stdout.txt", "wd"]


def test_level_by_level_without_links_that_leave(root: Path, task: Path) -> None:
    names = [entry.name for entry in files.list_files(root, task, recursive=True)]
    assert names == ["stdout.txt", "wd", "wd/again", "wd/in.txt", "wd/sub", "wd/sub/deep.csv"]


def test_the_whole_node(root: Path) -> None:
    names = [entry.name for entry in files.list_files(root, root, recursive=True)]
    assert names[:4] == ["shared", "workitems", "shared/input.txt", "workitems/j"]


def test_a_missing_folder_and_one_elsewhere(root: Path, task: Path) -> None:
    for folder in (task / "none", task / "stdout.txt", root.parent, task / "wd" / "etc"):
        with pytest.raises(files.FileMissing):
            files.list_files(root, folder)


def test_wire_shape(root: Path, task: Path) -> None:
    (task / "stdout.txt").chmod(0o644)
    os.utime(task / "stdout.txt", ns=(0, 1_694_071_070_129_277_456))
    first, second = (entry.wire("http://h/files") for entry in files.list_files(root, task))
    assert first == {
        "name": "stdout.txt",
        "url": "http://h/files/stdout.txt",
        "isDirectory": False,
        "properties": {
            "contentLength": "10",
            "contentType": "text/plain",
            "lastModified": "2023-09-07T07:17:50.1292774Z",
            "fileMode": "0o100644",
        },
    }
    assert second == {"name": "wd", "url": "http://h/files/wd", "isDirectory": True}


@pytest.mark.parametrize(
    ("nanoseconds", "text"), [(0, "00Z"), (500_000_000, "00.5Z"), (1_000, "00.000001Z"), (99, "00Z")]
)
def test_trailing_zeros_are_dropped(root: Path, task: Path, nanoseconds: int, text: str) -> None:
    os.utime(task / "stdout.txt", ns=(0, nanoseconds))
    assert files.file_entry(root, task, "stdout.txt").last_modified == f"1970-01-01T00:00:{text}"


def test_names_that_are_hard_on_urls_and_json(root: Path, task: Path) -> None:
    for name in ("a b\"c'.txt", "new\nline", "ünï", "50%2e.txt", "back\\slash", "x" * 200, "#?&"):
        (task / "wd" / "sub" / name).write_text(name)
        entry = files.file_entry(root, task, f"wd/sub/{name}")
        assert content(entry) == name.encode()
        address = entry.wire("http://h")["url"]
        assert urllib.parse.unquote(address.removeprefix("http://h/")) == f"wd/sub/{name}"
    Path(os.fsdecode(bytes(task / "wd" / "sub") + b"/bad\xff")).write_text("x")
    shown = [entry.wire("")["name"] for entry in files.list_files(root, task / "wd" / "sub")]
    assert "bad\ufffd" in shown
    assert all(name.encode() for name in shown)


def test_backslashes_separate_folders_too(root: Path, task: Path) -> None:
    assert content(files.file_entry(root, task, "wd\\sub\\deep.csv")) == b"a,b"


def test_ranges(root: Path, task: Path) -> None:
    entry = files.file_entry(root, task, "stdout.txt")
    assert [content(entry), content(entry, 3), content(entry, 3, 5), content(entry, 8, 99), content(entry, 20)] == [
        b"0123456789", b"3456789", b"34", b"89", b"",
    ]  # fmt: skip


def test_a_file_that_grows_ends_where_it_ended(root: Path, task: Path) -> None:
    entry = files.file_entry(root, task, "stdout.txt")
    pieces = files.read_range(entry)
    with (task / "stdout.txt").open("a") as more:
        more.write("more")
    assert b"".join(pieces) == b"0123456789"


def test_folders_pipes_and_links_put_there_since_are_not_read(root: Path, task: Path) -> None:
    with pytest.raises(files.IsFolder):
        files.read_range(files.file_entry(root, task, "wd"))
    os.mkfifo(task / "wd" / "pipe")
    with pytest.raises(files.FileMissing):
        files.read_range(files.file_entry(root, task, "wd/pipe"))
    entry = files.file_entry(root, task, "stdout.txt")
    (task / "stdout.txt").unlink()
    (task / "stdout.txt").symlink_to("/etc/passwd")
    with pytest.raises(files.FileMissing):
        files.read_range(entry)


def test_links_within_the_node_are_followed(root: Path, task: Path) -> None:
    assert content(files.file_entry(root, task, "wd/in.txt")) == b"shared"
    assert content(files.file_entry(root, task, "wd/again/again/sub/deep.csv")) == b"a,b"


BAD = [
    "",
    ".",
    "..",
    "../..",
    "wd/../../x",
    "/etc/passwd",
    "wd/out.txt",
    "wd/etc/passwd",
    "wd/etc",
    "wd/sibling/x.txt",
    "a\0b",
    "//etc",
]
BAD += [
    "..\\..\\x",
    "wd/dangling",
    "%2e%2e/x",
    "wd\\..\\..\\stdout.txt",
    "../t/stdout.txt",
    "../../../../../node-other/x.txt",
]


@pytest.mark.parametrize("name", BAD)
def test_no_way_out(root: Path, task: Path, name: str) -> None:
    with pytest.raises(files.FileMissing):
        files.file_entry(root, task, name)
    with pytest.raises(files.FileMissing):
        files.delete_file(root, task, name, recursive=True)


PIECES = st.sampled_from(
    [
        "..",
        ".",
        "",
        "/",
        "\\",
        "wd",
        "etc",
        "again",
        "sub",
        "out.txt",
        "passwd",
        "%2e%2e",
        "%2f",
        "\0",
        "~",
        "node-other",
    ]
)
NAMES = st.lists(PIECES | st.text(string.printable, max_size=3), max_size=8).map("/".join)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=300, deadline=None)
@given(NAMES | st.text(max_size=12))
def test_whatever_the_name_nothing_outside_is_reached(root: Path, task: Path, name: str) -> None:
    for spelling in (name, urllib.parse.unquote(name)):
        try:
            entry = files.file_entry(root, task, spelling)
        except files.FileMissing:
            continue
        assert entry.path == root or root in entry.path.parents
        assert os.path.realpath(entry.path) == str(entry.path)


def test_delete(root: Path, task: Path) -> None:
    with pytest.raises(files.FolderNotEmpty):
        files.delete_file(root, task, "wd/sub")
    files.delete_file(root, task, "wd/sub", recursive=True)
    files.delete_file(root, task, "stdout.txt")
    (task / "empty").mkdir()
    files.delete_file(root, task, "empty")
    names = [entry.name for entry in files.list_files(root, task, recursive=True)]
    assert names == ["wd", "wd/again", "wd/in.txt"]
    with pytest.raises(files.FileMissing):
        files.delete_file(root, task, "stdout.txt")


def test_deleting_a_link_leaves_what_it_points_to(root: Path, task: Path) -> None:
    files.delete_file(root, task, "wd/in.txt")
    files.delete_file(root, task, "wd/again", recursive=True)
    assert (root / "shared" / "input.txt").read_text() == "shared"
    assert (task / "wd" / "sub" / "deep.csv").exists()


def test_file_mode_is_octal(root: Path, task: Path) -> None:
    (task / "stdout.txt").chmod(0o750)
    mode = files.file_entry(root, task, "stdout.txt").file_mode
    assert re.fullmatch(r"0o[0-7]+", mode)
    assert mode == "0o100750"
