"""What is in the input folder, and what arrives there."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from azbatchwrap.batchkit.inbox import Inbox, has_writer, list_folder
from tests.batchkit.conftest import until


def test_folders_below_are_listed_and_hidden_ones_are_not(tmp_path: Path) -> None:
    for name in ("b.txt", "a folder/ü\n.txt", ".hidden/c.txt", "a folder/.d.txt", "e.wav"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "dangling").symlink_to("nowhere")

    def is_text(path: Path) -> bool:
        return path.suffix == ".txt" and not path.name.startswith(".")

    assert list_folder(tmp_path, is_text) == [tmp_path / "a folder" / "ü\n.txt", tmp_path / "b.txt"]
    assert list_folder(tmp_path, is_text, recursive=False) == [tmp_path / "b.txt"]
    with pytest.raises(OSError, match="No such file"):
        list_folder(tmp_path / "gone", is_text)


def test_a_file_that_is_being_written_is_told(tmp_path: Path) -> None:
    path = tmp_path / "file"
    with path.open("w") as stream:
        stream.write("half")
        stream.flush()
        assert has_writer(path) in {True, None}
    assert has_writer(path) in {False, None}
    assert has_writer(tmp_path / "gone") is None


@pytest.mark.parametrize("notified", [True, False])
async def test_each_content_is_given_once(
    tmp_path: Path, notified: bool, monkeypatch: pytest.MonkeyPatch, can_tell: Callable[[Path], bool | None]
) -> None:
    monkeypatch.setattr("azbatchwrap.batchkit.inbox.has_writer", can_tell)
    monkeypatch.setattr("azbatchwrap.batchkit.inbox.STILL", 0.1)
    inbox = Inbox(tmp_path, lambda path: path.suffix == ".txt", recursive=True, poll=0.1, notified=notified)
    seen: list[tuple[str, bool]] = []

    async def follow() -> None:
        async for arrival in inbox.arrivals():
            seen.extend((path.name, arrival.again) for path in arrival.files)

    (tmp_path / "one.txt").write_text("1")
    following = asyncio.create_task(follow())
    try:
        await until(lambda: [name for name, _ in seen] == ["one.txt"])
        (tmp_path / "folder").mkdir()
        (tmp_path / "folder" / "two.txt").write_text("2")
        (tmp_path / "other.wav").write_text("-")
        await until(lambda: ("two.txt", True) in seen)
        os.utime(tmp_path / "one.txt")
        await until(lambda: ("one.txt", True) in seen)
        inbox.scan_soon()
        (tmp_path / "three.txt").write_text("3")
        await until(lambda: ("three.txt", True) in seen)
        assert [name for name, _ in seen] == ["one.txt", "two.txt", "one.txt", "three.txt"]
    finally:
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


@pytest.fixture(params=["the system tells of writers", "it does not"])
def can_tell(request: pytest.FixtureRequest) -> Callable[[Path], bool | None]:
    return has_writer if request.param == "the system tells of writers" else lambda _: None
