"""The driver of the project's first description, as it was written there, in an otherwise empty folder."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

TASKS = {
    "1_task.py": """
def do_action(engine, *args):
    with open(args[0]) as file:
        words = file.read().split()
    engine.dataToUpload("from the first step")
    return [*words, *args[1:]]
""",
    "2_task.py": """
def do_action(self, *args):
    for i in args:
        print("i need to do something to: {}".format(i))
    self.addFileToUpload("a.txt")
    return "+".join(args)
""",
    "10_task.py": """
def do_action(engine, *args):
    return "this is a test: " + args[0]
""",
}

DRIVER = """
from azbatchwrap import AzureBatch, AzureBatchStorage

storage = AzureBatchStorage()
storage.addInputFilePath("a.txt")
storage.addInputFilePath("input.txt")
storage.uploadInputFiles()
storage.addTaskFilePath("tasks/1_task.py")
storage.addTaskFilePath("tasks/2_task.py")
storage.addTaskFilePath("tasks/10_task.py")
storage.uploadTaskFiles()
my_batch = AzureBatch(storage)
app = storage.getApplicationFiles()
input_files = storage.getApplicationInputFiles()
tasks = storage.getBatchTaskFiles()
my_pool = my_batch.create_pool(app_resources=app, input_resources=input_files, task_files=tasks)
my_batch.use_exisiting_pool(my_pool)
my_batch.repurpose_existing_pool(my_pool,app, input_files, tasks)
job_id = my_batch.create_a_job()
args = ('1_task.py' , 'input.txt 2 34')
my_batch.add_tasks_to_job(job_id, args)
my_batch.add_tasks_from_manifest_file(job_id, "task.json")

import json
my_batch.wait_for_tasks(job_id)
results = my_batch.get_results(job_id)
print(json.dumps([[r.task_id, r.state, r.value, [s.name for s in r.steps], r.outputs] for r in results]))
my_batch.delete_pool(my_pool)
"""


@pytest.fixture
def folder(tmp_path):
    (tmp_path / "tasks").mkdir()
    for name, source in TASKS.items():
        (tmp_path / "tasks" / name).write_text(source)
    (tmp_path / "a.txt").write_text("a")
    (tmp_path / "input.txt").write_text("hello world")
    entry = {"TASK_MODULE": "1_task.py", "TASK_INPUT": "input.txt x"}
    manifest = {"TASK_MODULES": [], "TASK_MODULES_DIRECTORY": "tasks", "TASK_ARGS": "", "JOB_MANIFEST": [entry, entry]}
    (tmp_path / "task.json").write_text(json.dumps(manifest))
    return tmp_path


def test_the_first_driver_runs_unchanged(folder, local_stack):
    done = subprocess.run(
        [sys.executable, "-c", DRIVER], cwd=folder, env=local_stack.environment, capture_output=True, text=True,
        timeout=100, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    results = json.loads(done.stdout)
    assert [result[0] for result in results] == ["task-000001", "task-000002", "task-000003"]
    assert {result[1] for result in results} == {"succeeded"}
    assert [result[2] for result in results] == [
        "this is a test: hello+world+2+34",
        "this is a test: hello+world+x",
        "this is a test: hello+world+x",
    ]
    for _, _, _, steps, outputs in results:
        assert steps == ["1_task.py", "2_task.py", "10_task.py"]
        assert "a.txt" in outputs
        assert len(outputs) == 2
