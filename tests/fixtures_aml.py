"""Fixtures: the management plane alone, and a whole instance with it as `azbatchwrap local up --aml` makes it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import requests

from azbatchwrap import config
from azbatchwrap.local import management
from azbatchwrap.local.arm.certificate import Certificate
from azbatchwrap.local.arm.names import CLIENT_ID, SUBSCRIPTION, TENANT
from azbatchwrap.local.stack import Options, Stack
from tests.fixtures_stack import LocalStack, RunningAzurite, clean_environment, ended_stack, local_variables
from tests.waiting import wait_until

#: Seconds that one request may take.
TIMEOUT = 30


class AdminRoutes:
    """The faults and the journal of a management plane at ``url``."""

    def __init__(self, url: str, secret: str, bundle: str) -> None:
        self.url, self.secret, self.bundle = url, secret, bundle

    def _ask(self, method: str, address: str, body: object = None) -> Any:
        headers = {"authorization": f"Bearer {self.secret}"}
        answer = requests.request(
            method, f"{self.url}/_local/{address}", json=body, headers=headers, verify=self.bundle, timeout=TIMEOUT
        )
        answer.raise_for_status()
        return answer.json()

    def fault(self, kind: str, path: str, **further: object) -> None:
        """Set a fault (see azbatchwrap/local/arm/faults.py)."""
        self._ask("POST", "faults", {"kind": kind, "path": path, **further})

    def faults(self) -> list[dict[str, Any]]:
        return list(self._ask("GET", "faults")["value"])

    def clear_faults(self) -> None:
        self._ask("DELETE", "faults")

    def mark(self) -> int:
        """The number of the last request so far."""
        return int(self._ask("GET", "requests")["last"])

    def requests(self, since: int = 0) -> list[dict[str, Any]]:
        """What was asked after ``since``: number, method, path, version, status."""
        return list(self._ask("GET", f"requests?since={since}")["value"])

    def writes(self, since: int = 0) -> list[str]:
        """``VERB path`` of every request after ``since`` that could change something."""
        changing = {"PUT", "POST", "PATCH", "DELETE"}
        found = self.requests(since)
        return [
            f"{each['method']} {each['path']}"
            for each in found
            if each["method"] in changing and not each["path"].startswith(f"/{TENANT}/")
        ]


@dataclass(frozen=True)
class AmlStack(LocalStack):
    """A running instance with the management plane. ``environment`` leads to it as `azbatchwrap local env` would."""

    url: str
    subscription: str
    client_id: str
    client_secret: str
    bundle: str

    @property
    def admin(self) -> AdminRoutes:
        return AdminRoutes(self.url, self.client_secret, self.bundle)

    def use(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Let the SDKs of this very process find it (until the test is over)."""
        use(self.environment, monkeypatch)


def use(environment: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    # azure-ai-ml remembers the cloud in this variable: it is to be gone before the test, and after it.
    monkeypatch.setenv("AZUREML_CURRENT_CLOUD", "")
    monkeypatch.delenv("AZUREML_CURRENT_CLOUD")
    for name, value in environment.items():
        if name.startswith(("AZURE_", "ARM_", "REQUESTS_", "AZBATCHWRAP_")):
            monkeypatch.setenv(name, value)


@pytest.fixture(scope="session")
def aml_stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AmlStack]:
    """One instance for all tests of a worker: use resource groups and names of your own, clear the faults you set."""
    folder = tmp_path_factory.mktemp("aml-instance")
    with ended_stack(folder):
        Stack(folder).up(Options(max_processes=4, aml=True))
        yield aml_stack_of(folder)


def aml_stack_of(folder: Path) -> AmlStack:
    """The running instance in ``folder``."""
    endpoint = config.read_endpoint(folder)
    assert endpoint is not None
    facts = Stack(folder).endpoint()["aml"]
    environment = clean_environment(folder) | local_variables(endpoint) | management.variables(facts)
    return AmlStack(
        folder,
        environment,
        endpoint,
        facts["url"],
        facts["subscription_id"],
        facts["client_id"],
        facts["client_secret"],
        facts["ca_bundle"],
    )


class ArmProcess:
    """The management plane alone, over a given Azurite: start it, kill it, start it again on the same data and port."""

    def __init__(self, folder: Path, storage: str, **settings: Any) -> None:
        self.folder = folder
        self.data_dir = folder / "arm"
        self.secret = "a secret of this test"
        self.settings = {"storage": storage, "max_processes": 2, **settings}
        self.port = 0
        self.process: subprocess.Popen[bytes] | None = None
        self._tokens: dict[str, str] = {}
        self._session = requests.Session()

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    @property
    def bundle(self) -> str:
        return str(self.data_dir / "ca-bundle.pem")

    @property
    def admin(self) -> AdminRoutes:
        return AdminRoutes(self.url, self.secret, self.bundle)

    @property
    def log(self) -> str:
        return (self.folder / "service.log").read_text()

    @property
    def environment(self) -> dict[str, str]:
        return management.variables(
            {
                "url": self.url,
                "ca_bundle": self.bundle,
                "tenant_id": TENANT,
                "client_id": CLIENT_ID,
                "client_secret": self.secret,
                "subscription_id": SUBSCRIPTION,
            }
        )

    def start(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / "service.json"
        body = {"data_dir": str(self.data_dir), "client_secret": self.secret, "port": self.port, **self.settings}
        path.write_text(json.dumps(body))
        listening = self.data_dir / "listening.json"
        listening.unlink(missing_ok=True)
        with (self.folder / "service.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "azbatchwrap.local.arm", "--config", str(path)], stdout=log, stderr=log
            )
        wait_until(lambda: listening.exists() or self._died(), "the service to answer", seconds=30)
        self.port = json.loads(listening.read_text())["port"]
        Certificate(self.data_dir).write_bundle(os.environ)

    def _died(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            pytest.fail(f"the service ended with {self.process.returncode}:\n{self.log}")
        return False

    def token(self, audience: str | None = None) -> str:
        """A token, asked for once (the service takes those of its last run)."""
        wanted = audience or self.url
        if wanted not in self._tokens:
            self._tokens[wanted] = self._new_token(wanted)
        return self._tokens[wanted]

    def _new_token(self, audience: str) -> str:
        form = {
            "grant_type": "client_credentials",
            "client_id": CLIENT_ID,
            "client_secret": self.secret,
            "scope": f"{audience}/.default",
        }
        answer = requests.post(f"{self.url}/{TENANT}/oauth2/token", data=form, verify=self.bundle, timeout=TIMEOUT)
        answer.raise_for_status()
        return str(answer.json()["access_token"])

    def ask(
        self, method: str, path: str, body: object = None, *, audience: str | None = None, **headers: str
    ) -> requests.Response:
        """One request with a token; an api-version is added where the address has none."""
        address = path if "api-version=" in path else f"{path}{'&' if '?' in path else '?'}api-version=2024-01-01"
        url = address if address.startswith("https://") else f"{self.url}{address}"
        sent = {"authorization": f"Bearer {self.token(audience)}"} | headers
        return self._session.request(method, url, json=body, headers=sent, verify=self.bundle, timeout=TIMEOUT)

    def kill9(self) -> None:
        assert self.process is not None
        self._session.close()
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        self._session.close()
        if self.process is None or self.process.poll() is not None:
            return
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


@pytest.fixture(scope="session")
def arm(tmp_path_factory: pytest.TempPathFactory, azurite: RunningAzurite) -> Iterator[ArmProcess]:
    """One management plane for all tests of a worker: use resource groups and names of your own."""
    process = ArmProcess(tmp_path_factory.mktemp("arm"), azurite.connection_string)
    process.start()
    yield process
    process.stop()


@pytest.fixture
def fresh_arm(tmp_path: Path, azurite: RunningAzurite) -> Iterator[ArmProcess]:
    """A management plane of a test's own."""
    process = ArmProcess(tmp_path / "arm", azurite.connection_string)
    process.start()
    yield process
    process.stop()
