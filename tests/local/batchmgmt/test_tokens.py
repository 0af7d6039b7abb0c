"""Tokens at the data plane: over TLS, for Batch, from this instance; and what else is refused."""

from __future__ import annotations

import secrets
from pathlib import Path

import pytest
import requests
from azure.batch import BatchClient

from azbatchwrap.config import Secret
from azbatchwrap.local.admin import BatchAdmin
from tests.local.batch.conftest import add_job, add_pool, add_task, completed, read_file
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


READ = """
import os, urllib.error, urllib.request
def ask(path):
    url = os.environ["AZ_BATCH_ACCOUNT_URL"] + path + "?api-version=2025-06-01"
    token = os.environ["AZ_BATCH_AUTHENTICATION_TOKEN"]
    request = urllib.request.Request(url, headers={"authorization": "Bearer " + token})
    try:
        return urllib.request.urlopen(request, timeout=30).status
    except urllib.error.HTTPError as error:
        return error.code
job = os.environ["AZ_BATCH_JOB_ID"]
print([ask(path) for path in ("/jobs/" + job, "/jobs/" + job.upper() + "/tasks", "/jobs", "/pools", "/jobs/" + job + "2")])
"""


def test_a_task_s_token_opens_its_own_job(management: Management, client: BatchClient) -> None:
    name = f"token-{secrets.token_hex(4)}"
    pool_id = add_pool(client, id=name)
    job_id = add_job(client, pool_id, id=name)
    # Clients of today have no such setting any more.
    admin = BatchAdmin(management.batch["url"], management.batch["account"], Secret(management.batch["key"]))
    task = {
        "id": "t",
        "commandLine": """/bin/sh -c 'python3 -c "$PROGRAM"'""",
        "environmentSettings": [{"name": "PROGRAM", "value": READ}],
        "authenticationTokenSettings": {"access": ["job"]},
    }
    admin.ask("POST", f"/jobs/{job_id}/tasks", task, query={"api-version": "2024-02-01.19.0"})
    assert completed(client, job_id, "t").execution_info.exit_code == 0, read_file(client, job_id, "t", "stderr.txt")
    assert read_file(client, job_id, "t") == "[200, 200, 403, 403, 403]\n"
    # Whatever the client is written with, it trusts the address.
    task |= {"id": "env", "commandLine": "/usr/bin/env"}
    admin.ask("POST", f"/jobs/{job_id}/tasks", task, query={"api-version": "2024-02-01.19.0"})
    completed(client, job_id, "env")
    lines = dict(line.partition("=")[::2] for line in read_file(client, job_id, "env").splitlines())
    trusted = {lines[name] for name in ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "NODE_EXTRA_CA_CERTS")}
    assert len(trusted) == 1
    assert "azbatchwrap" in Path(trusted.pop()).read_text()
    add_task(client, job_id, "env", id="without")
    completed(client, job_id, "without")
    assert "AUTHENTICATION_TOKEN" not in read_file(client, job_id, "without")
    client.begin_delete_job(job_id)
    client.begin_delete_pool(pool_id)
