from __future__ import annotations

import socket
import traceback
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from azbatchwrap import config
from azbatchwrap.config import Secret
from azbatchwrap.errors import AccessDenied, Conflict, NotFound, ServiceError, Throttled, Unreachable
from azbatchwrap.storage import AzureBatchStorage
from azbatchwrap.storage.faults import no_answer, refused, scrubbed, translated
from tests.fixtures_stack import RunningAzurite
from tests.storage.conftest import QUICK, Forwarder, settings_for

WRONG_KEY = "d3Jvbmc="


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (401, AccessDenied), (403, AccessDenied), (404, NotFound), (409, Conflict), (412, Conflict),
        (429, Throttled), (503, Throttled), (400, ServiceError), (500, ServiceError),
    ],
)  # fmt: skip
def test_the_status_decides_the_kind_of_error(status: int, kind: type[ServiceError]) -> None:
    error = refused("writing c/b", status, "SomeCode")
    assert type(error) is kind
    assert (error.code, error.status) == ("SomeCode", status)
    assert str(error).startswith(f"writing c/b: the storage service answered {status} SomeCode")


def test_throttling_carries_the_time_the_service_asked_for() -> None:
    error = refused("reading c/b", 503, "ServerBusy", retry_after="7")
    assert isinstance(error, Throttled)
    assert error.retry_after == 7.0


@pytest.mark.parametrize(
    "text",
    [
        "GET https://a.blob.core.windows.net/c/b?sv=1&sig=SECRET%3D failed",
        "url: /c/b?sig=SECRET (Caused by x)",
        "the signature sig=SECRET was refused",
        "AccountName=a;AccountKey=SECRET;BlobEndpoint=x",
    ],
)
def test_no_message_repeats_a_signature_or_key(text: str) -> None:
    assert "SECRET" not in scrubbed(text)
    assert "SECRET" not in str(no_answer("reading", text))


def test_the_sdk_and_our_own_requests_raise_the_same_errors(
    opened: Callable[..., AzureBatchStorage], forwarder: Forwarder
) -> None:
    forwarder.faults.append(lambda request: (403, {"x-ms-error-code": "AuthenticationFailed"}, b""))
    storage = opened(forwarder)
    for attempt in (storage.create_output_folder, lambda: storage.read_bytes("ccc", "b"), storage.list_deployments):
        with pytest.raises(AccessDenied) as raised:
            attempt()
        assert (raised.value.code, raised.value.status) == ("AuthenticationFailed", 403)


def test_a_wrong_key_is_denied_access_and_never_shown(azurite: RunningAzurite, project: str, tmp_path: Path) -> None:
    connection = azurite.connection_string.replace(azurite.key, WRONG_KEY)
    with AzureBatchStorage(settings_for(connection, project), hash_cache=tmp_path / "h") as storage:
        for attempt in (storage.create_output_folder, lambda: list(storage.list_blobs("ccc"))):
            with pytest.raises(AccessDenied) as raised:
                attempt()
            assert WRONG_KEY not in "".join(traceback.format_exception(raised.value))


def test_nobody_at_the_address(project: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("azbatchwrap.storage.wire.PATIENCE", QUICK)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    connection = (
        f"DefaultEndpointsProtocol=http;AccountName=a;AccountKey={WRONG_KEY};BlobEndpoint=http://127.0.0.1:{port}/a;"
    )
    unreachable = pytest.raises(Unreachable, match="check the account's address")
    with AzureBatchStorage(settings_for(connection, project), hash_cache=tmp_path / "h") as storage, unreachable:
        storage.read_bytes("ccc", "b")


def test_signing_in_that_fails_says_what_to_do() -> None:
    from azure.core.exceptions import ClientAuthenticationError

    with pytest.raises(AccessDenied, match="az login"), translated("listing x"):
        raise ClientAuthenticationError("DefaultAzureCredential failed")


def test_urls_of_references_and_deployments_do_not_show_in_prints(storage: AzureBatchStorage, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x")
    storage.add_input_file_path(tmp_path / "a.txt")
    files = storage.get_application_input_files()
    deployment = storage.deploy(files, b"engine", life=timedelta(hours=1))
    assert "sig=" not in repr(files) + repr(deployment)
    assert isinstance(storage.settings.storage.connection_string, Secret)
    assert config.StorageAccount is type(storage.settings.storage)
