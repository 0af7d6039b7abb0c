from __future__ import annotations

import time
from datetime import datetime, timedelta, timezone
from urllib.parse import parse_qs, urlsplit

import pytest
import responses
import urllib3
from azure.core.credentials import AccessToken
from azure.storage.blob import AccessPolicy

from azbatchwrap import config
from azbatchwrap.errors import AccessDenied, ConfigurationError
from azbatchwrap.storage import AzureBatchStorage
from azbatchwrap.storage.account import Account

HOUR = timedelta(hours=1)


def get(url: str, method: str = "GET", body: bytes | None = None, **headers: str) -> int:
    sent = {name.replace("_", "-"): value for name, value in headers.items()}
    return urllib3.request(method, url, body=body, headers=sent, retries=False).status


def with_path(url: str, path: str) -> str:
    """The address of a blob, made of a container's."""
    parts = urlsplit(url)
    return parts._replace(path=f"{parts.path}/{path}").geturl()


def test_a_container_signature_opens_what_it_says_and_nothing_else(storage: AzureBatchStorage) -> None:
    container = storage.create_output_folder()
    storage.write_bytes(container, "a", b"x")
    other = storage.create_output_folder(f"{container}-2")
    storage.write_bytes(other, "a", b"x")

    reader = storage.container_sas(container, "rl", HOUR)
    assert get(with_path(reader, "a")) == 200
    assert get(f"{reader}&restype=container&comp=list") == 200
    assert get(with_path(reader, "a"), "DELETE") == 403
    assert get(with_path(reader, "a").replace(container, other)) == 403

    writer = storage.container_sas(container, "cw", HOUR)
    assert get(with_path(writer, "new"), "PUT", b"y", x_ms_blob_type="BlockBlob") == 201
    assert get(with_path(writer, "a")) == 403
    assert storage.read_bytes(container, "new") == b"y"


def test_a_blob_signature_opens_one_blob(storage: AzureBatchStorage) -> None:
    container = storage.create_output_folder()
    for name in ("a b/ü.txt", "other"):
        storage.write_bytes(container, name, b"x")
    url = storage.blob_sas(container, "a b/ü.txt", "r", HOUR)
    assert get(url) == 200
    assert get(url.replace(urlsplit(url).path.rpartition("/")[2], "other")) == 403


def test_a_signature_ends_when_it_was_asked_to(storage: AzureBatchStorage) -> None:
    end = datetime.now(timezone.utc) + timedelta(days=30)
    query = parse_qs(urlsplit(storage.container_sas("ccc", "r", end)).query)
    assert query["se"] == [end.strftime("%Y-%m-%dT%H:%M:%SZ")]
    assert query["sr"] == ["c"]
    with pytest.raises(ConfigurationError, match="over already"):
        storage.container_sas("ccc", "r", datetime.now(timezone.utc) - HOUR)


def test_a_long_lived_signature_can_be_taken_back(storage: AzureBatchStorage) -> None:
    container = storage.create_output_folder()
    storage.write_bytes(container, "a", b"x")
    client = storage.account.client.get_container_client(container)
    client.set_container_access_policy({"mine": AccessPolicy(permission="r")})
    policy = storage.stored_policy(container, "rl")
    month = timedelta(days=30)
    reader = storage.container_sas(container, "rl", month, policy=policy)
    blob = storage.blob_sas(container, "a", "r", month, policy=storage.stored_policy(container, "r"))
    writer = storage.container_sas(container, "cw", month, policy=storage.stored_policy(container, "cw"))
    plain = storage.container_sas(container, "r", HOUR)
    assert [get(url) for url in (with_path(reader, "a"), blob, with_path(plain, "a"))] == [200, 200, 200]
    assert get(with_path(reader, "a"), "DELETE") == 403
    kept = {each.id: each.access_policy for each in client.get_container_access_policy()["signed_identifiers"]}
    assert get(with_path(writer, "new"), "PUT", b"y", x_ms_blob_type="BlockBlob") == 201
    assert set(kept) == {"mine", policy, "azbatchwrap-r", "azbatchwrap-cw"}
    client.set_container_access_policy({"mine": kept["mine"]})
    assert [get(url) for url in (with_path(reader, "a"), blob, with_path(plain, "a"))] == [403, 403, 200]


def test_only_https_for_an_account_that_speaks_it() -> None:
    account = Account(config.parse_storage("AccountName=a;AccountKey=a2V5;"))
    assert parse_qs(account.container_signature("ccc", "rl", HOUR))["spr"] == ["https"]


def test_permissions_that_do_not_exist(storage: AzureBatchStorage) -> None:
    with pytest.raises(ConfigurationError, match="not permissions"):
        storage.container_sas("ccc", "Z", HOUR)


# Signing in by identity: the emulator cannot, so a recorded answer plays the service.

ADDRESS = "https://acct.blob.core.windows.net"
DELEGATION_KEY = """<?xml version="1.0" encoding="utf-8"?><UserDelegationKey>
<SignedOid>oid</SignedOid><SignedTid>tid</SignedTid><SignedStart>2026-01-01T00:00:00Z</SignedStart>
<SignedExpiry>2026-01-08T00:00:00Z</SignedExpiry><SignedService>b</SignedService>
<SignedVersion>2021-12-02</SignedVersion><Value>a2V5</Value></UserDelegationKey>"""


class Identity:
    """Gives tokens that live for ``life`` seconds, each called by its number."""

    def __init__(self, life: float = 3600) -> None:
        self.given = 0
        self.life = life

    def get_token(self, *scopes: str, **options: object) -> AccessToken:
        assert scopes == ("https://storage.azure.com/.default",)
        self.given += 1
        return AccessToken(f"token-{self.given}", int(time.time() + self.life))


@pytest.fixture
def by_identity() -> Account:
    return Account(config.StorageAccount(None, "acct", ADDRESS), Identity())


def test_an_identity_signs_by_one_user_delegation_key(by_identity: Account) -> None:
    with responses.RequestsMock() as service:
        service.post(f"{ADDRESS}/", body=DELEGATION_KEY, content_type="application/xml")
        queries = [by_identity.container_signature("ccc", "rl", days) for days in (HOUR, timedelta(days=6))]
        assert len(service.calls) == 1
    assert [parse_qs(query)["skoid"] for query in queries] == [["oid"], ["oid"]]


def test_an_identity_cannot_sign_for_more_than_seven_days(by_identity: Account) -> None:
    longest = by_identity.longest_signature()
    assert longest is not None
    with pytest.raises(ConfigurationError, match="7 days at most"):
        by_identity.container_signature("ccc", "rl", timedelta(days=7, minutes=1))
    assert timedelta(days=6, hours=23) < longest <= timedelta(days=7)


def test_an_identity_without_the_right_to_delegate(by_identity: Account) -> None:
    with responses.RequestsMock() as service:
        refusal = {"x-ms-error-code": "AuthorizationPermissionMismatch"}
        service.post(f"{ADDRESS}/", status=403, headers=refusal)
        with pytest.raises(AccessDenied, match="user-delegation key") as raised:
            by_identity.blob_signature("ccc", "b", "r", HOUR)
    assert raised.value.code == "AuthorizationPermissionMismatch"


def test_an_identity_signs_requests_with_its_token(by_identity: Account) -> None:
    headers = [by_identity.signed("PUT", f"{ADDRESS}/c/b", {"Content-Length": "1"}, {}) for _ in range(2)]
    assert [sent["Authorization"] for sent in headers] == ["Bearer token-1", "Bearer token-1"]
    assert by_identity.url("c", "a b/ü") == f"{ADDRESS}/c/a%20b/%C3%BC"


def test_a_token_about_to_end_is_renewed() -> None:
    account = Account(config.StorageAccount(None, "acct", ADDRESS), Identity(life=100))
    headers = [account.signed("GET", f"{ADDRESS}/c/b", {}, {}) for _ in range(2)]
    assert [sent["Authorization"] for sent in headers] == ["Bearer token-1", "Bearer token-2"]


def test_an_account_key_signs_without_a_limit(storage: AzureBatchStorage) -> None:
    assert storage.longest_sas() is None
