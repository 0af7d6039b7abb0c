from __future__ import annotations

import json
import os
from collections.abc import Callable
from datetime import datetime, timezone
from pathlib import Path, PurePosixPath

import pytest
from hypothesis import given
from hypothesis import strategies as st

from azbatchwrap.errors import ConfigurationError, NotFound, ServiceError, Unreachable
from azbatchwrap.progress import NullProgress
from azbatchwrap.storage import AzureBatchStorage, BlobEntry
from azbatchwrap.storage.download import INDEX_FILE, placed
from tests.storage.conftest import Forwarder

Opener = Callable[..., AzureBatchStorage]


class Heard(NullProgress):
    def __init__(self) -> None:
        self.messages: list[str] = []

    def message(self, text: str) -> None:
        self.messages.append(text)


@pytest.fixture
def results(storage: AzureBatchStorage) -> AzureBatchStorage:
    """A job of two tasks and another job beside it."""
    storage.create_output_folder()
    for blob in (
        "j/t1/result.json",
        "j/t1/stdout.txt",
        "j/t1/outputs/a/b.txt",
        "j/t2/result.json",
        "j2/t1/result.json",
    ):
        storage.write_bytes(storage.output_container, blob, blob.encode())
    return storage


def tree(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file() and path.name != INDEX_FILE)
    return {path.relative_to(folder).as_posix(): path.read_text() for path in files}


def test_each_task_has_a_folder(results: AzureBatchStorage, tmp_path: Path) -> None:
    paths = results.download_results("j", tmp_path / "out")
    assert tree(tmp_path / "out") == {
        "t1/result.json": "j/t1/result.json",
        "t1/stdout.txt": "j/t1/stdout.txt",
        "t1/a/b.txt": "j/t1/outputs/a/b.txt",
        "t2/result.json": "j/t2/result.json",
    }
    assert sorted(paths) == sorted(tmp_path / "out" / name for name in tree(tmp_path / "out"))


def test_only_the_tasks_asked_for(results: AzureBatchStorage, tmp_path: Path) -> None:
    assert results.download_results("j", tmp_path, tasks=["t2"]) == [tmp_path / "t2/result.json"]


def test_many_tasks_asked_for_cost_one_listing(
    results: AzureBatchStorage, opened: Opener, forwarder: Forwarder, tmp_path: Path
) -> None:
    tasks = ["t2", *(f"other{number}" for number in range(50))]
    assert opened(forwarder).download_results("j", tmp_path, tasks=tasks) == [tmp_path / "t2/result.json"]
    assert forwarder.kinds() == ["GET list", "GET"]


def test_reads_that_were_given_up_leave_their_connections_to_others(results: AzureBatchStorage) -> None:
    results.write_bytes(results.output_container, "big", b"x" * 500_000)
    for _ in range(2 * results._wire.connections):
        with results._wire.reading(results.output_container, "big") as body:
            assert next(body.pieces(10)) == b"x" * 10
    assert len(results.read_bytes(results.output_container, "big")) == 500_000


def test_a_job_without_results_is_an_empty_folder(results: AzureBatchStorage, tmp_path: Path) -> None:
    assert results.download_results("none", tmp_path / "out") == []


def test_a_tasks_folder_holds_what_that_task_left_and_the_users_own(results: AzureBatchStorage, tmp_path: Path) -> None:
    folder = tmp_path / "out"
    results.download_results("j", folder)
    (folder / "t1/notes.txt").write_text("mine")
    (folder / "t1/a/b.txt").write_text("edited")
    results.download_results("j2", folder)
    assert tree(folder) == {
        "t1/result.json": "j2/t1/result.json",
        "t1/notes.txt": "mine",
        "t1/a/b.txt": "edited",
        "t2/result.json": "j/t2/result.json",
    }


def test_nothing_outside_the_folder_is_removed(results: AzureBatchStorage, tmp_path: Path) -> None:
    folder, outside = tmp_path / "out", tmp_path / "outside.txt"
    outside.write_text("kept")
    facts = outside.stat()
    results.download_results("j", folder)
    index = json.loads((folder / INDEX_FILE).read_text())
    index["files"]["t1/../../outside.txt"] = ["any", facts.st_size, facts.st_mtime_ns]
    (folder / INDEX_FILE).write_text(json.dumps(index))
    results.download_results("j2", folder)
    assert outside.read_text() == "kept"
    assert not (folder / "t1/stdout.txt").exists()


def test_a_container_that_is_not_there_is_named(storage: AzureBatchStorage, tmp_path: Path) -> None:
    with pytest.raises(NotFound, match="azbw-none") as raised:
        storage.download_results("j", tmp_path, container="azbw-none")
    assert raised.value.code == "ContainerNotFound"


def test_a_repeat_lists_and_fetches_nothing(
    results: AzureBatchStorage, opened: Opener, forwarder: Forwarder, tmp_path: Path
) -> None:
    results.download_results("j", tmp_path)
    again = opened(forwarder)
    again.download_results("j", tmp_path)
    assert forwarder.kinds() == ["GET list"]


def test_without_its_index_files_are_compared_by_content(
    results: AzureBatchStorage, opened: Opener, forwarder: Forwarder, tmp_path: Path
) -> None:
    results.download_results("j", tmp_path)
    (tmp_path / INDEX_FILE).write_text("damaged")
    (tmp_path / "t1/stdout.txt").write_text("j/t1/stdout.TXT")
    opened(forwarder).download_results("j", tmp_path)
    assert forwarder.kinds() == ["GET list", "GET"]
    assert (tmp_path / "t1/stdout.txt").read_text() == "j/t1/stdout.txt"


def test_a_result_that_changed_or_was_edited_is_fetched_again(results: AzureBatchStorage, tmp_path: Path) -> None:
    results.download_results("j", tmp_path)
    results.write_bytes(results.output_container, "j/t1/stdout.txt", b"new")
    (tmp_path / "t2/result.json").write_text("edited")
    results.download_results("j", tmp_path)
    assert (tmp_path / "t1/stdout.txt").read_text() == "new"
    assert (tmp_path / "t2/result.json").read_text() == "j/t2/result.json"


def test_a_broken_connection_goes_on_where_it_ended(
    results: AzureBatchStorage, opened: Opener, forwarder: Forwarder, tmp_path: Path
) -> None:
    data = os.urandom(3 * 1024 * 1024)
    results.write_bytes(results.output_container, "big/t/x.bin", data)
    forwarder.cuts += [1_500_000, 700_000]
    opened(forwarder).download_results("big", tmp_path)
    assert (tmp_path / "t/x.bin").read_bytes() == data
    starts = [int(r.headers.get("x-ms-range", "bytes=0-")[6:-1]) for r in forwarder.requests if r.kind == "GET"]
    assert len(starts) == 3
    assert 0 == starts[0] < starts[1] <= 1_500_000
    assert starts[1] < starts[2] <= 2_200_000


def test_after_an_error_the_next_call_resumes(
    results: AzureBatchStorage, opened: Opener, forwarder: Forwarder, tmp_path: Path
) -> None:
    data = os.urandom(3 * 1024 * 1024)
    results.write_bytes(results.output_container, "big/t/x.bin", data)
    forwarder.cuts += [2_000_000, 0, 0, 0, 0, 0, 0]
    with pytest.raises(Unreachable, match=r"big/t/x\.bin"):
        opened(forwarder).download_results("big", tmp_path)
    assert not (tmp_path / "t/x.bin").exists()
    forwarder.cuts.clear()
    forwarder.requests.clear()
    opened(forwarder).download_results("big", tmp_path)
    assert (tmp_path / "t/x.bin").read_bytes() == data
    assert any("x-ms-range" in request.headers for request in forwarder.requests)
    assert [path.name for path in (tmp_path / "t").iterdir()] == ["x.bin"]


def test_a_blob_replaced_while_it_is_read_is_read_anew(
    results: AzureBatchStorage, opened: Opener, forwarder: Forwarder, tmp_path: Path
) -> None:
    replaced = []

    def replace(request: object) -> None:
        if not replaced and forwarder.requests[-1].kind == "GET":
            replaced.append(True)
            results.write_bytes(results.output_container, "j/t2/result.json", b"newer and longer")

    forwarder.faults.append(replace)
    opened(forwarder).download_results("j", tmp_path, tasks=["t2"])
    assert (tmp_path / "t2/result.json").read_text() == "newer and longer"


def test_content_that_does_not_match_its_digest_never_takes_its_place(
    results: AzureBatchStorage, opened: Opener, forwarder: Forwarder, tmp_path: Path
) -> None:
    forged = (200, {}, b"j/t2/result.JSON")
    forwarder.faults.append(lambda request: forged if request.kind == "GET" else None)
    with pytest.raises(ServiceError, match="arrives damaged"):
        opened(forwarder).download_results("j", tmp_path, tasks=["t2"])
    assert list((tmp_path / "t2").iterdir()) == []


def test_names_that_could_leave_the_folder_are_replaced_and_reported(opened: Opener, tmp_path: Path) -> None:
    heard = Heard()
    storage = opened(progress=heard)
    storage.create_output_folder()
    evil = ["j/t1/..%2Fnot", "j/t1/a\\..\\b", "j/t1/" + "n" * 300, "j/t1/ok"]
    for blob in evil:
        storage.write_bytes(storage.output_container, blob, b"x")
    out = tmp_path / "deep" / "out"
    paths = storage.download_results("j", out)
    assert all(path.resolve().is_relative_to(out) for path in paths)
    assert sorted(path.name for path in paths if path.name.startswith("unsafe-")) == sorted(
        path.name for path in paths if path.name not in {"ok", "..%2Fnot"}
    )
    assert len(heard.messages) == 2
    assert all("saved as t1/unsafe-" in text for text in heard.messages)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cache", "deep"]


def test_a_blob_whose_name_no_address_reaches_does_not_keep_others_back(
    opened: Opener, forwarder: Forwarder, tmp_path: Path
) -> None:
    """Azure resolves dots in addresses before it looks for the blob."""
    heard = Heard()
    storage = opened(forwarder, progress=heard)
    storage.create_output_folder()
    for blob in ("j/t1/a/../b", "j/t1/ok"):
        storage.write_bytes(storage.output_container, blob, b"x")
    forwarder.faults.append(lambda request: (404, {}, b"") if ".." in request.path else None)
    assert storage.download_results("j", tmp_path) == [tmp_path / "t1/ok"]
    assert heard.messages == ["'j/t1/a/../b' cannot be a file's name here: left out"]


@pytest.mark.parametrize("name", ["ü ñ/日本.txt", "a'b\"c.txt", "new\nline", "per%20cent", "q?x#y&z=1"])
def test_weird_names_arrive_as_they_are(storage: AzureBatchStorage, tmp_path: Path, name: str) -> None:
    storage.create_output_folder()
    storage.write_bytes(storage.output_container, f"j/t/{name}", b"x")
    assert storage.download_results("j", tmp_path) == [tmp_path / "t" / name]
    assert (tmp_path / "t" / name).read_bytes() == b"x"


def test_a_link_inside_the_folder_leads_nowhere(results: AzureBatchStorage, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out/t2").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ConfigurationError, match="leads out of"):
        results.download_results("j", tmp_path / "out")
    assert list((tmp_path / "elsewhere").iterdir()) == []


def test_a_folder_that_cannot_be_written_is_named(results: AzureBatchStorage, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("a file")
    with pytest.raises(ConfigurationError, match="out"):
        results.download_results("j", tmp_path / "out")


def entry(name: str) -> BlobEntry:
    return BlobEntry(name, 1, '"e"', datetime.now(timezone.utc))


def test_the_level_of_the_output_folder_stays_where_dropping_it_would_hide_a_file() -> None:
    targets = placed([entry("j/t/outputs/x"), entry("j/t/x"), entry("j/t/outputs/y")], "j/")
    assert {str(target.place): target.entry.name for target in targets} == {
        "t/x": "j/t/x",
        "t/outputs/x": "j/t/outputs/x",
        "t/y": "j/t/outputs/y",
    }


def test_a_blob_where_others_need_a_folder_gets_another_name() -> None:
    targets = placed([entry("j/t/x"), entry("j/t/x/y")], "j/")
    assert [(target.entry.name, target.mapped) for target in targets] == [("j/t/x", True), ("j/t/x/y", False)]


NAMES = st.lists(
    st.sampled_from(["a", "b", "..", ".", "", "outputs", "a\\b", "C:", "\0", "x" * 300]), min_size=1, max_size=5
)


@given(st.lists(NAMES.map("/".join), unique=True, max_size=8))
def test_every_blob_gets_its_own_place_inside_the_folder(blobs: list[str]) -> None:
    targets = placed([entry(f"j/{blob}") for blob in blobs], "j/")
    places = [target.place for target in targets]
    assert len(targets) == len(blobs)
    assert len(set(places)) == len(places)
    assert not any(place.is_absolute() or ".." in place.parts for place in places)
    assert not {parent for place in places for parent in place.parents} & set(places)
    assert PurePosixPath(INDEX_FILE) not in places
