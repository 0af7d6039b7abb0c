"""What is told before a run, and what is drawn after it."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable
from datetime import datetime, timedelta, timezone
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree as ET

import pytest

from azbatchwrap.batch.pools import PoolPlan
from azbatchwrap.batch.sessions import PoolPolicy, Session
from azbatchwrap.batch.timeline import Span, lanes, svg, utilisation
from azbatchwrap.errors import ConfigurationError, NotFound
from tests.fixtures_aml import AmlStack
from tests.fixtures_stack import LocalStack

ROOT = Path(__file__).parents[3]
Open = Callable[..., Session]
DEADLINE = 60.0

SCRIPT = """
from azbatchwrap import PoolPolicy, Session

def square(x):
    return x * x

with Session("planned", project={project!r}, pool=PoolPolicy.autoscale(1, 4)) as session:
    futures = session.map(square, range(50))
    print(session.gather(futures))
"""


def test_a_dry_session_sends_nothing(open_session: Open, work: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "input.txt").write_text("12345")
    project = f"dry-{secrets.token_hex(3)}"
    session = open_session("dry", dry_run=True, project=project, inputs=[tmp_path / "input.txt"])
    futures = session.map(work.note, [str(tmp_path)] * 3, "abc")
    with pytest.raises(ConfigurationError, match="dry session"):
        futures[0].result(0)
    plan = session.plan()
    assert plan.tasks == {f"{work.__name__}.note": 3}
    assert {file.name: file.stored for file in plan.files} == {
        f"app/{work.__name__}.py": False,
        "inputs/input.txt": False,
    }
    assert plan.node_hours(3600) == pytest.approx(3 / 2)
    assert list(session.manager.jobs.list()) == []
    session.close()
    assert session.plan() == plan


def test_plan_of_a_script(local_stack: LocalStack, tmp_path: Path) -> None:
    project = f"plan-{secrets.token_hex(3)}"
    (tmp_path / "driver.py").write_text(SCRIPT.format(project=project))
    said = local_stack.run("plan", "driver.py", "--task-seconds", "36", folder=tmp_path)
    assert said.returncode == 0, said.stderr
    for words in ("planned: 50 tasks", "50 x __main__.square", "app/driver.py", "would be made", "0.50 node-hours"):
        assert words in said.stdout
    assert "formula at the beginning: 1 dedicated" in said.stdout
    assert "formula with 50 tasks pending: 4 dedicated" in said.stdout


WRAPPER = """
from azbatchwrap import AzureBatch, AzureBatchStorage

storage = AzureBatchStorage(project="{project}")
storage.add_task_file_path("1_task.py")
with AzureBatch(storage) as batch:
    {doing}
"""


@pytest.mark.parametrize(
    "doing",
    [
        "storage.upload_task_files()",
        "batch.create_pool()",
        "storage.create_output_folder()",
    ],
)
def test_a_script_without_sessions_does_nothing(local_stack: LocalStack, tmp_path: Path, doing: str) -> None:
    """What is paid for must not happen because somebody asked what it would cost."""
    project = f"plan-{secrets.token_hex(3)}"
    (tmp_path / "driver.py").write_text(WRAPPER.format(project=project, doing=doing))
    (tmp_path / "1_task.py").write_text("def do_action(engine): return 1\n")
    before = [local_stack.run(kind, "list", "--json", folder=tmp_path).stdout for kind in ("pool", "job")]
    said = local_stack.run("plan", "driver.py", folder=tmp_path)
    assert (said.returncode, said.stdout) == (2, "")
    assert "plan its manifest" in said.stderr
    assert "Traceback" not in said.stderr
    assert [local_stack.run(kind, "list", "--json", folder=tmp_path).stdout for kind in ("pool", "job")] == before


@pytest.mark.parametrize(
    ("script", "said"),
    [
        ("syntax(", "SyntaxError: "),
        ("import nowhere", "ModuleNotFoundError: No module named 'nowhere'"),
        ("def f():\n    raise KeyError(3)\nf()", 'line 3, in <module>\n    f()\n  File "driver.py", line 2, in f'),
        ("import sys\nsys.exit('usage: driver.py DATA')", "driver.py ended with: usage: driver.py DATA"),
    ],
)
def test_a_script_that_fails_shows_its_own_traceback(
    local_stack: LocalStack, tmp_path: Path, script: str, said: str
) -> None:
    (tmp_path / "driver.py").write_text(script)
    done = local_stack.run("plan", "driver.py", folder=tmp_path)
    assert done.returncode == 2
    assert said in re.sub(r"\n *[~^]+", "", done.stderr)
    assert "runpy" not in done.stderr


def test_a_planned_script_shows_no_progress_of_its_own(local_stack: LocalStack, tmp_path: Path) -> None:
    script = SCRIPT.format(project=f"plan-{secrets.token_hex(3)}")
    waiting = "print(list(as_completed(futures, progress=True)))"
    script = script.replace("print(session.gather(futures))", waiting).replace("import P", "import as_completed, P")
    (tmp_path / "driver.py").write_text(script)
    said = local_stack.run("plan", "driver.py", folder=tmp_path)
    assert "planned: 50 tasks" in said.stdout
    assert "failed" not in said.stderr


def test_a_script_may_exit(local_stack: LocalStack, tmp_path: Path) -> None:
    script = SCRIPT.format(project=f"plan-{secrets.token_hex(3)}")
    (tmp_path / "driver.py").write_text(f"{script}\nimport sys\nsys.exit(0)\n")
    said = local_stack.run("plan", "driver.py", folder=tmp_path)
    assert "planned: 50 tasks" in said.stdout


PRICES = {"currency": "EUR", "sizes": {"standard_d2s_v3": {"dedicated": 0.1, "spot": 0.02}}}


def test_quota_sizes_and_money(aml_stack: AmlStack, tmp_path: Path) -> None:
    (tmp_path / "driver.py").write_text(SCRIPT.format(project=f"plan-{secrets.token_hex(3)}"))
    (tmp_path / "prices.json").write_text(json.dumps(PRICES))
    words = ("plan", "driver.py", "--task-seconds", "3600", "--prices", "prices.json")
    said = aml_stack.run(*words, folder=tmp_path)
    assert said.returncode == 0, said.stderr
    for line in (
        "VM size: Standard_D2s_v3: 2 cores, 8 GB, standardDSv3Family",
        "1 to 4 nodes (scaled by a formula) of standard_d2s_v3",
        "50.00 node-hours (at least 12.50 hours), 5.00 EUR",
    ):
        assert line in said.stdout
    assert re.search(r"quota: dedicated cores: 8 wanted, \d+ in use, 350 allowed$", said.stdout, re.MULTILINE)
    (plan,) = json.loads(aml_stack.run(*words, "--json", folder=tmp_path).stdout)
    assert plan["cost"] == {"amount": pytest.approx(5.0), "currency": "EUR"}
    assert plan["node_hours"] == 50
    shares = {share["what"]: share for share in plan["room"]["shares"]}
    assert shares["dedicated cores"]["wanted"] == 8
    assert shares["dedicated cores"]["fits"] is True
    assert plan["formula_sizes"][1] == {"pending": 50, "dedicated": 4, "spot": 0}


def test_what_does_not_fit_is_told(aml_stack: AmlStack, tmp_path: Path) -> None:
    checked = aml_stack.run("config", "check", folder=tmp_path, AZBATCHWRAP_NODE_COUNT="400")
    assert checked.returncode == 3, checked.stderr
    assert re.search(r"quota: dedicated cores +failed +800 wanted", checked.stdout)
    checked = aml_stack.run("config", "check", folder=tmp_path, AZBATCHWRAP_VM_SIZE="standard_z9")
    assert checked.returncode == 2, checked.stderr
    assert "standard_z9 is not offered" in checked.stdout
    assert aml_stack.run("config", "check", folder=tmp_path).returncode == 0


def test_a_management_plane_that_cannot_be_asked_stops_nothing(aml_stack: AmlStack, tmp_path: Path) -> None:
    checked = aml_stack.run("config", "check", folder=tmp_path, AZURE_CLIENT_SECRET="wrong")
    assert checked.returncode == 0, checked.stderr
    assert re.search(r"quota +- +unknown \(.*no token.*az login", checked.stdout, re.DOTALL)


def test_a_size_without_a_price(local_stack: LocalStack, tmp_path: Path) -> None:
    (tmp_path / "driver.py").write_text(SCRIPT.format(project="unpriced"))
    (tmp_path / "prices.json").write_text(json.dumps({"sizes": {"standard_a1_v2": 1}}))
    said = local_stack.run("plan", "driver.py", "--prices", "prices.json", folder=tmp_path)
    assert said.returncode == 2
    assert "prices.json has no price of standard_d2s_v3" in said.stderr


FOREIGN = "$TargetDedicatedNodes = avg($CPUPercent.GetSample(1)) > 0.5 ? 1 : 0;"
USES_POOL = """
from azbatchwrap import Session

with Session(pool={pool!r}) as session:
    session.submit(abs, -1)
"""


def test_a_formula_that_needs_samples_stops_no_plan(
    open_session: Open, local_stack: LocalStack, tmp_path: Path
) -> None:
    manager = open_session().manager
    pool_id = f"foreign-{secrets.token_hex(3)}"
    manager.pools.create(PoolPlan(pool_id, "standard_d2s_v3", 0, formula=FOREIGN))
    (tmp_path / "driver.py").write_text(USES_POOL.format(pool=pool_id))
    said = local_stack.run("plan", "driver.py", folder=tmp_path)
    shown = local_stack.run("pool", "show", pool_id)
    manager.delete_pool(pool_id)
    assert said.returncode == 0, said.stderr
    assert f"the formula of pool {pool_id} cannot be evaluated here" in said.stderr
    assert f"{pool_id} is used again" in said.stdout
    assert re.search(r"scaled by +a formula$", shown.stdout, re.MULTILINE)


def test_a_pool_that_must_be_there(open_session: Open, work: ModuleType) -> None:
    session = open_session(dry_run=True, pool="nowhere")
    session.submit(work.square, 2)
    with pytest.raises(NotFound, match="nowhere"):
        session.close()


def test_plan_of_the_demo_manifest(local_stack: LocalStack) -> None:
    contracts = ROOT / "examples" / "pricing" / "contracts.csv"
    said = local_stack.run("plan", str(ROOT / "task.json"), "--input", str(contracts), "--json")
    assert said.returncode == 0, said.stderr
    (plan,) = json.loads(said.stdout)
    assert plan["tasks"] == {"1_task.py": 8}
    assert [file["name"] for file in plan["files"]] == ["inputs/contracts.csv", "tasks/1_task.py", "tasks/2_task.py"]


def test_a_script_without_a_session(local_stack: LocalStack, tmp_path: Path) -> None:
    (tmp_path / "other.py").write_text("x = 1")
    said = local_stack.run("plan", "other.py", folder=tmp_path)
    assert said.returncode == 2
    assert "opens no Session" in said.stderr


def span(task: str, node: str, began: float, ended: float, state: str = "succeeded") -> Span:
    zero = datetime(2026, 11, 20, tzinfo=timezone.utc)
    return Span(task, node, zero + timedelta(seconds=began), zero + timedelta(seconds=ended), state)


def test_tasks_lie_in_as_few_lanes_as_ran_at_once() -> None:
    spans = [span("a", "n1", 0, 2), span("b", "n1", 1, 3), span("c", "n1", 2, 4), span("d", "n2", 0, 4)]
    placed = lanes(spans)
    assert [[one.task_id for one in lane] for lane in placed["n1"]] == [["a", "c"], ["b"]]
    assert [[one.task_id for one in lane] for lane in placed["n2"]] == [["d"]]
    assert utilisation(spans) == pytest.approx(10 / 12)
    assert utilisation([]) == 0.0


def test_a_picture_needs_nothing_else(
    shared: Session, work: ModuleType, local_stack: LocalStack, tmp_path: Path
) -> None:
    futures = [shared.submit(work.pause, 0.1), shared.submit(work.fail, "<&>")]
    futures[0].result(DEADLINE)
    assert futures[1].exception(DEADLINE) is not None
    job_id = futures[0].job_id
    root = ET.fromstring(shared.timeline(tmp_path / "session.svg").read_text())
    titles = [title.text or "" for title in root.iter("{http://www.w3.org/2000/svg}title")]
    assert any(title.startswith(f"{futures[0].task_id}: succeeded") for title in titles)
    assert any(title.startswith(f"{futures[1].task_id}: failed") for title in titles)
    assert "<svg" in shared._repr_html_()
    said = local_stack.run("job", "timeline", job_id, "--output", "job.html", folder=tmp_path)
    assert said.returncode == 0, said.stderr
    assert "http" not in (tmp_path / "job.html").read_text().replace("http://www.w3.org/2000/svg", "")
    said = local_stack.run("job", "watch", job_id, folder=tmp_path)
    assert said.returncode == 0, said.stderr
    assert "tasks ran" in said.stderr
    assert svg([], "nothing ran").startswith("<svg")


def test_policies_are_planned_too(open_session: Open, work: ModuleType) -> None:
    session = open_session(dry_run=True, pool=PoolPolicy.spot(3, floor=1))
    session.submit(work.square, 2)
    pool = session.plan().pool
    assert (pool.is_new, pool.nodes, pool.spot_nodes) == (True, 1, 3)
    assert "$TargetLowPriorityNodes" in pool.formula


@pytest.mark.parametrize(
    ("policy", "can"),
    [(PoolPolicy.gpu(), "NvidiaTeslaDriverInstalled"), (PoolPolicy(container="a/b:1"), "DockerCompatible")],
)
def test_the_image_can_do_what_the_policy_wants(
    open_session: Open, work: ModuleType, policy: PoolPolicy, can: str
) -> None:
    session = open_session(dry_run=True, pool=policy)
    session.submit(work.square, 2)
    pool = session.plan().pool
    assert pool.image.startswith("microsoft-dsvm ubuntu-hpc 2404")
    assert f"is not {can}" in pool.image
    assert pool.vm_size == ("standard_nc4as_t4_v3" if policy.gpu_drivers else "standard_d2s_v3")
