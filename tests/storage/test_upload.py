from __future__ import annotations

import base64
import hashlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from azbatchwrap import names
from azbatchwrap.errors import AccessDenied, ConfigurationError, ServiceError, Throttled
from azbatchwrap.local import processes
from azbatchwrap.storage import AzureBatchStorage, upload, wire
from azbatchwrap.storage.upload import MIB, SINGLE, block_id, block_size
from tests.fixtures_stack import RunningAzurite, running_azurite
from tests.storage.conftest import Forwarder, Request, settings_for

Opener = Callable[..., AzureBatchStorage]


def aged(path: Path) -> Path:
    """``path``, last changed long enough ago for its hash to be remembered."""
    os.utime(path, (time.time() - 100, time.time() - 100))
    return path


def many(folder: Path, count: int) -> Path:
    folder.mkdir()
    for number in range(count):
        (folder / f"{number}.txt").write_text(f"file {number}")
        aged(folder / f"{number}.txt")
    return folder


def content(storage: AzureBatchStorage, sha256: str) -> bytes:
    return storage.read_bytes(storage.files_container, names.content_blob(sha256))


def test_a_file_becomes_a_blob_named_by_its_content(storage: AzureBatchStorage, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes(b"hello")
    storage.add_input_file_path(tmp_path / "a.txt")
    storage.upload_input_files()
    [file] = storage.get_application_input_files()
    assert (file.name, file.size, file.sha256) == ("a.txt", 5, hashlib.sha256(b"hello").hexdigest())
    assert content(storage, file.sha256) == b"hello"


def test_each_small_file_costs_one_request_and_equal_ones_one_together(
    opened: Opener, forwarder: Forwarder, tmp_path: Path
) -> None:
    folder = many(tmp_path / "data", 40)
    (folder / "twin.txt").write_text("file 1")
    storage = opened(forwarder)
    storage.add_input_file_path(folder)
    storage.upload_input_files()
    kinds = forwarder.kinds()
    assert kinds.count("PUT") == 41  # 40 blobs and the container
    assert len(kinds) == 42  # and one listing


def test_a_repeat_is_made_of_listings_only_and_reads_no_file(
    opened: Opener, forwarder: Forwarder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = many(tmp_path / "data", 30)
    large = tmp_path / "large.bin"
    large.write_bytes(b"x" * (SINGLE + 1))
    aged(large)
    for turn in range(2):
        if turn == 1:
            monkeypatch.setattr(upload.Uploader, "_small", None)
            monkeypatch.setattr(upload.Uploader, "_sha256", None)
            forwarder.requests.clear()
        storage = opened(forwarder)
        storage.add_input_file_path(folder)
        storage.add_input_file_path(large)
        storage.upload_input_files()
        assert len(storage.get_application_input_files()) == 31
        storage.close()
    assert forwarder.kinds() == ["GET list"]


def test_a_changed_file_is_sent_again(opened: Opener, tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    hashes = []
    for text in ("one", "two"):
        path.write_text(text)
        storage = opened()
        storage.add_input_file_path(path)
        [file] = storage.get_application_input_files()
        assert content(storage, file.sha256) == text.encode()
        hashes.append(file.sha256)
    assert len(set(hashes)) == 2


def test_a_second_upload_in_one_object_sees_the_change(storage: AzureBatchStorage, tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_text("one")
    storage.add_input_file_path(path)
    [before] = storage.get_application_input_files()
    path.write_text("two!")
    storage.upload_input_files()
    [after] = storage.get_application_input_files()
    assert (before.size, after.size) == (3, 4)


@pytest.mark.parametrize("size", [0, 1, SINGLE, SINGLE + 1, 20 * MIB + 7])
def test_every_size_arrives_whole(storage: AzureBatchStorage, tmp_path: Path, size: int) -> None:
    data = os.urandom(size)
    (tmp_path / "x.bin").write_bytes(data)
    storage.add_input_file_path(tmp_path / "x.bin")
    [file] = storage.get_application_input_files()
    assert content(storage, file.sha256) == data


def test_blobs_that_are_missing_or_short_are_sent_again(opened: Opener, tmp_path: Path) -> None:
    folder = many(tmp_path / "data", 3)
    first = opened()
    first.add_input_file_path(folder)
    files = first.get_application_input_files()
    first.delete_blobs(first.files_container, [names.content_blob(files[0].sha256)])
    first.write_bytes(first.files_container, names.content_blob(files[1].sha256), b"sh")

    second = opened()
    second.add_input_file_path(folder)
    second.upload_input_files()
    assert [content(second, file.sha256) for file in files] == [b"file 0", b"file 1", b"file 2"]


def test_a_file_that_changes_once_while_it_is_sent_arrives_as_it_is_then(
    opened: Opener, forwarder: Forwarder, tmp_path: Path
) -> None:
    path = tmp_path / "x.bin"
    path.write_bytes(b"a" * (20 * MIB))

    def change(request: Request) -> None:
        if request.kind == "PUT block" and path.read_bytes()[:1] == b"a":
            path.write_bytes(b"b" * (20 * MIB))

    forwarder.faults.append(change)
    storage = opened(forwarder)
    storage.add_input_file_path(path)
    [file] = storage.get_application_input_files()
    stored = content(storage, file.sha256)
    assert hashlib.sha256(stored).hexdigest() == file.sha256
    assert len(set(stored)) == 1


def test_a_file_that_never_stops_changing_is_named_and_leaves_no_blob(
    opened: Opener, forwarder: Forwarder, tmp_path: Path
) -> None:
    path = tmp_path / "x.bin"
    path.write_bytes(b"a" * (96 * MIB))

    def change(request: Request) -> None:
        if request.kind == "PUT block":
            with path.open("r+b") as file:
                file.seek(-8, os.SEEK_END)
                file.write(len(forwarder.requests).to_bytes(8, "big"))

    forwarder.faults.append(change)
    storage = opened(forwarder)
    storage.add_input_file_path(path)
    with pytest.raises(ConfigurationError, match=r"x\.bin keeps changing"):
        storage.upload_input_files()
    assert list(storage.list_blobs(storage.files_container)) == []


def test_a_file_that_vanished_is_named(storage: AzureBatchStorage, tmp_path: Path) -> None:
    path = tmp_path / "gone.txt"
    path.write_text("x")
    storage.add_input_file_path(path)
    path.unlink()
    with pytest.raises(ConfigurationError, match=r"gone\.txt"):
        storage.upload_input_files()


def test_throttling_and_server_errors_are_waited_out(opened: Opener, forwarder: Forwarder, tmp_path: Path) -> None:
    folder = many(tmp_path / "data", 10)
    statuses = [429, 500, 503, 502]

    def refuse(request: Request) -> tuple[int, dict[str, str], bytes] | None:
        return (statuses.pop(), {}, b"") if statuses and request.method == "PUT" and not request.query else None

    forwarder.faults.append(refuse)
    storage = opened(forwarder)
    storage.add_input_file_path(folder)
    storage.upload_input_files()
    assert statuses == []
    assert len(list(storage.list_blobs(storage.files_container))) == 10


def test_lasting_throttling_is_an_error_and_what_was_sent_stays(
    opened: Opener, forwarder: Forwarder, tmp_path: Path
) -> None:
    folder = many(tmp_path / "data", 30)
    sent = threading.Semaphore(5)

    def refuse(request: Request) -> tuple[int, dict[str, str], bytes] | None:
        if request.method != "PUT" or request.query or sent.acquire(blocking=False):
            return None
        return 503, {"x-ms-error-code": "ServerBusy", "Retry-After": "0"}, b""

    forwarder.faults.append(refuse)
    storage = opened(forwarder)
    storage.add_input_file_path(folder)
    with pytest.raises(Throttled) as raised:
        storage.upload_input_files()
    assert (raised.value.code, raised.value.status, raised.value.retry_after) == ("ServerBusy", 503, 0.0)

    forwarder.faults.clear()
    forwarder.requests.clear()
    again = opened(forwarder)
    again.add_input_file_path(folder)
    again.upload_input_files()
    assert len(list(again.list_blobs(again.files_container))) == 30
    assert [request.method for request in forwarder.requests].count("PUT") == 25


def test_a_refusal_ends_the_upload_at_once_even_of_a_large_file(
    opened: Opener, forwarder: Forwarder, tmp_path: Path
) -> None:
    (tmp_path / "x.bin").write_bytes(b"a" * (100 * MIB))
    denied = (403, {"x-ms-error-code": "AuthorizationFailure"}, b"")
    forwarder.faults.append(lambda request: denied if request.kind == "PUT block" else None)
    storage = opened(forwarder)
    storage.add_input_file_path(tmp_path / "x.bin")
    with pytest.raises(AccessDenied, match="Storage Blob Data Contributor") as raised:
        storage.upload_input_files()
    assert raised.value.code == "AuthorizationFailure"
    assert forwarder.kinds().count("PUT block") < 12


def test_damage_on_the_way_is_noticed_by_the_service(
    storage: AzureBatchStorage, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage.create_output_folder()
    monkeypatch.setattr(wire, "_md5", lambda data: base64.b64encode(hashlib.md5(b"other").digest()).decode())
    with pytest.raises(ServiceError) as raised:
        storage.write_bytes(storage.output_container, "x", b"abc")
    assert raised.value.status == 400
    assert list(storage.list_blobs(storage.output_container)) == []


def test_memory_is_bounded(azurite: RunningAzurite, project: str, tmp_path: Path) -> None:
    for number in range(1):
        with (tmp_path / f"{number}.bin").open("wb") as file:
            file.write(os.urandom(MIB))
            file.truncate(200 * MIB)
    for number in range(24):
        (tmp_path / f"{number}.mid").write_bytes(os.urandom(16) * (SINGLE // 16))
    code = (
        "import sys; from pathlib import Path\n"
        "from azbatchwrap.storage import AzureBatchStorage; from tests.storage.conftest import settings_for\n"
        "folder, project = Path(sys.argv[1]), sys.argv[2]\n"
        "settings = settings_for(sys.stdin.read(), project)\n"
        "storage = AzureBatchStorage(settings, hash_cache=folder / 'hashes')\n"
        "storage.create_output_folder()\n"
        "peak = lambda: int(Path('/proc/self/status').read_text().partition('VmHWM:')[2].split()[0])\n"
        "before = peak()\n"
        "storage.add_input_file_path(f'{folder}/*.bin'); storage.add_input_file_path(f'{folder}/*.mid')\n"
        "storage.upload_input_files()\n"
        "print(peak() - before)\n"
    )
    command = [sys.executable, "-c", code, str(tmp_path), project]
    root = Path(__file__).parents[2]
    done = subprocess.run(
        command, input=azurite.connection_string, capture_output=True, text=True, timeout=100, check=True, cwd=root
    )
    assert int(done.stdout) < 140 * 1024, done.stdout  # KiB, for 296 MiB of files


@pytest.mark.parametrize(
    ("size", "expected"), [(1, 8), (400 * 1000 * MIB, 8), (500_000 * MIB, 10), (500_001 * MIB, 11)]
)
def test_blocks_grow_with_the_file(size: int, expected: int) -> None:
    assert block_size(size) == expected * MIB
    assert -(-size // block_size(size)) <= 50_000


def test_block_ids_have_one_length_and_sort() -> None:
    ids = [block_id(number) for number in (0, 9, 10, 49_999)]
    assert len({len(text) for text in ids}) == 1


def test_after_azurite_was_killed_what_it_lost_is_sent_again(project: str, tmp_path: Path) -> None:
    folder = many(tmp_path / "data", 20)
    with running_azurite(tmp_path / "azurite") as azurite:
        settings = settings_for(azurite.connection_string, project)
        for turn in range(2):
            with AzureBatchStorage(settings, hash_cache=tmp_path / "hashes") as storage:
                storage.add_input_file_path(folder)
                files = storage.get_application_input_files()
                assert {content(storage, file.sha256) for file in files} == {f"file {n}".encode() for n in range(20)}
            if turn == 0:
                pid = azurite.process.service.last_heard()["pid"]
                os.kill(pid, signal.SIGKILL)
                azurite.process.service.listening.unlink()
                processes.wait_until_listening(azurite.process.service, azurite.process.start(), 60)
