"""Builds a jar from examples/java/Pi.java and runs it in three tasks; says so when there is no JDK on this machine."""

import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from azbatchwrap import AzureBatch, AzureBatchStorage

JAVA = Path(__file__).parent / "java"


def build(folder: Path) -> Path:
    """pi.jar, from the source beside this file."""
    subprocess.run(["javac", "-d", folder, JAVA / "Pi.java"], check=True)
    subprocess.run(
        ["jar", "--create", "--file", folder / "pi.jar", "--main-class", "Pi", "-C", folder, "."], check=True
    )
    return folder / "pi.jar"


def main() -> int:
    missing = [tool for tool in ("javac", "jar", "java") if shutil.which(tool) is None]
    if missing:
        print(f"No JDK here ({', '.join(missing)} is not on the PATH), so the Java example is left out.")
        return 0
    with tempfile.TemporaryDirectory() as folder, AzureBatchStorage() as storage:
        storage.add_application_file_path(build(Path(folder)))
        storage.add_task_file_path(JAVA / "digits.py")
        with AzureBatch(storage) as batch:
            pool_id = batch.get_available_pool() or batch.create_pool()
            job_id = batch.create_a_job(
                app_resources=storage.get_application_files(), task_files=storage.get_batch_task_files()
            )
            batch.add_tasks_to_job(job_id, [("digits.py", digits) for digits in (10, 100, 1000)])
            results = batch.get_results(job_id)
    for result in results:
        print(f"{result.task_id} on {pool_id}: {result.state} {result.value or result.error}")
    return 0 if all(result.succeeded for result in results) else 1


if __name__ == "__main__":
    sys.exit(main())
