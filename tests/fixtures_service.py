"""Fixtures: the local Azure Batch service as a subprocess on a free port, in a folder of its own."""

from __future__ import annotations

import base64
import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from azure.batch import BatchClient
from azure.core.credentials import AzureNamedKeyCredential

from tests.waiting import wait_until

#: Seconds a start may take on a busy machine.
START_SECONDS = 30


class BatchService:
    """One service process: start it, kill it, start it again on the same data and port."""

    def __init__(self, folder: Path, **settings: Any) -> None:
        self.folder = folder
        self.account = "localtest"
        self.key = base64.b64encode(os.urandom(64)).decode()
        self.data_dir = folder / "batch"
        self.data_dir.mkdir(parents=True)
        self.port = 0
        self.settings = settings
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    @property
    def log(self) -> str:
        return (self.folder / "service.log").read_text()

    def start(self) -> None:
        config = self.folder / "service.json"
        body = {
            "account": self.account,
            "key": self.key,
            "host": "127.0.0.1",
            "port": self.port,
            "data_dir": str(self.data_dir),
            "max_processes": 4,
            **self.settings,
        }
        config.touch(mode=0o600)
        config.write_text(json.dumps(body))
        listening = self.data_dir / "listening.json"
        listening.unlink(missing_ok=True)
        with (self.folder / "service.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "azbatchwrap.local.batch", "--config", str(config)], stdout=log, stderr=log
            )
        wait_until(lambda: listening.exists() or self._died(), "the service to answer", seconds=START_SECONDS)
        self.port = json.loads(listening.read_text())["port"]

    def _died(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            pytest.fail(f"the service ended with {self.process.returncode}:\n{self.log}")
        return False

    def client(self, **settings: Any) -> BatchClient:
        return BatchClient(self.url, AzureNamedKeyCredential(self.account, self.key), **settings)

    def kill9(self) -> None:
        assert self.process is not None
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()

    def stop(self) -> None:
        if self.process is None or self.process.poll() is not None:
            return
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def restart(self) -> None:
        """After `kill9` or `stop`: the same data, the same port."""
        self.start()


@pytest.fixture
def batch_service(tmp_path: Path) -> Iterator[BatchService]:
    """A fresh service."""
    service = BatchService(tmp_path / "service")
    service.start()
    yield service
    service.stop()


@pytest.fixture(scope="session")
def shared_batch_service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[BatchService]:
    """One service for many tests that use ids of their own."""
    service = BatchService(tmp_path_factory.mktemp("shared-service"))
    service.start()
    yield service
    service.stop()
