"""Engine start: from exec of a task's command line to the first do_action, beside a bare ``python3 -c pass``.

The node is prepared by the real preparation task; the task is started by its real command line. Runs of the two
alternate, so that both see the same load of the machine. ``--python`` names the node's interpreter.
"""

from __future__ import annotations

import argparse
import hashlib
import http.server
import json
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

from azbatchwrap.batch.pyz import build_engine
from bench.figures import Figure

SYSTEM_PYTHON = "/usr/bin/python3"
RUNS = 20

#: Runs that warm the page cache and are not counted.
WARM_UP = 3
#: The ratio promised.
LIMIT = 2.2

#: time.monotonic_ns is one clock for all processes of a machine.
TASK = b"""\
import time


def do_action(engine, *args):
    now = time.monotonic_ns()
    with open("begun", "w") as file:
        file.write(str(now))
"""


class OneBlob(http.server.BaseHTTPRequestHandler):
    content = TASK

    def do_GET(self) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(self.content)))
        self.end_headers()
        self.wfile.write(self.content)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def prepare(root: Path, environment: dict[str, str], path: str = "tasks/1_task.py", content: bytes = TASK) -> None:
    """Run the job preparation task in ``root``, for a deployment of one file."""
    sha256 = hashlib.sha256(content).hexdigest()
    files = [{"path": path, "sha256": sha256, "size": len(content)}]
    blob = type("Blob", (OneBlob,), {"content": content})
    (root / "engine.pyz").write_bytes(build_engine())
    (root / "deployment.json").write_text(json.dumps({"version": 1, "files": files, "requirements": None}))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), blob) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}/files?sig=none"
        command = ["/bin/sh", "-c", "exec python3 engine.pyz prepare"]
        subprocess.run(command, cwd=root, env={**environment, "AZBATCHWRAP_FILES_URL": url}, check=True)
        server.shutdown()


def engine_start(folder: Path, environment: dict[str, str], deployment: str) -> float:
    """Seconds from starting the command line to the first line of do_action."""
    command = ["/bin/sh", "-c", f'. "$AZ_BATCH_NODE_SHARED_DIR/azbatchwrap/{deployment}/run"']
    folder.mkdir()
    begun = time.monotonic_ns()
    subprocess.run(command, cwd=folder, env=environment, check=True)
    return (int((folder / "begun").read_text()) - begun) / 1e9


def bare_start(python: str) -> float:
    """Seconds for a bare interpreter to start, do nothing and end."""
    begun = time.monotonic_ns()
    subprocess.run([python, "-c", "pass"], check=True)
    return (time.monotonic_ns() - begun) / 1e9


def medians(python: str, runs: int) -> tuple[float, float]:
    """Milliseconds of the engine and of the bare interpreter."""
    with tempfile.TemporaryDirectory() as name:
        root = Path(name)
        deployment = "bench"
        environment = {
            "PATH": f"{Path(python).parent}:{os.environ['PATH']}",
            "AZ_BATCH_NODE_SHARED_DIR": str(root / "shared"),
            "AZ_BATCH_JOB_ID": "job-1",
            "AZ_BATCH_TASK_ID": "task-1",
            "AZBATCHWRAP_DEPLOYMENT": deployment,
            "AZBATCHWRAP_ARGS": '["input.txt","2","34"]',
            "AZBATCHWRAP_TASK": '{"module":"1_task.py","chain":true,"retries":0,"timeout":null,"inputs":null}',
        }
        prepare(root, environment)
        ours, bare = [], []
        for run in range(WARM_UP + runs):
            bare.append(bare_start(python))
            ours.append(engine_start(root / f"wd-{run}", environment, deployment))
    engine, interpreter = (statistics.median(times[WARM_UP:]) * 1000 for times in (ours, bare))
    return engine, interpreter


def figures(python: str = SYSTEM_PYTHON, runs: int = RUNS) -> Iterator[Figure]:
    engine, bare = medians(python if Path(python).exists() else sys.executable, runs)
    note = f"median of {runs}"
    yield Figure(
        "exec to first do_action",
        f"{engine:.1f} ms",
        f"python3 -c pass: {bare:.1f} ms",
        engine / bare,
        LIMIT,
        "<=",
        note,
    )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--python", default=SYSTEM_PYTHON, help="the node's interpreter, a path that ends in python3")
    parser.add_argument("--runs", type=int, default=RUNS)
    options = parser.parse_args()
    for figure in figures(options.python, options.runs):
        print(figure.line())
