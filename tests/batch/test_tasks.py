from __future__ import annotations

import json
import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st

from azbatchwrap.batch.tasks import (
    ARGS_FILE,
    LIMIT_GRACE,
    TaskIds,
    TaskWriter,
    ascii_json,
    chosen_id,
    iso_duration,
    ready_tasks,
    submission_index,
)
from azbatchwrap.errors import ManifestError
from azbatchwrap.manifest import TaskRecord

URL = "https://a.blob.core.windows.net/out?se=2026-01-01T00%3A00%3A00Z&sig=x%2By"

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=8,
)


def written(record: TaskRecord, task_id: str = "task-000001", **options) -> dict:
    return json.loads(TaskWriter("job-1", "d" * 64, URL, **options).write(record, task_id))


def settings(task: dict) -> dict[str, str]:
    return {item["name"]: item["value"] for item in task["environmentSettings"]}


def test_a_task_names_its_shell_its_user_and_where_its_outputs_go():
    task = written(TaskRecord(0, None, "1_task.py"))
    assert shlex.split(task["commandLine"]) == [
        "/bin/sh", "-c", f'. "$AZ_BATCH_NODE_SHARED_DIR/azbatchwrap/{"d" * 64}/run"',
    ]  # fmt: skip
    assert task["userIdentity"] == {"autoUser": {"scope": "pool", "elevationLevel": "nonadmin"}}
    assert task["constraints"] == {"maxTaskRetryCount": 0}
    places = {
        item["filePattern"]: (item["destination"]["container"]["path"], item["uploadOptions"]["uploadCondition"])
        for item in task["outputFiles"]
    }
    assert places == {
        "../std*.txt": ("job-1/task-000001", "taskcompletion"),
        "result.json": ("job-1/task-000001/result.json", "taskcompletion"),
        "outputs/**/*": ("job-1/task-000001", "taskcompletion"),
    }
    assert {item["destination"]["container"]["containerUrl"] for item in task["outputFiles"]} == {URL}
    assert not {"displayName", "requiredSlots", "dependsOn", "resourceFiles"} & task.keys()


def test_a_task_carries_what_the_engine_is_to_do():
    record = TaskRecord(7, "mine", "1_task.py", ("a b", 2), False, ("in.txt",), 3, 90.0, 2, ("other",))
    task = written(record, "mine")
    assert json.loads(settings(task)["AZBATCHWRAP_TASK"]) == {
        "module": "1_task.py", "chain": False, "whole": False, "retries": 3, "timeout": 90.0, "inputs": ["in.txt"],
    }  # fmt: skip
    assert settings(task)["AZBATCHWRAP_INDEX"] == "7"
    assert task["requiredSlots"] == 2
    assert task["dependsOn"] == {"taskIds": ["other"]}
    # The engine keeps the time; the service stands behind it.
    assert task["constraints"]["maxWallClockTime"] == iso_duration(90 + LIMIT_GRACE)
    assert submission_index(task["id"], task["displayName"]) == 7


@given(st.lists(json_values, max_size=5))
def test_arguments_survive_as_ascii_json(args):
    value = settings(written(TaskRecord(0, None, "1_task.py", tuple(args))))["AZBATCHWRAP_ARGS"]
    assert value.isascii()
    if not value.startswith("@"):
        assert json.loads(value) == args


@pytest.mark.parametrize("value", ["\ud800", 2**70, "ä\n$HOME 'x' \"y\""])
def test_what_is_hard_to_carry_is_carried(value):
    assert json.loads(ascii_json([value])) == [value]
    assert ascii_json([value]).isascii()


def test_long_arguments_travel_as_a_file():
    stored = []

    file = {"httpUrl": "https://a.blob/args.json?sig=z", "filePath": ARGS_FILE}

    def store(data: bytes) -> dict[str, str]:
        stored.append(data)
        return file

    task = written(TaskRecord(0, None, "1_task.py", ("x" * 20_000,)), store_args=store)
    assert settings(task)["AZBATCHWRAP_ARGS"] == f"@{ARGS_FILE}"
    assert task["resourceFiles"] == [file]
    assert json.loads(stored[0]) == ["x" * 20_000]
    assert len(json.dumps(task)) < 5_000


def test_long_arguments_without_a_store_are_refused():
    with pytest.raises(ManifestError, match="task 0"):
        written(TaskRecord(0, None, "1_task.py", ("x" * 20_000,)))


def test_chosen_ids_follow_the_index_and_a_second_batch_goes_on():
    ids = TaskIds(2)
    writer = TaskWriter("j", "d", URL)
    records = (TaskRecord(n, None, "1_task.py") for n in range(3))
    bodies = [json.loads(body) for _, body in ready_tasks(records, 2, ids, writer)]
    assert list(ids) == ["task-000003", "task-000004", "task-000005"] == [body["id"] for body in bodies]
    assert [settings(body)["AZBATCHWRAP_INDEX"] for body in bodies] == ["2", "3", "4"]


def test_ids_are_a_sequence_with_own_ones_among_them():
    ids = TaskIds()
    for record in (TaskRecord(0, None, "m"), TaskRecord(1, "mine", "m"), TaskRecord(2, None, "m")):
        ids.add(record)
    assert list(ids) == ["task-000001", "mine", "task-000003"]
    assert ids[-1] == "task-000003"
    assert ids[1:] == ["mine", "task-000003"]
    assert len(ids) == 3
    assert "mine" in ids
    with pytest.raises(IndexError):
        ids[3]


@given(st.integers(0, 10**9))
def test_an_index_is_read_back_from_its_id(index):
    assert submission_index(chosen_id(index), None) == index


def test_a_task_that_is_not_ours_has_no_index():
    assert submission_index("mine", None) is None
    assert submission_index("task-1", "something") is None
