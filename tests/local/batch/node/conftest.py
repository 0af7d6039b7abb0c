"""A node in a folder of its own, with a real process host, and a server that stands for Blob storage."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from pathlib import Path

import pytest

from azbatchwrap.local.batch.node import (
    Launch,
    NodeFolders,
    NodePlace,
    Outcome,
    ProcessHandle,
    ProcessHost,
    TaskIdentity,
    Transfers,
    make_node_python,
    run,
    task_environment,
)
from tests.local.batch.node.blob_server import BlobServer


@pytest.fixture(scope="session")
def node_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_node_python(tmp_path_factory.mktemp("python"))


@pytest.fixture
def folders(tmp_path: Path, node_python: Path) -> NodeFolders:
    folders = NodeFolders(NodePlace(tmp_path / "nodes" / "pool" / "node", node_python))
    folders.create()
    return folders


@pytest.fixture
async def host() -> AsyncIterator[ProcessHost]:
    host = ProcessHost()
    await host.start()
    yield host
    await host.close()


@pytest.fixture
async def transfers() -> AsyncIterator[Transfers]:
    transfers = Transfers()
    await transfers.start()
    yield transfers
    await transfers.close()


@pytest.fixture
async def blobs() -> AsyncIterator[BlobServer]:
    server = await BlobServer().start()
    server.containers = {"in": {}, "out": {}}
    yield server
    await server.stop()


class Node:
    """Runs command lines as tasks of one node."""

    def __init__(self, folders: NodeFolders, host: ProcessHost, transfers: Transfers) -> None:
        self.folders = folders
        self.host = host
        self.transfers = transfers
        self.started: list[ProcessHandle] = []

    def folder(self, task: str = "t1") -> Path:
        return self.folders.task_folder("job", task)

    def environment(self, task: str = "t1", settings: dict[str, str] | None = None) -> dict[str, str]:
        identity = TaskIdentity("account", "http://127.0.0.1:1", "pool", "node", "job", task)
        return task_environment(self.folders.place, identity, self.folder(task), settings or {}, {})

    def launch(self, command: str, task: str = "t1", settings: dict[str, str] | None = None, **options) -> Launch:
        return Launch(command, self.folder(task), self.environment(task, settings), **options)

    async def run(
        self,
        command: str,
        task: str = "t1",
        *,
        on_started: Callable[[ProcessHandle], None] | None = None,
        **options,
    ) -> Outcome:
        launch = self.launch(command, task, **options)
        return await run(launch, self.host, self.transfers, on_started or self.started.append)

    def stdout(self, task: str = "t1") -> str:
        return (self.folder(task) / "stdout.txt").read_text()


@pytest.fixture
def node(folders: NodeFolders, host: ProcessHost, transfers: Transfers) -> Node:
    return Node(folders, host, transfers)
