"""Tokens at the data plane: over TLS, for Batch, from this instance; and what else is refused."""

from __future__ import annotations

import pytest
import requests

from tests.local.batchmgmt.conftest import TIMEOUT, Management

AUDIENCE = "https://batch.core.windows.net/"


def _pools(management: Management, token: str, *, url: str = "tls_url") -> requests.Response:
    return requests.get(
        f"{management.batch[url]}/pools?api-version=2025-06-01",
        headers={"authorization": f"Bearer {token}"},
        verify=management.stack.bundle,
        timeout=TIMEOUT,
    )


def test_a_token_for_batch_opens_the_data_plane(management: Management) -> None:
    answer = _pools(management, management.token(AUDIENCE))
    assert answer.status_code == 200
    assert answer.json()["odata.metadata"].startswith(management.batch["tls_url"])


def test_a_token_for_something_else_is_refused(management: Management) -> None:
    answer = _pools(management, management.token("https://storage.azure.com"))
    assert (answer.status_code, answer.json()["code"]) == (401, "AuthenticationFailed")
    assert answer.headers["www-authenticate"] == "Bearer"
    assert "wrong audience" in answer.json()["values"][0]["value"]


@pytest.mark.parametrize("change", [lambda token: token[:-3] + "abc", lambda _: "a.b.c", lambda _: "-", lambda _: "é"])
def test_a_token_of_somebody_else_is_refused(management: Management, change: object) -> None:
    token = change(management.token(AUDIENCE)).encode().decode("latin-1")
    assert _pools(management, token).status_code == 401


def test_a_token_in_clear_is_refused(management: Management) -> None:
    answer = _pools(management, management.token(AUDIENCE), url="url")
    assert (answer.status_code, answer.json()["code"]) == (403, "AuthenticationFailed")


def test_without_a_signature_tls_opens_nothing(management: Management) -> None:
    address = f"{management.batch['tls_url']}/pools?api-version=2025-06-01"
    answer = requests.get(address, verify=management.stack.bundle, timeout=TIMEOUT)
    assert answer.status_code == 403
