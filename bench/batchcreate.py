"""batchcreate: its start, a plan, an apply from nothing and one of nothing, beside azure-ai-ml doing the same.

Everything runs on Azure on this machine, so that the figures are our own time and the SDK's, and not Azure's.
"""

from __future__ import annotations

import json
import os
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from azbatchwrap.local import management
from azbatchwrap.local.stack import Options, Stack
from bench.figures import Figure

RUNS, WARM_UP = 15, 2
SUBSCRIPTION = "00000000-0000-4000-8000-00000000be4c"
#: What the SDK's own users write: a workspace, then one client call per resource.
SDK_READS = """
import sys, warnings
warnings.simplefilter("ignore")
from azure.ai.ml import MLClient
from azure.identity import DefaultAzureCredential
client = MLClient(DefaultAzureCredential(), *sys.argv[1:4])
client.workspaces.get(sys.argv[3]); client.compute.get("batchscoring")
client.datastores.get("inputdata"); client.datastores.get("outputdata")
endpoint = next(iter(client.batch_endpoints.list()))
client.batch_endpoints.get(endpoint.name); client.batch_deployments.get("scoring", endpoint.name)
"""
SDK_WORKSPACE = """
import sys, warnings
warnings.simplefilter("ignore")
from azure.ai.ml import MLClient
from azure.ai.ml.entities import Workspace
from azure.identity import DefaultAzureCredential
client = MLClient(DefaultAzureCredential(), *sys.argv[1:3])
client.workspaces.begin_create(Workspace(name=sys.argv[3], location="eastus")).result()
"""


def timed(command: list[str], environment: dict[str, str] | None = None) -> float:
    """Seconds that a command took; its output is shown when it failed."""
    began = time.perf_counter()
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    seconds = time.perf_counter() - began
    if done.returncode:
        raise RuntimeError(f"{command[:3]} ended with {done.returncode}: {done.stderr[-2000:]}")
    return seconds


@contextmanager
def running() -> Iterator[dict[str, str]]:
    """Azure on this machine in a folder of its own: the variables that lead to it."""
    with tempfile.TemporaryDirectory(prefix="bench-batchcreate-") as folder:
        stack = Stack(Path(folder))
        stack.up(Options(aml=True))
        try:
            variables = management.variables(stack.endpoint()["aml"])
            yield {**os.environ, **variables, "AZBATCHWRAP_HOME": folder}
        finally:
            stack.down()


def start() -> Figure:
    script = str(Path(sys.executable).with_name("batchcreate"))
    pairs = [
        (timed([script, "--help"]), timed([sys.executable, "-c", "import click, yaml"])) for _ in range(RUNS + WARM_UP)
    ][WARM_UP:]
    ours, theirs = (statistics.median(column) * 1000 for column in zip(*pairs, strict=True))
    ratio = statistics.median(one / other for one, other in pairs)
    return Figure("batchcreate --help", f"{ours:.0f} ms", f"import click, yaml: {theirs:.0f} ms", ratio, 3, "<=")


def figures() -> Iterator[Figure]:
    yield start()
    with running() as environment:
        token = secrets.token_hex(4)
        with tempfile.TemporaryDirectory(prefix="bench-batchcreate-") as folder:
            file = Path(folder) / "batchconfiguration.json"
            names = {"resourceGroup": f"group{token}", "workspace": f"space{token}"}
            file.write_text(json.dumps({"subid": SUBSCRIPTION, **names}))
            yield from lives(file, list(names.values()), environment)


def lives(file: Path, names: list[str], environment: dict[str, str]) -> Iterator[Figure]:
    script = [str(Path(sys.executable).with_name("batchcreate"))]
    configured = ["--config", str(file)]
    place = [SUBSCRIPTION, *names]
    first = timed([*script, "apply", *configured, "--yes"], environment)
    sdk = timed([sys.executable, "-c", SDK_WORKSPACE, *place[:2], f"{names[1]}sdk"], environment)
    note = "the SDK's figure is for the workspace and its dependents alone"
    yield Figure("apply from nothing", f"{first:.1f} s", f"azure-ai-ml: {sdk:.1f} s", first, 12, "<=", note)
    yield Figure("apply from nothing, without the SDK's sleeps", f"{first:.1f} s", "5 s", first, 5, "<=")
    plans = statistics.median(timed([*script, "plan", *configured], environment) for _ in range(5))
    reads = statistics.median(timed([sys.executable, "-c", SDK_READS, *place], environment) for _ in range(3))
    note = "19 resources against the 7 that the SDK reads"
    yield Figure("plan, nothing changed", f"{plans:.2f} s", f"azure-ai-ml: {reads:.2f} s", plans / reads, 1, "<=", note)
    again = statistics.median(timed([*script, "apply", *configured], environment) for _ in range(5))
    yield Figure("apply, nothing changed", f"{again:.2f} s", f"from nothing: {first:.2f} s", again / first, 1, "<=")
