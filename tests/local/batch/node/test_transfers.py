from __future__ import annotations

import asyncio
import os
from pathlib import Path

import pytest

from azbatchwrap.local.batch.node import Transfers
from azbatchwrap.local.batch.node import transfers as transfers_module
from azbatchwrap.local.batch.node.records import TaskFailure
from tests.local.batch.node.blob_server import BlobServer
from tests.local.batch.node.waiting import until


@pytest.fixture
def working(tmp_path: Path) -> Path:
    return tmp_path / "task" / "wd"


@pytest.fixture(autouse=True)
def _quick_retries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfers_module, "_FIRST_WAIT", 0.001)


async def refused(transfers: Transfers, working: Path, *resources: dict) -> dict:
    with pytest.raises(TaskFailure) as caught:
        await transfers.download(resources, working)
    return caught.value.failure.wire()


def tree(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()
    }


def modes(folder: Path) -> dict[str, int]:
    return {path.name[:2]: path.stat().st_mode & 0o7777 for path in folder.rglob("*") if path.is_file()}


async def test_single_files_with_names_and_modes(transfers: Transfers, blobs: BlobServer, working: Path) -> None:
    blobs.containers["in"] |= {"a b": b"one", "empty": b"", "é": b"\x00\xff"}
    await transfers.download(
        [
            {"httpUrl": blobs.url("in", "a%20b"), "filePath": "one.sh", "fileMode": "0700"},
            {"httpUrl": blobs.url("in", "empty"), "filePath": "deep/er/empty"},
            {"httpUrl": blobs.url("in", "é"), "filePath": "ü n\nï" + "x" * 200, "fileMode": "644"},
        ],
        working,
    )
    assert tree(working) == {"one.sh": b"one", "deep/er/empty": b"", "ü n\nï" + "x" * 200: b"\x00\xff"}
    assert modes(working) == {"on": 0o700, "em": 0o770, "ü ": 0o644}


async def test_containers_with_prefix_page_by_page(transfers: Transfers, blobs: BlobServer, working: Path) -> None:
    names = [f"data/{number}/x&<y>.txt" for number in range(8)]
    blobs.containers["in"] = {name: name.encode() for name in [*names, "other/z", "data/folder/"]}
    await transfers.download(
        [{"storageContainerUrl": blobs.url("in"), "blobPrefix": "data/", "filePath": "to"}], working
    )
    assert tree(working) == {f"to/{name}": name.encode() for name in names}
    await transfers.download([{"storageContainerUrl": blobs.url("in"), "blobPrefix": "oth"}], working)
    assert (working / "other/z").read_bytes() == b"other/z"
    await transfers.download([{"storageContainerUrl": blobs.url("in"), "blobPrefix": "nothing"}], working)


async def test_auto_storage(blobs: BlobServer, working: Path) -> None:
    blobs.containers["in"]["a"] = b"a"
    linked = Transfers(auto_storage=blobs.url)
    await linked.start()
    await linked.download([{"autoStorageContainerName": "in"}], working)
    await linked.close()
    assert tree(working) == {"a": b"a"}


async def test_refusals_have_the_services_codes_and_hide_the_signature(
    transfers: Transfers, blobs: BlobServer, working: Path
) -> None:
    blobs.containers["in"]["a"] = b"a"
    blobs.faults["/in/busy"] = [503] * 20
    blobs.faults["/in/odd"] = [400]
    codes = {
        "missing": await refused(transfers, working, {"httpUrl": blobs.url("in", "none"), "filePath": "x"}),
        "no container": await refused(transfers, working, {"storageContainerUrl": blobs.url("none")}),
        "no signature": await refused(transfers, working, {"httpUrl": blobs.url("in", "a", "sig=x"), "filePath": "x"}),
        "no list": await refused(transfers, working, {"storageContainerUrl": blobs.url("in", "", "sig=x")}),
        "no account": await refused(transfers, working, {"autoStorageContainerName": "in"}),
        "busy": await refused(transfers, working, {"httpUrl": blobs.url("in", "busy"), "filePath": "x"}),
        "odd": await refused(transfers, working, {"httpUrl": blobs.url("in", "odd"), "filePath": "x"}),
        "no server": await refused(
            transfers, working, {"httpUrl": "http://127.0.0.1:1/in/a?sig=secret", "filePath": "x"}
        ),
        "no address": await refused(transfers, working, {"httpUrl": "file:///etc/passwd", "filePath": "x"}),
    }
    assert {case: (failure["category"], failure["code"]) for case, failure in codes.items()} == {
        "missing": ("UserError", "BlobNotFound"),
        "no container": ("UserError", "BlobNotFound"),
        "no signature": ("UserError", "BlobAccessDenied"),
        "no list": ("UserError", "BlobAccessDenied"),
        "no account": ("UserError", "BlobAccessDenied"),
        "busy": ("ServerError", "BlobDownloadMiscError"),
        "odd": ("ServerError", "BlobDownloadMiscError"),
        "no server": ("ServerError", "BlobDownloadMiscError"),
        "no address": ("ServerError", "BlobDownloadMiscError"),
    }
    assert codes["missing"]["details"][:2] == [
        {"name": "BlobSource", "value": f"{blobs.base}/in/none"},
        {"name": "FilePath", "value": "x"},
    ]
    assert "sig=" not in str(codes)
    assert blobs.requests.count("GET /in/busy") == transfers_module.ATTEMPTS
    assert blobs.requests.count("GET /in/odd") == 1
    assert tree(working) == {}


async def test_passing_troubles_are_overcome(transfers: Transfers, blobs: BlobServer, working: Path) -> None:
    content = os.urandom(300_000)
    blobs.containers["in"]["a"] = content
    blobs.faults["/in/a"] = [503, 0, 429]
    await transfers.download([{"httpUrl": blobs.url("in", "a"), "filePath": "a"}], working)
    assert tree(working) == {"a": content}


async def test_a_silent_server_is_given_up(blobs: BlobServer, working: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(transfers_module, "_IDLE_TIMEOUT", 0.05)
    blobs.containers["in"]["a"] = b"a"
    blobs.silent.add("/in/a")
    impatient = Transfers()
    await impatient.start()
    failure = await refused(impatient, working, {"httpUrl": blobs.url("in", "a"), "filePath": "a"})
    await impatient.close()
    assert failure["code"] == "BlobDownloadTimedOut"


@pytest.mark.parametrize("path", ["../x", "/etc/x", "a/../../x", "", "a\0b"])
async def test_paths_that_leave_the_working_folder(
    transfers: Transfers, blobs: BlobServer, working: Path, path: str
) -> None:
    blobs.containers["in"]["a"] = b"a"
    failure = await refused(transfers, working, {"httpUrl": blobs.url("in", "a"), "filePath": path})
    assert failure["code"] == "ResourceFileCreateFailed"
    assert blobs.requests == []


async def test_blob_names_and_links_that_leave(transfers: Transfers, blobs: BlobServer, working: Path) -> None:
    blobs.containers["in"] = {"../../evil": b"x"}
    failure = await refused(transfers, working, {"storageContainerUrl": blobs.url("in")})
    assert failure["code"] == "ResourceFileCreateFailed"
    (working / "link").symlink_to(working.parent)
    failure = await refused(transfers, working, {"httpUrl": blobs.url("in", "a"), "filePath": "link/x"})
    assert failure["code"] == "ResourceDirectoryCreateFailed"
    assert list(working.parent.iterdir()) == [working]


async def test_modes_and_places_that_cannot_be(transfers: Transfers, blobs: BlobServer, working: Path) -> None:
    blobs.containers["in"] = {"a": b"a"}
    bad_mode = await refused(transfers, working, {"httpUrl": blobs.url("in", "a"), "filePath": "x", "fileMode": "rwx"})
    assert bad_mode["code"] == "ResourceFileCreateFailed"
    (working / "folder").mkdir()
    onto = await refused(transfers, working, {"httpUrl": blobs.url("in", "a"), "filePath": "folder"})
    assert onto["code"] == "ResourceFileWriteFailed"
    too_long = await refused(transfers, working, {"httpUrl": blobs.url("in", "a"), "filePath": "x" * 300})
    assert too_long["code"] == "ResourceFileWriteFailed"
    assert tree(working) == {}


def output(blobs: BlobServer, pattern: str, path: str = "", condition: str = "taskcompletion", **container) -> dict:
    place = {"containerUrl": blobs.url("out"), "path": path, **container}
    return {
        "filePattern": pattern,
        "destination": {"container": place},
        "uploadOptions": {"uploadCondition": condition},
    }


@pytest.fixture
def done(working: Path) -> Path:
    """The folder of a task that has run."""
    (working / "outputs" / "sub").mkdir(parents=True)
    for name in ("../stdout.txt", "result.json", "outputs/a b.txt", "outputs/sub/ü.txt", "outputs/.hidden"):
        (working / name).write_text(name)
    return working.parent


async def test_names_of_uploaded_files(transfers: Transfers, blobs: BlobServer, done: Path) -> None:
    outputs = [
        output(blobs, "../std*.txt", "job/t"),
        output(blobs, "result.json", "job/t/result.json"),
        output(blobs, "outputs/**/*", "job/t/"),
        output(blobs, "result.json"),
        output(blobs, "$WHERE/a*", "$WHERE"),
        output(blobs, "nothing*", "job"),
    ]
    assert await transfers.upload(outputs, done, {"WHERE": "outputs"}, succeeded=True) is None
    assert blobs.containers["out"] == {
        "job/t/stdout.txt": b"../stdout.txt",
        "job/t/result.json": b"result.json",
        "job/t/a b.txt": b"outputs/a b.txt",
        "job/t/sub/ü.txt": "outputs/sub/ü.txt".encode(),
        "result.json": b"result.json",
        "$WHERE/a b.txt": b"outputs/a b.txt",
    }
    log = (done / "fileuploadout.txt").read_text()
    assert log.count(" -> ") == 6
    assert "sig=" not in log
    assert (done / "fileuploaderr.txt").read_text() == ""


@pytest.mark.parametrize(
    ("succeeded", "names"), [(True, {"success", "completion"}), (False, {"failure", "completion"})]
)
async def test_conditions(
    transfers: Transfers, blobs: BlobServer, done: Path, succeeded: bool, names: set[str]
) -> None:
    outputs = [output(blobs, "result.json", name, f"task{name}") for name in ("success", "failure", "completion")]
    await transfers.upload(outputs, done, {}, succeeded=succeeded)
    assert blobs.containers["out"].keys() == names


async def test_upload_headers(transfers: Transfers, blobs: BlobServer, done: Path) -> None:
    headers = [{"name": "x-ms-blob-content-type", "value": "text/csv"}, {"name": "x-ms-access-tier", "value": "Cool"}]
    await transfers.upload([output(blobs, "result.json", "r", uploadHeaders=headers)], done, {}, succeeded=True)
    assert blobs.headers["r"]["x-ms-blob-content-type"] == "text/csv"
    assert blobs.headers["r"]["x-ms-access-tier"] == "Cool"


async def test_large_files_go_as_blocks(
    transfers: Transfers, blobs: BlobServer, done: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfers_module, "_BLOCK", 3 << 20)
    content = os.urandom((7 << 20) + 5)
    (done / "wd" / "big").write_bytes(content)
    blobs.faults["/out/big"] = [503]
    headers = [{"name": "x-ms-blob-content-type", "value": "image/png"}]
    assert await transfers.upload([output(blobs, "big", uploadHeaders=headers)], done, {}, succeeded=True) is None
    assert blobs.containers["out"]["big"] == content
    assert blobs.headers["big"]["x-ms-blob-content-type"] == "image/png"


async def test_what_cannot_be_uploaded_is_named_and_the_rest_goes(
    transfers: Transfers, blobs: BlobServer, done: Path
) -> None:
    missing = output(blobs, "result.json", "x", containerUrl=blobs.url("none"))
    denied = output(blobs, "result.json", "x", containerUrl=blobs.url("out", "", "sig=x"))
    broken = output(blobs, "result.json", "x", containerUrl="http://127.0.0.1:1/out?sig=secret")
    first = {}
    for name, bad in {"missing": missing, "denied": denied, "broken": broken}.items():
        failure = await transfers.upload([bad, output(blobs, "result.json", name)], done, {}, succeeded=True)
        first[name] = (failure.category, failure.code)
        assert failure.code in (done / "fileuploaderr.txt").read_text()
        assert "sig=" not in (done / "fileuploaderr.txt").read_text()
    assert first == {
        "missing": ("UserError", "FileUploadContainerNotFound"),
        "denied": ("UserError", "FileUploadAccessDenied"),
        "broken": ("UserError", "FileUploadMiscError"),
    }
    assert blobs.containers["out"].keys() == {"missing", "denied", "broken"}


async def test_proxies_are_for_other_machines(blobs: BlobServer, working: Path) -> None:
    """A server that plays the proxy sees the foreign address; loopback and no_proxy addresses go straight."""
    blobs.containers["in"]["a"] = b"straight"
    blobs.containers["far"] = {"a": b"by proxy"}
    behind = Transfers(network={"HTTP_PROXY": blobs.base, "no_proxy": "far.example, 127.0.0.2"})
    await behind.start()
    await behind.download([{"httpUrl": blobs.url("in", "a"), "filePath": "near"}], working)
    await behind.download([{"httpUrl": "http://blob.example/far/a?sig=a%2Bb%2F%3D", "filePath": "far"}], working)
    failure = await refused(behind, working, {"httpUrl": "http://127.0.0.2:1/far/a", "filePath": "none"})
    await behind.close()
    assert tree(working) == {"near": b"straight", "far": b"by proxy"}
    assert failure["code"] == "BlobDownloadMiscError"  # nobody listens there; the proxy would have answered


async def test_many_files_share_a_bounded_number_of_connections(
    transfers: Transfers, blobs: BlobServer, working: Path
) -> None:
    blobs.containers["in"] = {f"{number:03}": str(number).encode() for number in range(300)}
    resources = [{"httpUrl": blobs.url("in", name), "filePath": f"in/{name}"} for name in blobs.containers["in"]]
    await asyncio.gather(*(transfers.download(resources[part::3], working) for part in range(3)))
    await transfers.upload([output(blobs, "in/*", "back")], working.parent, {}, succeeded=True)
    assert blobs.containers["out"] == {f"back/{name}": body for name, body in blobs.containers["in"].items()}
    assert blobs.most_at_once <= 16


async def test_a_download_that_is_cancelled_leaves_nothing_half(
    transfers: Transfers, blobs: BlobServer, working: Path
) -> None:
    blobs.containers["in"]["a"] = b"a"
    blobs.silent.add("/in/a")
    downloading = asyncio.ensure_future(
        transfers.download([{"httpUrl": blobs.url("in", "a"), "filePath": "a"}], working)
    )
    await until(lambda: bool(blobs.requests))
    downloading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await downloading
    assert tree(working) == {}
