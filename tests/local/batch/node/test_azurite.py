"""The same transfers against real Blob storage: Azurite, filled and read with the real SDK."""

from __future__ import annotations

import os
import uuid
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest
from azure.storage.blob import ContainerClient, ContainerSasPermissions, generate_container_sas

from azbatchwrap.local.batch.node import Transfers
from azbatchwrap.local.batch.node import transfers as transfers_module
from azbatchwrap.local.batch.node.records import TaskFailure

ODD_NAMES = ("plain.txt", "a b/ü %41 #?&+.txt", "deep/er/quote'\".txt", "empty")


class Container:
    """A container of Azurite and signed addresses of it."""

    def __init__(self, azurite) -> None:
        self.azurite = azurite
        self.name = f"node-{uuid.uuid4().hex}"
        self.client = ContainerClient.from_connection_string(azurite.connection_string, self.name)

    def signed(self, permissions: str, name: str = "") -> str:
        signature = generate_container_sas(
            self.azurite.account,
            self.name,
            self.azurite.key,
            permission=ContainerSasPermissions.from_string(permissions),
            expiry=datetime.now(timezone.utc) + timedelta(hours=1),
        )
        blob = self.client.get_blob_client(name).url if name else self.client.url
        return f"{blob}?{signature}"

    def content(self) -> dict[str, bytes]:
        return {name: self.client.download_blob(name).readall() for name in self.client.list_blob_names()}


@pytest.fixture
def container(azurite) -> Container:
    container = Container(azurite)
    container.client.create_container()
    return container


async def code(transfers: Transfers, working: Path, **resource: str) -> str:
    with pytest.raises(TaskFailure) as caught:
        await transfers.download([resource], working)
    return caught.value.failure.code


def files_below(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


async def test_resource_files(transfers: Transfers, container: Container, tmp_path: Path) -> None:
    for name in ODD_NAMES:
        container.client.upload_blob(name, b"" if name == "empty" else name.encode())
    expected = {name: b"" if name == "empty" else name.encode() for name in ODD_NAMES}
    await transfers.download([{"storageContainerUrl": container.signed("rl")}], tmp_path / "all")
    assert files_below(tmp_path / "all") == expected
    below = {"storageContainerUrl": container.signed("rl"), "blobPrefix": "a b/", "filePath": "in"}
    await transfers.download([below], tmp_path / "some")
    assert files_below(tmp_path / "some") == {f"in/{ODD_NAMES[1]}": ODD_NAMES[1].encode()}
    one = {"httpUrl": container.signed("r", ODD_NAMES[1]), "filePath": "one"}
    await transfers.download([one], tmp_path / "one")
    assert files_below(tmp_path / "one") == {"one": ODD_NAMES[1].encode()}


async def test_refused_resource_files(transfers: Transfers, container: Container, tmp_path: Path) -> None:
    container.client.upload_blob("there", b"x")
    signed = container.signed("r", "there")
    unsigned = signed.partition("?")[0]
    assert await code(transfers, tmp_path, httpUrl=container.signed("r", "none"), filePath="x") == "BlobNotFound"
    assert await code(transfers, tmp_path, httpUrl=f"{signed}AA", filePath="x") == "BlobAccessDenied"
    assert await code(transfers, tmp_path, httpUrl=container.signed("w", "there"), filePath="x") == "BlobAccessDenied"
    assert await code(transfers, tmp_path, storageContainerUrl=container.signed("r")) == "BlobAccessDenied"
    # A private container does not tell strangers what it holds; which of the two codes is storage's choice.
    assert await code(transfers, tmp_path, httpUrl=unsigned, filePath="x") in {"BlobNotFound", "BlobAccessDenied"}


async def test_output_files_with_create_and_write_only(
    transfers: Transfers, container: Container, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfers_module, "_BLOCK", 2 << 20)
    large = os.urandom((5 << 20) + 1)
    (tmp_path / "wd" / "outputs" / "sub").mkdir(parents=True)
    (tmp_path / "wd" / "outputs" / "large").write_bytes(large)
    (tmp_path / "wd" / "outputs" / "sub" / "ü %41 #?&+.txt").write_text("odd")
    (tmp_path / "wd" / "outputs" / "empty").touch()
    headers = [{"name": "x-ms-blob-content-type", "value": "image/png"}]
    place = {"containerUrl": container.signed("cw"), "path": "job/t", "uploadHeaders": headers}
    output = {"filePattern": "outputs/**/*", "destination": {"container": place}}
    assert await transfers.upload([output], tmp_path, {}, succeeded=True) is None
    assert container.content() == {"job/t/large": large, "job/t/sub/ü %41 #?&+.txt": b"odd", "job/t/empty": b""}
    kinds = {blob.content_settings.content_type for blob in container.client.list_blobs()}
    assert kinds == {"image/png"}
    assert await transfers.upload([output], tmp_path, {}, succeeded=True) is None  # a second attempt overwrites


@pytest.mark.parametrize(
    ("permissions", "expected"),
    [("rl", "FileUploadAccessDenied"), ("cw", "FileUploadContainerNotFound")],
)
async def test_refused_output_files(
    transfers: Transfers, container: Container, tmp_path: Path, permissions: str, expected: str
) -> None:
    (tmp_path / "wd").mkdir()
    (tmp_path / "wd" / "a").write_text("a")
    if expected == "FileUploadContainerNotFound":
        container.client.delete_container()
    place = {"containerUrl": container.signed(permissions)}
    failure = await transfers.upload(
        [{"filePattern": "a", "destination": {"container": place}}], tmp_path, {}, succeeded=True
    )
    assert failure.code == expected
