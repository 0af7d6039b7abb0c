"""Who is let in, and how a request must look."""

from __future__ import annotations

import socket
import ssl

import pytest
import requests

from azbatchwrap.local.arm.names import SUBSCRIPTION
from tests.fixtures_aml import TIMEOUT, ArmProcess
from tests.local.arm.conftest import Group, code

GROUPS = f"/subscriptions/{SUBSCRIPTION}/resourceGroups"


class TestTokens:
    def test_none(self, arm: ArmProcess) -> None:
        answer = requests.get(f"{arm.url}{GROUPS}?api-version=2021-04-01", verify=arm.bundle, timeout=TIMEOUT)
        assert code(answer) == (401, "AuthenticationFailed")
        assert answer.headers["www-authenticate"] == "Bearer"

    @pytest.mark.parametrize("token", ["nonsense", "a.b.c", "", "e30.e30.AAAA", "é"])
    def test_not_ours(self, arm: ArmProcess, token: str) -> None:
        answer = arm.ask("GET", GROUPS, authorization=f"Bearer {token}".encode("latin-1"))  # type: ignore[arg-type]
        assert answer.status_code == 401

    def test_of_another_signature(self, arm: ArmProcess) -> None:
        token = arm.token()
        changed = token[:-2] + ("A" if token[-2] != "A" else "B") + token[-1]
        answer = arm.ask("GET", GROUPS, authorization=f"Bearer {changed}")
        assert code(answer) == (401, "InvalidAuthenticationToken")

    def test_for_another_audience(self, arm: ArmProcess) -> None:
        answer = arm.ask("GET", GROUPS, audience="https://vault.azure.net")
        assert code(answer) == (401, "InvalidAuthenticationTokenAudience")

    @pytest.mark.parametrize("audience", ["https://management.azure.com", "https://management.core.windows.net/"])
    def test_for_the_public_audience(self, arm: ArmProcess, audience: str) -> None:
        assert arm.ask("GET", GROUPS, audience=audience).status_code == 200

    @pytest.mark.parametrize(("path", "wanted"), [("token", "resource"), ("v2.0/token", "scope")])
    def test_signing_in_by_hand(self, arm: ArmProcess, path: str, wanted: str) -> None:
        form = {"grant_type": "client_credentials", "client_secret": arm.secret, wanted: "https://management.azure.com"}
        answer = requests.post(f"{arm.url}/adfs/oauth2/{path}", data=form, verify=arm.bundle, timeout=TIMEOUT)
        authorization = f"Bearer {answer.json()['access_token']}"
        assert arm.ask("GET", GROUPS, authorization=authorization).status_code == 200

    def test_a_wrong_secret(self, arm: ArmProcess) -> None:
        form = {"grant_type": "client_credentials", "client_secret": "guess", "scope": "x/.default"}
        answer = requests.post(f"{arm.url}/adfs/oauth2/token", data=form, verify=arm.bundle, timeout=TIMEOUT)
        assert (answer.status_code, answer.json()["error"]) == (401, "invalid_client")

    def test_another_grant(self, arm: ArmProcess) -> None:
        form = {"grant_type": "password", "client_secret": arm.secret, "scope": "x/.default"}
        answer = requests.post(f"{arm.url}/adfs/oauth2/token", data=form, verify=arm.bundle, timeout=TIMEOUT)
        assert (answer.status_code, answer.json()["error"]) == (400, "unsupported_grant_type")

    def test_the_admin_routes_take_the_secret_only(self, arm: ArmProcess) -> None:
        assert code(arm.ask("GET", "/_local/faults")) == (401, "AuthenticationFailed")

    def test_without_the_certificate_no_client_talks_to_it(self, arm: ArmProcess) -> None:
        import certifi

        with pytest.raises(requests.exceptions.SSLError):
            requests.get(f"{arm.url}/metadata/endpoints", verify=certifi.where(), timeout=TIMEOUT)

    def test_the_certificate_satisfies_strict_clients(self, arm: ArmProcess) -> None:
        """As Python's own have been since 3.13."""
        context = ssl.create_default_context(cafile=arm.bundle)
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        with (
            socket.create_connection(("127.0.0.1", arm.port), timeout=TIMEOUT) as plain,
            context.wrap_socket(plain, server_hostname="127.0.0.1") as secure,
        ):
            assert secure.version() in {"TLSv1.2", "TLSv1.3"}


class TestRequests:
    @pytest.mark.parametrize(
        ("query", "expected"),
        [
            ("api-version=", "MissingApiVersionParameter"),
            ("api-version=latest", "InvalidApiVersionParameter"),
            ("api-version=2021-04", "InvalidApiVersionParameter"),
        ],
    )
    def test_the_api_version(self, arm: ArmProcess, query: str, expected: str) -> None:
        assert code(arm.ask("GET", f"{GROUPS}?{query}")) == (400, expected)

    def test_case_does_not_matter(self, group: Group) -> None:
        answer = group.arm.ask("GET", group.path.upper().replace(SUBSCRIPTION.upper(), SUBSCRIPTION))
        assert answer.json()["id"] == group.path

    def test_an_unknown_address(self, arm: ArmProcess) -> None:
        assert code(arm.ask("GET", "/nowhere")) == (404, "InvalidResourceType")

    def test_a_verb_that_is_not_served(self, group: Group) -> None:
        answer = group.arm.ask("POST", group.path)
        assert code(answer) == (405, "UnsupportedHttpVerb")
        assert answer.headers["allow"] == "DELETE, GET, HEAD, PATCH, PUT"

    def test_a_malformed_subscription(self, arm: ArmProcess) -> None:
        assert code(arm.ask("GET", "/subscriptions/mine/resourceGroups")) == (400, "InvalidSubscriptionId")

    @pytest.mark.parametrize("body", [b"{", b"[]", b"\xff", b""])
    def test_a_malformed_body(self, group: Group, body: bytes) -> None:
        url = f"{group.arm.url}{group.path}?api-version=2021-04-01"
        headers = {"authorization": f"Bearer {group.arm.token()}"}
        answer = requests.put(url, data=body, headers=headers, verify=group.arm.bundle, timeout=TIMEOUT)
        assert code(answer) == (400, "InvalidRequestContent")

    def test_a_body_that_is_too_large(self, group: Group) -> None:
        answer = group.arm.ask("PUT", group.path, {"location": "x" * (4 * 1024 * 1024)})
        assert code(answer) == (413, "RequestContentTooLarge")

    def test_the_clients_request_id_comes_back(self, group: Group) -> None:
        answer = group.arm.ask("GET", group.path, **{"x-ms-client-request-id": "mine"})
        assert answer.headers["x-ms-client-request-id"] == "mine"
        assert answer.headers["x-ms-request-id"]


def test_the_cloud_describes_itself(arm: ArmProcess) -> None:
    (cloud,) = requests.get(f"{arm.url}/metadata/endpoints", verify=arm.bundle, timeout=TIMEOUT).json()
    assert cloud["resourceManager"] == f"{arm.url}/"
    assert cloud["authentication"]["loginEndpoint"] == f"{arm.url}/"
    assert cloud["suffixes"]["storage"] == "core.windows.net"
    shapes = {}
    for version in ("2015-01-01", "2019-05-01", "2022-09-01"):
        address = f"{arm.url}/metadata/endpoints?api-version={version}"
        shapes[version] = requests.get(address, verify=arm.bundle, timeout=TIMEOUT).json()
    assert shapes["2015-01-01"]["authentication"]["loginEndpoint"] == f"{arm.url}/"
    assert shapes["2015-01-01"]["graphEndpoint"] == cloud["graph"]
    assert (shapes["2019-05-01"], shapes["2022-09-01"]) == ([cloud], cloud)


def test_another_service_on_the_same_folder_gives_up(arm: ArmProcess) -> None:
    import subprocess
    import sys

    command = [sys.executable, "-m", "azbatchwrap.local.arm", "--config", str(arm.folder / "service.json")]
    said = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert said.returncode == 3
    assert "another service is running" in said.stderr
