"""A bare node in a temporary folder, and a small blob server on loopback: the real engine runs on it as a process."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from azbatchwrap.batch.pyz import build_engine

#: A run that takes longer than this many seconds hangs.
DEADLINE = 60.0
SIGNATURE = "sv=2026&sig=not-a-secret%3D"


@dataclass
class BlobServer:
    """Serves what is in ``contents`` to requests with the right signature. ``faults`` are used up one per request."""

    contents: dict[str, bytes] = field(default_factory=dict)
    faults: list[Callable[[BaseHTTPRequestHandler, bytes], None]] = field(default_factory=list)
    requests: list[tuple[str, str | None]] = field(default_factory=list)
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/account/files?{SIGNATURE}"

    def put(self, content: bytes) -> str:
        sha256 = hashlib.sha256(content).hexdigest()
        self.contents[sha256] = content
        return sha256

    def answer(self, request: BaseHTTPRequestHandler) -> None:
        path, _, query = request.path.partition("?")
        wanted = request.headers.get("Range")
        self.requests.append((path, wanted))
        content = self.contents.get(path.rsplit("/", 1)[-1])
        if query != SIGNATURE:
            refuse(403, "AuthenticationFailed")(request, b"")
        elif content is None:
            refuse(404, "BlobNotFound")(request, b"")
        elif self.faults:
            self.faults.pop(0)(request, content)
        else:
            send(request, content, int(wanted[len("bytes=") : -1]) if wanted else 0)


def send(request: BaseHTTPRequestHandler, content: bytes, start: int = 0) -> None:
    request.send_response(206 if start else 200)
    request.send_header("Content-Length", str(len(content) - start))
    request.end_headers()
    request.wfile.write(content[start:])


def refuse(status: int, code: str, **headers: str) -> Callable[[BaseHTTPRequestHandler, bytes], None]:
    def answer(request: BaseHTTPRequestHandler, _content: bytes) -> None:
        request.send_response(status)
        for name, value in {"x-ms-error-code": code, "Content-Length": "0", **headers}.items():
            request.send_header(name.replace("_", "-"), value)
        request.end_headers()

    return answer


def break_off(after: int) -> Callable[[BaseHTTPRequestHandler, bytes], None]:
    """Promise the whole blob, send a part of it and hang up."""

    def answer(request: BaseHTTPRequestHandler, content: bytes) -> None:
        request.send_response(200)
        request.send_header("Content-Length", str(len(content)))
        request.end_headers()
        request.wfile.write(content[:after])
        request.wfile.flush()
        request.close_connection = True

    return answer


def corrupt(request: BaseHTTPRequestHandler, content: bytes) -> None:
    send(request, bytes(len(content)))


@contextmanager
def serving() -> Iterator[BlobServer]:
    """A blob server that runs."""
    blobs = BlobServer()

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            blobs.answer(self)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        blobs.port = server.server_port
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield blobs
        finally:
            server.shutdown()
            thread.join()


@pytest.fixture
def blob_server() -> Iterator[BlobServer]:
    with serving() as blobs:
        yield blobs


@dataclass(frozen=True)
class Run:
    """How a process of the node ended. ``result`` is the task's result.json."""

    code: int
    stdout: str
    stderr: str
    folder: Path
    result: dict[str, Any]

    @property
    def error(self) -> dict[str, str]:
        found: dict[str, str] = self.result["steps"][-1]["error"]
        return found

    def output(self, name: str) -> bytes:
        return (self.folder / "outputs" / name).read_bytes()


class Node:
    """A node's folders and the commands that Azure Batch would start in them."""

    def __init__(
        self, root: Path, blobs: BlobServer, python: str = sys.executable, template: Path | None = None
    ) -> None:
        self.shared = root / "shared folder"
        self.root = root
        self.blobs = blobs
        self.template = template
        self.bin = root / "bin"
        self.deployment = ""
        self._count = 0
        self.shared.mkdir(parents=True)
        self.bin.mkdir()
        (self.bin / "python3").symlink_to(python)

    def environment(self, job: str, **more: str) -> dict[str, str]:
        return {
            "PATH": f"{self.bin}:/usr/bin:/bin",
            "AZ_BATCH_NODE_SHARED_DIR": str(self.shared),
            "AZ_BATCH_JOB_ID": job,
            "AZ_BATCH_NODE_ID": "tvm-1",
            "AZ_BATCH_POOL_ID": "pool-1",
            **more,
        }

    def new_folder(self) -> Path:
        self._count += 1
        folder = self.root / f"wd {self._count}"
        folder.mkdir()
        return folder

    def order(self, files: Mapping[str, bytes | str], **more: Any) -> tuple[Path, str]:
        """Put files on the blob server; the folder with the resource files of the preparation, and the deployment."""
        listed = []
        for path, text in sorted(files.items()):
            content = text if isinstance(text, bytes) else text.encode()
            listed.append({"path": path, "sha256": self.blobs.put(content), "size": len(content)})
        description = json.dumps({"version": 1, "files": listed, "requirements": None, **more})
        folder = self.new_folder()
        (folder / "engine.pyz").write_bytes(build_engine())
        (folder / "deployment.json").write_text(description)
        return folder, hashlib.sha256(description.encode()).hexdigest()[:32]

    def prepare_command(self, folder: Path, deployment: str, job: str = "job-1", **more: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["/bin/sh", "-c", "exec python3 engine.pyz prepare"],
            cwd=folder,
            env=self.environment(
                job, **{"AZBATCHWRAP_DEPLOYMENT": deployment, "AZBATCHWRAP_FILES_URL": self.blobs.url, **more}
            ),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def try_prepare(self, files: Mapping[str, bytes | str], job: str = "job-1", **more: Any) -> Run:
        """Run a job preparation task."""
        settings = {name: more.pop(name) for name in list(more) if name.isupper()}
        folder, deployment = self.order(files, **more)
        process = self.prepare_command(folder, deployment, job, **settings)
        out, err = process.communicate(timeout=DEADLINE)
        self.deployment = deployment
        return Run(process.returncode, out, err, folder, {})

    def prepare(self, files: Mapping[str, bytes | str], job: str = "job-1", **more: Any) -> Path:
        """Run a job preparation task that must succeed; the folder it laid out."""
        run = self.try_prepare(files, job, **more)
        assert run.code == 0, run.stderr
        return self.shared / "azbatchwrap" / self.deployment

    def lay_out(self, files: Mapping[str, bytes | str]) -> Path:
        """What ``prepare`` would leave, made from the folder that it left elsewhere: takes a fraction of the time."""
        if self.template is None:
            return self.prepare(files)
        self.deployment = self.template.name
        folder = self.shared / "azbatchwrap" / self.deployment
        shutil.rmtree(folder, ignore_errors=True)
        shutil.copytree(self.template, folder, copy_function=os.link)
        for path, text in files.items():
            (folder / path).parent.mkdir(parents=True, exist_ok=True)
            (folder / path).write_bytes(text if isinstance(text, bytes) else text.encode())
        inputs = [path[len("inputs/") :] for path in files if path.startswith("inputs/")]
        (folder / "layout.json").unlink()
        (folder / "layout.json").write_text(json.dumps({"version": 1, "inputs": inputs, "blobs": [], "venv": None}))
        return folder

    def release(self, job: str = "job-1", deployment: str = "") -> int:
        deployment = deployment or self.deployment
        return subprocess.run(
            ["/bin/sh", "-c", f'exec python3 "$AZ_BATCH_NODE_SHARED_DIR/azbatchwrap/{deployment}/engine" release'],
            cwd=self.root,
            env=self.environment(job, AZBATCHWRAP_DEPLOYMENT=deployment),
            check=False,
            timeout=DEADLINE,
        ).returncode

    def start(
        self,
        module: str,
        *args: Any,
        folder: Path | None = None,
        settings: Mapping[str, str] | None = None,
        **orders: Any,
    ) -> tuple[subprocess.Popen[bytes], Path]:
        """Start a task as the service does: in its own session, output to files, the command line as submitted."""
        folder = folder or self.new_folder()
        with (folder / "stdout.log").open("wb") as out, (folder / "stderr.log").open("wb") as err:
            process = subprocess.Popen(
                ["/bin/sh", "-c", f'. "$AZ_BATCH_NODE_SHARED_DIR/azbatchwrap/{self.deployment}/run"'],
                cwd=folder,
                env=self.environment(
                    "job-1",
                    **{
                        "AZ_BATCH_TASK_ID": "task-1",
                        "AZBATCHWRAP_ARGS": json.dumps(args),
                        "AZBATCHWRAP_TASK": json.dumps({"module": module, **orders}),
                        "AZBATCHWRAP_INDEX": "7",
                        **(settings or {}),
                    },
                ),
                stdout=out,
                stderr=err,
                start_new_session=True,
            )
        return process, folder

    def run(self, module: str, *args: Any, **more: Any) -> Run:
        """Run a task to its end."""
        process, folder = self.start(module, *args, **more)
        code = process.wait(timeout=DEADLINE)
        return self.finished(code, folder)

    def finished(self, code: int, folder: Path) -> Run:
        out, err = ((folder / name).read_text(errors="replace") for name in ("stdout.log", "stderr.log"))
        result = folder / "result.json"
        return Run(code, out, err, folder, json.loads(result.read_bytes()) if result.exists() else {})

    def run_code(self, code: str, *args: Any, **more: Any) -> Run:
        """Run one task file with this source, with an ``import`` of what tests often need."""
        self.lay_out({"tasks/1_task.py": "import os, sys, time\n" + code})
        return self.run("1_task.py", *args, **more)


@pytest.fixture(scope="session")
def template(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty deployment, laid out by a real preparation."""
    with serving() as blobs:
        return Node(tmp_path_factory.mktemp("template") / "node", blobs).prepare({})


@pytest.fixture
def node(tmp_path: Path, blob_server: BlobServer, template: Path) -> Node:
    """A node whose paths have blanks in them."""
    assert "AZBATCHWRAP_TASK" not in os.environ
    return Node(tmp_path / "node 1", blob_server, template=template)
