"""The two worst days of a session, in full: ``python tests/stress/session.py``.

1. examples/session.py, 500 calls of which one fails, on a good day and on one with 10 % of the requests throttled and
   Spot nodes taken away: the same results and the same picture.
2. A driver killed with SIGKILL once 200 of its 1,000 calls are on the service, and run again: 1,000 results, 1,000 tasks,
   each run once.

Prints what was seen; exits 1 when it is not that. Takes a few minutes.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT))

from azbatchwrap import config  # noqa: E402
from azbatchwrap.batch.service import Service, at, metadata  # noqa: E402
from azbatchwrap.local.stack import Options, Stack  # noqa: E402

EXAMPLE = ROOT / "examples" / "session.py"
BAD_DAY = {"throttle": 0.1, "retry_after": 0, "spot_preemption": 0.9}
#: Seconds that one run of a driver may take.
PATIENCE = 900.0

DRIVER = """
import json, os, sys, time
from azbatchwrap import Session

RUNS, COUNT = sys.argv[1], int(sys.argv[2])

def note(runs, number):
    with open(os.path.join(runs, f"{number}-{os.getpid()}-{time.time_ns()}"), "w"):
        return number * 2

with Session("killed", project="killed") as session:
    futures = []
    for number in range(COUNT):
        futures.append(session.submit(note, RUNS, number))
        time.sleep(0.003)
    print(json.dumps(session.gather(futures)))
"""


def say(text: str) -> None:
    print(text, flush=True)  # noqa: T201


def environment(folder: Path, project: str) -> dict[str, str]:
    """Variables that lead to the instance in ``folder`` and nowhere else."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("AZURE_", "AZBATCHWRAP_"))}
    return kept | {"AZBATCHWRAP_HOME": str(folder), "AZBATCHWRAP_AUTOSTART": "0", "AZBATCHWRAP_PROJECT": project}


def run_example(home: Path, folder: Path, calls: int) -> tuple[str, str]:
    """What the example says, and its picture."""
    began = time.monotonic()
    command = [sys.executable, str(EXAMPLE), str(folder), str(calls)]
    done = subprocess.run(
        command, env=environment(home, folder.name), capture_output=True, text=True, timeout=PATIENCE, check=False
    )
    if done.returncode:
        sys.exit(f"the example ended with {done.returncode}:\n{done.stderr}")
    say(f"{folder.name} day, {time.monotonic() - began:.0f} s: {' / '.join(done.stdout.splitlines())}")
    return done.stdout, (folder / "estimates.svg").read_text()


def good_and_bad_day(stack: Stack, folder: Path, calls: int) -> bool:
    good = run_example(stack.folder, folder / "good", calls)
    stack.chaos(BAD_DAY)
    bad = run_example(stack.folder, folder / "bad", calls)
    stack.chaos(dict.fromkeys(BAD_DAY, 0))
    return good == bad


def killed_driver(stack: Stack, folder: Path, calls: int, killed_after: int) -> bool:
    runs, path = folder / "runs", folder / "driver.py"
    runs.mkdir()
    path.write_text(DRIVER)
    command = [sys.executable, str(path), str(runs), str(calls)]
    variables = environment(stack.folder, "killed")
    endpoint = config.read_endpoint(stack.folder)
    assert endpoint is not None
    service = Service(endpoint.batch)
    with subprocess.Popen(command, env=variables, stdout=subprocess.DEVNULL) as first:
        while len(tasks(service)) < killed_after:
            if first.poll() is not None:
                sys.exit(f"the driver ended with {first.returncode}")
            time.sleep(0.02)
        first.kill()
    there = len(tasks(service))
    say(f"driver killed with {there} of {calls} tasks sent, {len(list(runs.iterdir()))} run")
    second = subprocess.run(command, env=variables, stdout=subprocess.PIPE, text=True, timeout=PATIENCE, check=True)
    results = json.loads(second.stdout)
    per_call = Counter(file.name.partition("-")[0] for file in runs.iterdir())
    sent = tasks(service)
    service.close()
    right = results == [number * 2 for number in range(calls)]
    say(f"run again: {len(results)} results, {len(sent)} tasks, {sum(per_call.values())} runs of {len(per_call)} calls")
    return right and there < calls and len(sent) == len(set(sent)) == calls and set(per_call.values()) == {1}


def tasks(service: Service) -> list[str]:
    """The tasks of all jobs of the driver's session."""
    jobs = [job["id"] for job in service.list("/jobs") if metadata(job).get("azbatchwrap_session") == "killed"]
    return [task["id"] for job in jobs for task in service.list(at("jobs", job, "tasks"), select=("id",))]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--example-calls", type=int, default=500)
    parser.add_argument("--calls", type=int, default=1000)
    parser.add_argument("--killed-after", type=int, default=200)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        stack = Stack(folder / "home")
        stack.up(Options())
        try:
            same = good_and_bad_day(stack, folder, options.example_calls)
            whole = killed_driver(stack, folder, options.calls, options.killed_after)
        finally:
            stack.down()
    say(
        f"{'the same results' if same else 'OTHER RESULTS'} on a bad day; {'nothing' if whole else 'SOMETHING'} lost or doubled"
    )
    return 0 if same and whole else 1


if __name__ == "__main__":
    sys.exit(main())
