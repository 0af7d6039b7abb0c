"""What `make demo` runs: a Java task where there is a JDK, then eight pricing tasks and the table of their results."""

import shlex
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def run(shown: list[str], actual: list[str]) -> int:
    print(f"$ {shlex.join(shown)}", flush=True)
    return subprocess.run(actual, cwd=ROOT, check=False).returncode


def main(output: str = "outputs") -> int:
    java = ["examples/java_example.py"]
    pricing = ["run", "task.json", "--input", "examples/pricing/contracts.csv", "--output-dir", output]
    first = run(["python", *java], [sys.executable, *java])
    second = run(["azbatchwrap", *pricing], [sys.executable, "-m", "azbatchwrap.cli.main", *pricing])
    command = Path(sys.executable).with_name("azbatchwrap")
    print(f"\nAzure on this machine goes on running. Look at it: {command} local open   End it: {command} local down")
    return second or first


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:2]))
