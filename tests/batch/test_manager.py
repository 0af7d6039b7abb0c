"""Whole stories of `AzureBatch` on a running instance: over real wires, with real processes as tasks."""

from __future__ import annotations

import json
import logging
import secrets
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from azbatchwrap import names
from azbatchwrap.batch import AzureBatch, TaskResult
from azbatchwrap.batch.service import at, metadata
from azbatchwrap.config import PoolSettings
from azbatchwrap.errors import (
    ConfigurationError,
    Conflict,
    ManifestError,
    NoEligibleNode,
    NotFound,
    StartTaskFailed,
    WaitTimeout,
)
from azbatchwrap.storage import AzureBatchStorage

#: Seconds that anything here may take on a busy machine.
PATIENCE = 90.0

ECHO = """
    def do_action(engine, *args):
        return list(args)
"""


@dataclass
class Desk:
    """A user's folder, storage and manager, in a project of their own."""

    folder: Path
    storage: AzureBatchStorage
    batch: AzureBatch
    others: list[AzureBatch] = field(default_factory=list)

    def task(self, name: str, source: str) -> None:
        path = self.folder / "tasks" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(textwrap.dedent(source))
        self.storage.add_task_file_path(path)

    def input(self, name: str, content: str) -> None:
        path = self.folder / name
        path.write_text(content)
        self.storage.add_input_file_path(path)

    def run(self, *tasks: object, **options: object) -> list[TaskResult]:
        """Add ``tasks`` to a new job with the files at hand and give the results."""
        job_id = self.batch.create_a_job(task_files=self.storage.get_batch_task_files(), **options)
        self.batch.add_tasks_to_job(job_id, list(tasks))
        return self.batch.get_results(job_id, timeout=PATIENCE)

    def another_process(self) -> AzureBatch:
        """A manager that knows nothing but the account."""
        self.others.append(AzureBatch(self.storage))
        return self.others[-1]


@pytest.fixture(scope="module")
def project() -> str:
    return f"desk-{secrets.token_hex(4)}"


@pytest.fixture(scope="module")
def shared_pool(local_stack, project, tmp_path_factory) -> Iterator[str]:
    """One node of four slots for all tests that only run tasks."""
    cache = tmp_path_factory.mktemp("hashes") / "hashes.sqlite"
    with AzureBatchStorage(local_stack.settings(), project=project, hash_cache=cache) as storage:
        path = tmp_path_factory.mktemp("tasks") / "1_task.py"
        path.write_text("def do_action(engine, *args):\n    return 'of the pool', list(args)\n")
        storage.add_task_file_path(path)
        with AzureBatch(storage) as batch:
            pool_id = batch.create_pool(slots_per_node=4, wait=True, timeout=PATIENCE)
            yield pool_id
            batch.delete_pool(pool_id)


@pytest.fixture
def make_desk(local_stack, tmp_path) -> Iterator[Callable[[str], Desk]]:
    desks: list[Desk] = []

    def make(project: str) -> Desk:
        folder = tmp_path / f"desk{len(desks)}"
        folder.mkdir()
        storage = AzureBatchStorage(local_stack.settings(), project=project, hash_cache=folder / "hashes.sqlite")
        desks.append(Desk(folder, storage, AzureBatch(storage)))
        return desks[-1]

    yield make
    for desk in desks:
        for manager in (desk.batch, *desk.others):
            manager.close()
        desk.storage.close()


@pytest.fixture
def desk(make_desk, project, shared_pool) -> Desk:
    made = make_desk(project)
    made.batch.use_existing_pool(shared_pool)
    return made


@pytest.fixture
def own_desk(make_desk) -> Iterator[Desk]:
    """A project of its own, whose pools and jobs are deleted at the end."""
    made = make_desk(f"own-{secrets.token_hex(4)}")
    yield made
    made.batch.delete_all_jobs()
    made.batch.delete_all_pools()


# --- what a task is given, and what comes back ------------------------------------------------------------------------


def test_a_chain_runs_in_numeric_order_and_passes_values_on(desk):
    for number in (1, 2, 10):
        desk.task(f"{number}_task.py", f"def do_action(engine, *args):\n    return [*args, {number}]\n")
    (result,) = desk.run(("1_task.py", "a b"))
    assert (result.state, result.value) == ("succeeded", ["a", "b", 1, 2, 10])
    assert [step.name for step in result.steps] == ["1_task.py", "2_task.py", "10_task.py"]
    assert result.exit_code == 0
    assert result.node_id
    assert result.started < result.ended


@pytest.mark.parametrize(
    "args",
    [
        ("it's", 'say "hi"', "$HOME `id` $(id)", "a\nb\tc", "日本 ä\U0001f600", "", "\\", "%PATH%", "*"),
        ("x" * 200_000, "é" * 20_000),
        (1, 2.5, None, True, [1, [2]], {"a": {"b": "ü"}}),
    ],
    ids=["nasty", "long", "json"],
)
def test_arguments_arrive_as_they_were_given(desk, args):
    desk.task("echo.py", ECHO)
    (result,) = desk.run(("echo.py", "", *args))
    assert result.value == list(args)


def test_inputs_lie_in_the_working_folder_and_outputs_come_back(desk, tmp_path):
    desk.input("input.txt", "hello")
    desk.task(
        "copy.py",
        """
        from pathlib import Path

        def do_action(engine, name):
            print("copying", name)
            Path("outputs/deep").mkdir(parents=True)
            Path("outputs/deep/copy.txt").write_text(Path(name).read_text().upper())
        """,
    )
    job_id = desk.batch.create_a_job(
        input_resources=desk.storage.get_application_input_files(), task_files=desk.storage.get_batch_task_files()
    )
    desk.batch.add_tasks_to_job(job_id, ("copy.py", "input.txt"))
    (result,) = desk.batch.get_results(job_id, timeout=PATIENCE)
    assert (result.state, result.outputs) == ("succeeded", ("deep/copy.txt",))
    desk.storage.download_results(job_id, tmp_path / "out")
    folder = tmp_path / "out" / "task-000001"
    assert (folder / "deep/copy.txt").read_text() == "HELLO"
    assert "copying input.txt" in (folder / "stdout.txt").read_text()
    assert json.loads((folder / "result.json").read_text())["state"] == "succeeded"


def test_failures_are_recorded_one_by_one_and_keep_their_order(desk):
    desk.task("fails.py", "def do_action(engine, *args):\n    raise LookupError('nothing in ' + args[0])\n")
    desk.task("dies.py", "import os\n\ndef do_action(engine):\n    os.kill(os.getpid(), 9)\n")
    desk.task("exits.py", "import sys\n\ndef do_action(engine):\n    sys.exit(5)\n")
    desk.task("wrong.py", "def do_action(engine:\n")
    desk.task("empty.py", "")
    desk.task("odd.py", "def do_action(engine):\n    return {1, 2}\n")
    desk.task("echo.py", ECHO)
    modules = ["fails.py", "dies.py", "exits.py", "wrong.py", "empty.py", "odd.py", "echo.py"]
    results = desk.run(*((module, "here" if module in {"fails.py", "echo.py"} else "") for module in modules))
    assert [result.index for result in results] == list(range(7))
    by_module = dict(zip(modules, results, strict=True))
    states = {module: result.state for module, result in by_module.items()}
    assert states == {**dict.fromkeys(modules, "failed"), "odd.py": "succeeded", "echo.py": "succeeded"}
    assert str(by_module["fails.py"].error) == "LookupError: nothing in here"
    assert "raise LookupError" in by_module["fails.py"].error.traceback
    assert by_module["wrong.py"].error.type == "SyntaxError"
    assert "do_action" in by_module["empty.py"].error.message
    assert by_module["odd.py"].is_repr
    assert all(result.exit_code != 0 for result in results if result.state == "failed")


def test_a_step_past_its_time_fails_with_that_word(desk):
    desk.task("sleeps.py", "import time\n\ndef do_action(engine):\n    time.sleep(300)\n")
    (result,) = desk.run({"TASK_MODULE": "sleeps.py", "TIMEOUT": 1})
    assert (result.state, result.error.type) == ("failed", "TimeoutError")


def test_nothing_on_a_node_holds_an_account_key(desk, local_stack):
    desk.task("spy.py", "import os\n\ndef do_action(engine):\n    return dict(os.environ)\n")
    (result,) = desk.run(("spy.py",))
    seen = json.dumps(result.value)
    assert "AZ_BATCH_TASK_ID" in seen
    assert local_stack.endpoint.batch.key.reveal() not in seen
    for part in local_stack.endpoint.storage.connection_string.reveal().split(";"):
        if part.startswith("AccountKey="):
            assert part.removeprefix("AccountKey=") not in seen


# --- ways to add tasks ------------------------------------------------------------------------------------------------


def test_one_tuple_a_list_and_an_iterator_go_to_one_job_under_ids_that_go_on(desk):
    desk.task("echo.py", ECHO)
    job_id = desk.batch.create_a_job(task_files=desk.storage.get_batch_task_files())
    assert list(desk.batch.add_tasks_to_job(job_id, ("echo.py", "a"))) == ["task-000001"]
    assert list(desk.batch.add_tasks_to_job(job_id, [("echo.py", "b"), ("echo.py", "c")]))[1] == "task-000003"
    assert len(desk.batch.add_tasks_to_job(job_id, (("echo.py", str(n)) for n in range(101)))) == 101
    assert desk.batch.add_task_to_job(job_id, 7, ("echo.py", "own")) == "7"
    # A process that knows only the job's id counts on from the last task there is.
    assert list(desk.another_process().add_tasks_to_job(job_id, ("echo.py", "late"))) == ["task-000106"]
    results = desk.batch.get_results(job_id, timeout=PATIENCE)
    words = ["a", "b", "c", *map(str, range(101)), "own", "late"]
    assert [result.value for result in results] == [[word] for word in words]


def test_no_tasks_are_no_error(desk):
    desk.task("echo.py", ECHO)
    job_id = desk.batch.create_a_job(task_files=desk.storage.get_batch_task_files())
    assert len(desk.batch.add_tasks_to_job(job_id, [])) == 0
    assert desk.batch.get_results(job_id, timeout=PATIENCE) == []


def test_a_task_file_that_is_not_deployed_is_named_before_anything_is_added(desk):
    desk.task("echo.py", ECHO)
    job_id = desk.batch.create_a_job(task_files=desk.storage.get_batch_task_files())
    with pytest.raises(ManifestError, match=r"task 2: there is no task file ecko\.py; deployed are: echo\.py"):
        desk.batch.add_tasks_to_job(job_id, [("echo.py", ""), ("ecko.py", "")])
    assert list(desk.batch.service.list(at("jobs", job_id, "tasks"))) == []


def test_an_id_that_exists_is_a_conflict_and_the_other_tasks_are_added(desk):
    desk.task("echo.py", ECHO)
    job_id = desk.batch.create_a_job(task_files=desk.storage.get_batch_task_files())
    desk.batch.add_task_to_job(job_id, "mine", ("echo.py", "1"))
    with pytest.raises(Conflict, match="1 tasks were refused, 1 were added"):
        desk.batch.add_tasks_to_job(job_id, [{"TASK_MODULE": "echo.py", "ID": "mine"}, ("echo.py", "2")])
    assert len(desk.batch.get_results(job_id, timeout=PATIENCE)) == 2


@pytest.mark.parametrize("task_id", ["", "a b/ü", "x" * 65, -1.5])
def test_an_id_that_no_task_can_have_is_refused_before_anything_is_sent(desk, task_id):
    desk.task("echo.py", ECHO)
    job_id = desk.batch.create_a_job(task_files=desk.storage.get_batch_task_files())
    with pytest.raises(ManifestError, match="task id"):
        desk.batch.add_task_to_job(job_id, task_id, ("echo.py", "1"))


def test_a_manifest_with_ids_dependencies_and_a_container_of_its_own(desk):
    desk.task("echo.py", ECHO)
    container = f"own-{secrets.token_hex(4)}"
    manifest = desk.folder / "task.json"
    manifest.write_text(
        json.dumps(
            {
                "TASK_MODULES": ["echo.py"],
                "TASK_MODULES_DIRECTORY": "tasks",
                "TASK_OUTPUT_CONTAINER": container,
                "JOB_MANIFEST": [
                    {"TASK_MODULE": "echo.py", "TASK_INPUT": "'a b' c", "ID": "first"},
                    {"TASK_MODULE": "echo.py", "TASK_INPUT": ["x"], "DEPENDS_ON": ["first"]},
                ],
            }
        )
    )
    job_id = desk.batch.create_a_job(task_files=desk.storage.get_batch_task_files())
    assert list(desk.batch.add_tasks_from_manifest_file(job_id, manifest)) == ["first", "task-000002"]
    first, second = desk.batch.get_results(job_id, timeout=PATIENCE)
    assert (first.value, second.value) == (["a b", "c"], ["x"])
    assert first.ended <= second.started
    assert desk.storage.read_json(container, f"{job_id}/first/result.json")["state"] == "succeeded"


def test_a_job_that_was_sealed_takes_no_tasks(desk):
    desk.task("echo.py", ECHO)
    desk.run(("echo.py", ""))
    job_id = desk.batch.create_a_job(task_files=desk.storage.get_batch_task_files())
    desk.batch.add_tasks_to_job(job_id, ("echo.py", ""))
    desk.batch.seal_job(job_id)
    with pytest.raises(ConfigurationError, match="create_a_job makes another one"):
        desk.batch.add_tasks_to_job(job_id, ("echo.py", ""))


# --- ends -------------------------------------------------------------------------------------------------------------


def test_dependents_of_a_failure_are_ended_with_a_recorded_reason(desk):
    desk.task("fails.py", "def do_action(engine):\n    raise ValueError\n")
    desk.task("echo.py", ECHO)
    results = desk.run(
        {"TASK_MODULE": "fails.py", "ID": "parent"},
        {"TASK_MODULE": "echo.py", "ID": "child", "DEPENDS_ON": ["parent"]},
        {"TASK_MODULE": "echo.py", "ID": "grandchild", "DEPENDS_ON": ["child"]},
        {"TASK_MODULE": "echo.py", "ID": "free"},
    )
    assert [result.state for result in results] == ["failed", "cancelled", "cancelled", "succeeded"]
    assert [result.error.type for result in results[1:3]] == ["DependencyFailed", "DependencyFailed"]
    record = desk.storage.read_json(desk.storage.output_container, f"{results[1].job_id}/child/result.json")
    assert record["error"]["type"] == "DependencyFailed"


def test_a_wait_takes_no_longer_than_it_may_and_the_work_goes_on(desk):
    desk.task("slow.py", "import time\n\ndef do_action(engine):\n    time.sleep(1.5)\n    return 'done'\n")
    job_id = desk.batch.create_a_job(task_files=desk.storage.get_batch_task_files())
    desk.batch.add_tasks_to_job(job_id, ("slow.py",))
    with pytest.raises(WaitTimeout, match="1 tasks are not done"):
        desk.batch.wait_for_tasks(job_id, timeout=0.2)
    assert desk.batch.get_results(job_id, timeout=PATIENCE)[0].value == "done"


def test_a_job_that_is_terminated_gives_every_task_a_result(desk):
    desk.task("sleeps.py", "import time\n\ndef do_action(engine):\n    time.sleep(300)\n")
    job_id = desk.batch.create_a_job(task_files=desk.storage.get_batch_task_files())
    desk.batch.add_tasks_to_job(job_id, [("sleeps.py",)] * 6)
    desk.batch.terminate_job(job_id)
    results = desk.batch.get_results(job_id, timeout=PATIENCE)
    assert [result.state for result in results] == ["cancelled"] * 6


def test_a_job_ends_at_its_limit_and_its_tasks_say_so(desk):
    desk.task("sleeps.py", "import time\n\ndef do_action(engine):\n    time.sleep(300)\n")
    results = desk.run(*[("sleeps.py",)] * 5, limit=2)
    assert [result.state for result in results] == ["cancelled"] * 5
    assert all("MaxWallClockTimeExpiry" in result.error.message for result in results)


def test_a_script_that_ends_leaves_no_job_open(desk, local_stack, project):
    desk.task("echo.py", ECHO)
    script = f"""
        from azbatchwrap import AzureBatch, AzureBatchStorage

        storage = AzureBatchStorage(project={project!r})
        storage.add_task_file_path({str(desk.folder / "tasks/echo.py")!r})
        batch = AzureBatch(storage)
        batch.use_existing_pool({desk.batch.pool_id!r})
        files = storage.get_batch_task_files()
        for options in ({{}}, {{}}, {{"keep_open": True}}):
            print(batch.create_a_job(task_files=files, **options))
            if options or "used" not in globals():
                used = True
                batch.add_tasks_to_job(list(batch._jobs)[-1], ("echo.py", "x"))
        raise SystemExit("the script fails")
    """
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script)],
        cwd=desk.folder, env=local_stack.environment, capture_output=True, text=True, timeout=PATIENCE, check=False,
    )  # fmt: skip
    assert "the script fails" in done.stderr
    assert "Traceback" not in done.stderr
    with_task, without_task, kept_open = done.stdout.split()
    assert desk.batch.get_results(with_task, timeout=PATIENCE)[0].value == ["x"]
    assert desk.batch.jobs.facts(with_task).sealed
    assert desk.batch.jobs.facts(without_task).ended
    assert not desk.batch.jobs.facts(kept_open).sealed
    desk.batch.terminate_job(kept_open)


# --- pools ------------------------------------------------------------------------------------------------------------


def test_another_process_uses_a_pool_with_what_is_deployed_on_it(desk, shared_pool):
    other = desk.another_process()
    assert other.use_exisiting_pool(shared_pool) == shared_pool
    job_id = other.create_a_job()
    other.add_tasks_to_job(job_id, ("1_task.py", "x"))
    assert other.get_results(job_id, timeout=PATIENCE)[0].value == ["of the pool", ["x"]]


def test_a_repurposed_pool_runs_other_files_while_older_jobs_keep_theirs(own_desk):
    own_desk.task("1_task.py", "def do_action(engine):\n    return 'old'\n")
    pool_id = own_desk.batch.create_pool(task_files=own_desk.storage.get_batch_task_files(), slots_per_node=2)
    old_job = own_desk.batch.create_a_job()
    own_desk.batch.add_tasks_to_job(old_job, ("1_task.py",))
    own_desk.task("1_task.py", "def do_action(engine):\n    return 'new'\n")
    own_desk.storage.upload_task_files()
    own_desk.batch.repurpose_existing_pool(pool_id, [], [], own_desk.storage.get_batch_task_files())
    new_job = own_desk.batch.create_a_job()
    own_desk.batch.add_tasks_to_job(new_job, ("1_task.py",))
    assert own_desk.batch.get_results(new_job, timeout=PATIENCE)[0].value == "new"
    own_desk.batch.add_tasks_to_job(old_job, ("1_task.py",))
    assert [result.value for result in own_desk.batch.get_results(old_job, timeout=PATIENCE)] == ["old", "old"]
    own_desk.another_process().use_existing_pool(pool_id)
    assert own_desk.others[-1]._deployed == own_desk.batch._deployed


def test_a_start_task_that_fails_ends_the_wait_with_its_words(own_desk):
    own_desk.task("echo.py", ECHO)
    own_desk.batch.create_pool(start_commands=["true", "echo the disk is missing >&2; exit 7"])
    with pytest.raises(StartTaskFailed, match="the disk is missing") as caught:
        own_desk.run(("echo.py", ""))
    assert caught.value.exit_code == 7
    assert caught.value.node_id


def test_start_commands_run_one_after_the_other(own_desk):
    own_desk.task(
        "look.py",
        "import os\n\ndef do_action(engine):\n    return open(os.environ['AZ_BATCH_NODE_SHARED_DIR'] + '/made').read()\n",
    )
    made = '"$AZ_BATCH_NODE_SHARED_DIR/made"'
    own_desk.batch.create_pool(start_commands=[f"echo it\\'s > {made}", f"echo 'two words' >> {made}"])
    assert own_desk.run(("look.py",))[0].value == "it's\ntwo words\n"


def test_a_preparation_that_fails_on_every_node_ends_the_wait(own_desk):
    own_desk.task("echo.py", ECHO)
    own_desk.batch.create_pool()
    job_id = own_desk.batch.create_a_job()
    container = own_desk.storage.files_container
    file = own_desk.storage.get_batch_task_files()[0]
    own_desk.storage.delete_blobs(container, [names.content_blob(file.sha256)])
    own_desk.batch.add_tasks_to_job(job_id, ("echo.py", ""))
    with pytest.raises(NoEligibleNode, match="cannot be prepared") as caught:
        own_desk.batch.wait_for_tasks(job_id, timeout=PATIENCE)
    assert caught.value.exit_code == 1


def test_a_pool_without_nodes_is_an_error_until_it_is_resized(own_desk):
    own_desk.task("echo.py", ECHO)
    pool_id = own_desk.batch.create_pool(node_count=0)
    job_id = own_desk.batch.create_a_job()
    own_desk.batch.add_tasks_to_job(job_id, ("echo.py", "x"))
    with pytest.raises(NoEligibleNode, match="resize"):
        own_desk.batch.wait_for_tasks(job_id, timeout=PATIENCE)
    own_desk.batch.resize_pool(pool_id, 2, wait=True, timeout=PATIENCE)
    assert own_desk.batch.get_results(job_id, timeout=PATIENCE)[0].value == ["x"]


def test_a_pool_that_is_deleted_under_a_job_ends_the_wait(own_desk):
    own_desk.task("sleeps.py", "import time\n\ndef do_action(engine):\n    time.sleep(300)\n")
    pool_id = own_desk.batch.create_pool()
    job_id = own_desk.batch.create_a_job()
    own_desk.batch.add_tasks_to_job(job_id, ("sleeps.py",))
    assert own_desk.batch.delete_pool() is True
    with pytest.raises(NoEligibleNode, match="does not exist"):
        own_desk.batch.wait_for_tasks(job_id, timeout=PATIENCE)
    with pytest.raises(ConfigurationError, match="there is no pool"):
        own_desk.batch.create_a_job()
    with pytest.raises((NotFound, NoEligibleNode)):
        own_desk.batch.wait_for_pool(pool_id, timeout=PATIENCE)


def test_a_retired_image_is_replaced_by_a_named_one(make_desk, local_stack, caplog):
    old = make_desk(f"old-{secrets.token_hex(4)}")
    settings = local_stack.settings()
    retired = PoolSettings(publisher="OpenLogic", offer="CentOS", sku="7.7")
    batch = AzureBatch(old.storage, replace(settings, pool=retired))
    old.others.append(batch)
    old.task("echo.py", ECHO)
    with caplog.at_level(logging.WARNING):
        pool_id = batch.create_pool(node_count=0)
    assert "OpenLogic CentOS 7.7 is not supported" in caplog.text
    assert "ubuntu" in caplog.text
    batch.delete_pool(pool_id)


def test_pools_and_jobs_of_others_are_left_alone(own_desk, make_desk):
    stranger = make_desk(f"stranger-{secrets.token_hex(4)}")
    stranger.task("echo.py", ECHO)
    theirs = stranger.batch.create_pool(app_name="Their App", node_count=0)
    assert theirs.startswith("their-app")
    their_job = stranger.batch.create_a_job()
    own_desk.task("echo.py", ECHO)
    mine = own_desk.batch.create_pool(node_count=0)
    my_job = own_desk.batch.create_a_job()
    assert own_desk.batch.get_available_pool() == ""
    assert own_desk.batch.delete_all_jobs() == [my_job]
    assert own_desk.batch.delete_all_pools() == [mine]
    assert stranger.batch.jobs.facts(their_job).state == "active"
    assert stranger.batch.pools.get(theirs)["state"] == "active"
    stranger.batch.delete_all_jobs()
    stranger.batch.delete_all_pools()


def test_an_available_pool_becomes_the_current_one(own_desk):
    own_desk.task("echo.py", ECHO)
    pool_id = own_desk.batch.create_pool()
    other = own_desk.another_process()
    assert other.get_available_pool() == pool_id
    job_id = other.create_a_job()
    assert other.jobs.facts(job_id).pool_id == pool_id


def wait_until_gone(batch, job_id):
    """A job that is being deleted ends its release tasks first, and has its pool until then."""
    deadline = time.monotonic() + PATIENCE
    while batch.service.find(at("jobs", job_id), select=("id",)) is not None:
        assert time.monotonic() < deadline, f"job {job_id} is still there"
        time.sleep(0.02)


def test_what_nothing_uses_is_cleaned_up(own_desk):
    own_desk.task("echo.py", ECHO)
    pool_id = own_desk.batch.create_pool()
    job_id = own_desk.batch.create_a_job()
    own_desk.batch.add_tasks_to_job(job_id, ("echo.py", "x" * 20_000))
    assert own_desk.batch.clean_up(dry_run=True).pools == ()
    own_desk.batch.get_results(job_id, timeout=PATIENCE)
    own_desk.batch.terminate_job(job_id)
    own_desk.batch.delete_a_job(job_id)
    wait_until_gone(own_desk.batch, job_id)
    planned = own_desk.batch.clean_up(results=True, dry_run=True)
    assert planned.pools == (pool_id,)
    assert planned.containers == (own_desk.storage.output_container,)
    assert own_desk.batch.pools.get(pool_id)["state"] == "active"
    assert own_desk.batch.clean_up(results=True) == planned
    assert list(own_desk.storage.list_blobs(own_desk.storage.files_container, "args/")) == []
    assert own_desk.storage.output_container not in own_desk.storage.list_containers()


def test_a_pool_says_what_is_deployed_on_it(desk, shared_pool):
    facts = metadata(desk.batch.pools.get(shared_pool))
    assert len(facts[names.DEPLOYMENT]) == 64
    assert facts[names.FILES_CONTAINER] == desk.storage.files_container


# --- wrong use --------------------------------------------------------------------------------------------------------


def test_what_is_not_there_is_told_by_its_kind(desk):
    with pytest.raises(NotFound):
        desk.batch.use_existing_pool("no-such-pool")
    with pytest.raises(NotFound):
        desk.batch.add_tasks_to_job("no-such-job", ("1_task.py",))
    with pytest.raises(NotFound):
        desk.batch.get_results("no-such-job")
    assert desk.batch.delete_a_job("no-such-job") is False
    assert desk.batch.delete_pool("no-such-pool") is False


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda desk: desk.batch.create_pool([], [], []), "app_name is a name"),
        (lambda desk: desk.batch.create_pool(task_files=["1_task.py"]), "is no file of the storage"),
        (lambda desk: desk.batch.create_pool(pool_id="a b"), "pool id 'a b'"),
        (lambda desk: desk.batch.create_pool(slots_per_node=300), "1 to 256"),
        (lambda desk: desk.batch.create_a_job(job_id="../x"), "job id '../x'"),
        (lambda desk: desk.batch.create_a_job(limit="soon"), "limit"),
        (lambda desk: desk.batch.create_a_job(limit=-1), "limit"),
        (lambda desk: desk.batch.create_a_job(priority=5000), "priority"),
        (lambda desk: desk.batch.create_a_job(output_container="A!"), "container"),
        (lambda desk: desk.batch.get_results(".."), "is not a name"),
    ],
)
def test_wrong_use_is_refused_before_the_service_is_asked(desk, call, words):
    desk.task("echo.py", ECHO)
    with pytest.raises(ConfigurationError, match=words):
        call(desk)


def test_a_job_that_somebody_else_made_is_not_touched(desk, shared_pool):
    job_id = names.new_id("foreign")
    desk.batch.service.request("POST", "/jobs", {"id": job_id, "poolInfo": {"poolId": shared_pool}})
    with pytest.raises(ConfigurationError, match="was not made by azbatchwrap"):
        desk.batch.add_tasks_to_job(job_id, ("1_task.py",))
    desk.batch.delete_a_job(job_id)
