"""What a task is told: its arguments, which file to run and how, and where things lie on the node."""

# Read before the first do_action: importing json, pathlib or dataclasses would double the time to get there.

from __future__ import annotations

import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any

OUTPUT_FOLDER = "outputs"
RESULT_FILE = "result.json"
LOGS_FOLDER = "azbatchwrap_logs"
#: Names at the top of a task's result folder that are taken.
RESERVED_OUTPUTS = frozenset({RESULT_FILE, "stdout.txt", "stderr.txt"})

#: Lists what a deployment's folder holds: written by `prepare`, read by `run`.
LAYOUT_FILE = "layout.json"


class FactsError(Exception):
    """The task cannot start: what it was told is missing, unreadable or contradicts the deployment."""


class Facts:
    """One task's orders. ``timeout`` is in seconds and covers all attempts; ``retries`` come after the first attempt."""

    def __init__(self, environment: Mapping[str, str], working_folder: str, deployment_folder: str) -> None:
        self.job_id = environment.get("AZ_BATCH_JOB_ID", "")
        self.task_id = environment.get("AZ_BATCH_TASK_ID", "")
        self.node_id = environment.get("AZ_BATCH_NODE_ID", "")
        self.pool_id = environment.get("AZ_BATCH_POOL_ID", "")
        self.output_container = environment.get("AZBATCHWRAP_OUTPUT_CONTAINER", "")
        index = environment.get("AZBATCHWRAP_INDEX", "")
        self.index = int(index) if index.isdigit() else None
        self.working_folder = working_folder
        self.deployment_folder = deployment_folder
        self.module = ""
        self.args: list[Any] = []
        self.chain = True
        self.whole = False
        self.retries = 0
        self.retry_exit_codes: frozenset[int] | None = None
        self.timeout: float | None = None
        self.inputs: list[str] | None = None
        #: What to call, for a task of a session: module, name, and how arguments and result travel.
        self.function: dict[str, Any] | None = None
        #: How long to stay without calls and to lease one, for a warm engine.
        self.serve: dict[str, Any] | None = None
        #: Names of exceptions after which another attempt is made; None: after all.
        self.retry_exceptions: list[str] | None = None
        #: The script that was made ``__main__`` in this process.
        self.script = ""

    @property
    def output_folder(self) -> str:
        return os.path.join(self.working_folder, OUTPUT_FOLDER)

    @property
    def result_path(self) -> str:
        return os.path.join(self.working_folder, RESULT_FILE)

    @property
    def tasks_folder(self) -> str:
        return os.path.join(self.deployment_folder, "tasks")

    @property
    def application_folder(self) -> str:
        return os.path.join(self.deployment_folder, "app")

    @property
    def inputs_folder(self) -> str:
        return os.path.join(self.deployment_folder, "inputs")

    def read_orders(self, environment: Mapping[str, str]) -> None:
        """Take in AZBATCHWRAP_TASK and AZBATCHWRAP_ARGS. Raises `FactsError` naming the setting that is wrong."""
        orders = _read_setting(environment, "AZBATCHWRAP_TASK", "{}")
        if not isinstance(orders, dict) or not isinstance(orders.get("module"), str):
            raise FactsError('AZBATCHWRAP_TASK must be a JSON object with a "module"')
        self.module = orders["module"]
        self.chain = bool(orders.get("chain", True))
        self.whole = bool(orders.get("whole", False))
        self.retries = int(orders.get("retries") or 0)
        codes = orders.get("retry_exit_codes")
        self.retry_exit_codes = None if codes is None else frozenset(codes)
        self.timeout = None if orders.get("timeout") is None else float(orders["timeout"])
        self.inputs = orders.get("inputs")
        self.function = orders.get("function")
        self.serve = orders.get("serve")
        self.retry_exceptions = orders.get("retry_exceptions")
        args = _read_setting(environment, "AZBATCHWRAP_ARGS", "[]", self.working_folder)
        if not isinstance(args, list):
            raise FactsError("AZBATCHWRAP_ARGS must be a JSON array")
        self.args = args

    def lay_out_inputs(self) -> None:
        """Make the deployment's inputs appear in the working folder under their names, and the output folder exist.

        A file that is there already (a resource file of the task) is left alone.
        """
        os.makedirs(self.output_folder, exist_ok=True)
        with open(os.path.join(self.deployment_folder, LAYOUT_FILE), encoding="utf-8") as file:
            deployed: list[str] = read_json(file.read())["inputs"]
        folders = {""}
        for name in deployed if self.inputs is None else _chosen(self.inputs, deployed):
            folder, _, _ = name.rpartition("/")
            if name.split("/", 1)[0] in (OUTPUT_FOLDER, RESULT_FILE):
                raise FactsError(f"the input {name!r} has a name that the engine needs for itself: rename it")
            if folder not in folders:
                os.makedirs(os.path.join(self.working_folder, folder), exist_ok=True)
                folders.add(folder)
            try:
                os.symlink(os.path.join(self.inputs_folder, name), os.path.join(self.working_folder, name))
            except FileExistsError:
                continue

    def keep_logs(self) -> None:
        """Put what has been written to the streams, if anything, where the service uploads it from."""
        task_folder = os.path.dirname(self.working_folder)
        for name in ("stdout.txt", "stderr.txt"):
            try:
                if os.stat(os.path.join(task_folder, name)).st_size == 0:
                    continue
                folder = os.path.join(self.working_folder, LOGS_FOLDER)
                os.makedirs(folder, exist_ok=True)
                os.link(os.path.join(task_folder, name), os.path.join(folder, name))
            except OSError:
                # From an earlier attempt it is there; and a node without that file has nothing to upload.
                continue


def _chosen(wanted: list[str], deployed: list[str]) -> list[str]:
    """The deployed inputs that a task's INPUTS name, each a file or a folder."""
    chosen: list[str] = []
    for name in wanted:
        folder = name.rstrip("/") + "/"
        found = [path for path in deployed if path == name or path.startswith(folder)]
        if not found:
            listed = ", ".join(deployed[:20]) or "none"
            raise FactsError(f"the input {name!r} is not among the deployed ones: {listed}")
        chosen += found
    return chosen


def _read_setting(environment: Mapping[str, str], variable: str, default: str, folder: str = "") -> Any:
    """The JSON in an environment setting, or in the file of the working folder that ``@name`` points to."""
    text = environment.get(variable, default)
    if text.startswith("@"):
        path = os.path.join(folder, text[1:])
        try:
            with open(path, encoding="utf-8") as file:
                text = file.read()
        except OSError as error:
            raise FactsError(f"{variable} points to {path}, which cannot be read: {error.strerror}") from error
    try:
        return read_json(text)
    except ValueError as error:
        raise FactsError(f"{variable} is not JSON: {error}") from error


class _ScannerOptions:
    """What json.JSONDecoder hands to the C scanner; attributes are the scanner's own names."""

    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int

    @staticmethod
    def parse_constant(name: str) -> float:
        return float(name)


def read_json(text: str) -> Any:
    """As json.loads, without the 5 ms that importing json costs: its C scanner does the work alone.

    Falls back to json where the scanner is missing (not CPython) and for text it refuses, for the better message.
    """
    try:
        from _json import make_scanner
    except ImportError:
        return _read_json_slowly(text)
    text = text.strip(" \t\n\r")
    try:
        value, end = make_scanner(_ScannerOptions)(text, 0)  # type: ignore[arg-type]
    except (StopIteration, ValueError):
        return _read_json_slowly(text)
    return value if end == len(text) else _read_json_slowly(text)


def _read_json_slowly(text: str) -> Any:
    import json

    return json.loads(text)


def import_folders(facts: Facts) -> None:
    """Let task files import their neighbours and the application's modules.

    They come after the standard library (a neighbour called json.py must not break the engine or its libraries)
    and before installed packages. The engine's own folder is taken off the path.
    """
    del sys.path[0]
    installed = ("site-packages", "dist-packages")
    at = next((i for i, entry in enumerate(sys.path) if os.path.basename(entry) in installed), len(sys.path))
    sys.path[at:at] = [facts.tasks_folder, facts.application_folder]
