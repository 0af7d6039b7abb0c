"""What the clients' programs reported: kept per client for the coverage table."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

import platformdirs

PROGRAMS = Path(__file__).with_name("programs")
#: Seconds that a whole program may take on a busy machine.
PROGRAM_SECONDS = 100


@dataclass(frozen=True)
class Tried:
    """One operation that a client tried."""

    operation: str
    api_version: str
    ok: bool
    detail: str


@dataclass(frozen=True)
class Report:
    """One client's run."""

    client: str
    tried: tuple[Tried, ...]

    def operations(self) -> set[str]:
        return {each.operation for each in self.tried}

    def failed(self) -> dict[str, str]:
        """Operation -> what was wrong, of those that failed at least once."""
        return {each.operation: each.detail for each in self.tried if not each.ok}


def run_program(client: str, command: Sequence[str | Path], settings: dict[str, object]) -> Report:
    """Run a client's program with ``settings`` on its standard input, and keep its report."""
    done = subprocess.run(
        [str(word) for word in command],
        cwd=PROGRAMS,
        input=json.dumps(settings),
        capture_output=True,
        text=True,
        timeout=PROGRAM_SECONDS,
        check=False,
    )
    assert done.returncode == 0, f"{client} ended with {done.returncode}:\n{done.stdout[-1000:]}\n{done.stderr[-4000:]}"
    report = Report(client, tuple(Tried(**json.loads(line)) for line in done.stdout.splitlines()))
    keep(report)
    return report


def folder() -> Path:
    return platformdirs.user_cache_path("azbatchwrap", appauthor=False) / "clients" / "reports"


def _file(client: str) -> Path:
    return folder() / f"{client.replace('/', '-')}.json"


def keep(report: Report) -> None:
    """Write a report where `load_all` finds it."""
    folder().mkdir(parents=True, exist_ok=True)
    path = _file(report.client)
    beside = path.with_suffix(".new")
    beside.write_text(json.dumps([asdict(each) for each in report.tried], indent=1))
    beside.replace(path)


def load_all(clients: Iterable[str]) -> list[Report]:
    """The last report of each client. FileNotFoundError names the one whose test has not run."""
    found = []
    for client in clients:
        lines = json.loads(_file(client).read_text())
        found.append(Report(client, tuple(Tried(**line) for line in lines)))
    return found
