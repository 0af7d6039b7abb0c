"""Whatever a step does, result.json says what became of it."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from azbatchwrap.engine.record import encode
from tests.waiting import wait_until

from .conftest import DEADLINE, Node


def is_alive(process: int) -> bool:
    """Whether a process runs (and is not just waiting to be reaped)."""
    try:
        return Path(f"/proc/{process}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def test_the_record_of_a_success_has_exactly_the_promised_shape(node: Node) -> None:
    run = node.run_code(
        "def do_action(engine, *args):\n    engine.data_to_upload('x', 'b/out.txt')\n    return {'n': 1}"
    )

    assert run.code == 0
    step = run.result["steps"][0]
    assert run.result == {
        "version": 1,
        "job": "job-1",
        "task": "task-1",
        "node": "tvm-1",
        "state": "succeeded",
        "attempts": 1,
        "value": {"n": 1},
        "steps": [
            {
                "name": "1_task.py",
                "state": "succeeded",
                "started": step["started"],
                "seconds": step["seconds"],
                "value": {"n": 1},
            }
        ],
        "outputs": ["b/out.txt"],
    }
    assert step["started"].endswith("Z")
    assert 0 <= step["seconds"] < DEADLINE


def test_an_exception_is_recorded_with_the_users_traceback_and_outputs_stay(node: Node) -> None:
    node.lay_out(
        {
            "tasks/1_task.py": "def do_action(engine):\n    engine.data_to_upload('kept', 'kept.txt')\n    return 41",
            "tasks/2_task.py": "def helper(x):\n    return 1 // (x - 41)\ndef do_action(engine, x):\n    return helper(x)",
            "tasks/3_task.py": "def do_action(engine, x):\n    return x",
        }
    )
    run = node.run("1_task.py")

    assert run.code == 1
    assert run.result["state"] == "failed"
    assert "value" not in run.result
    assert [step["state"] for step in run.result["steps"]] == ["succeeded", "failed"]
    assert run.result["steps"][0]["value"] == 41
    assert run.error["type"] == "ZeroDivisionError"
    assert "2_task.py" in run.error["traceback"]
    assert "1 // (x - 41)" in run.error["traceback"]
    assert "azbatchwrap_engine" not in run.error["traceback"]
    assert run.stderr.splitlines()[-1].startswith("ZeroDivisionError: ")
    assert run.result["outputs"] == ["kept.txt"]
    assert run.output("kept.txt") == b"kept"


@pytest.mark.parametrize(
    ("code", "kind", "message", "exit_code"),
    [
        ("x = 1", "AttributeError", "1_task.py defines no function do_action(engine, *args)", 1),
        ("def do_action(engine:\n", "SyntaxError", "", 1),
        ("import no_such_package", "ModuleNotFoundError", "No module named 'no_such_package'", 1),
        ("def do_action(engine): sys.exit(3)", "SystemExit", "3", 3),
        ("def do_action(engine): sys.exit(256)", "SystemExit", "256", 1),
        ("def do_action(engine): sys.exit('no luck')", "SystemExit", "no luck", 1),
        ("def do_action(engine): os._exit(7)", "ProcessExit", "exit code 7 instead of returning", 7),
        ("def do_action(engine): os._exit(0)", "ProcessExit", "exit code 0 instead of returning", 1),
        ("def do_action(engine): os.kill(os.getpid(), 9)", "KilledBySignal", "signal 9 (SIGKILL)", 137),
        ("def do_action(engine): os.kill(os.getpid(), 11)", "KilledBySignal", "signal 11 (SIGSEGV)", 139),
        ("os.kill(os.getpid(), 9)", "KilledBySignal", "signal 9", 137),
        ("def do_action(engine): raise KeyboardInterrupt", "KeyboardInterrupt", "", 130),
        ("def do_action(engine, a, b): pass", "TypeError", "missing 2 required positional arguments", 1),
        ("def do_action(engine): return do_action(engine)", "RecursionError", "maximum recursion depth", 1),
        (
            "class Odd(Exception):\n    def __str__(self): raise OSError\ndef do_action(engine): raise Odd",
            "Odd",
            "repr",
            1,
        ),
        ("def do_action(engine): raise ValueError('\\ud800 x')", "ValueError", "\\ud800 x", 1),
    ],
)
def test_a_step_that_fails(node: Node, code: str, kind: str, message: str, exit_code: int) -> None:
    run = node.run_code(code)

    assert run.result["state"] == "failed"
    assert run.error["type"] == kind
    assert message in run.error["message"] or (message == "repr" and run.error["message"])
    assert run.code == exit_code
    assert run.result["steps"][0]["name"] == "1_task.py"


@pytest.mark.parametrize("code", ["sys.exit()", "sys.exit(0)", "exit()"])
def test_leaving_with_success_ends_the_step_and_the_chain_goes_on(node: Node, code: str) -> None:
    node.lay_out(
        {
            "tasks/1_task.py": f"import sys\ndef do_action(engine): {code}",
            "tasks/2_task.py": "def do_action(engine, value): return [value, 'ran']",
        }
    )
    assert node.run("1_task.py").result["value"] == [None, "ran"]


@pytest.mark.parametrize(
    ("expression", "in_repr", "reason"),
    [
        ("{1, 2}", "{1, 2}", "not JSON serializable"),
        ("b'bytes'", "b'bytes'", "not JSON serializable"),
        ("float('nan')", "nan", "Out of range"),
        ("[float('inf')]", "[inf]", "Out of range"),
        ("2 ** 64", "18446744073709551616", "64 bits"),
        ("10 ** 5000", "whose repr raises ValueError", "int"),
        ("{1: 'a'}", "{1: 'a'}", "the key 1"),
        ("{None: 1}", "{None: 1}", "the key None"),
        ("{'a': [{(1, 2): 1}]}", "(1, 2)", "keys must be"),
        ("Point(1)", "Point(x=1)", "not JSON serializable"),
        ("loop", "[[...]]", "Circular"),
        ("'\\ud800'", "'\\ud800'", "surrogates"),
        ("object", "<class 'object'>", "not JSON serializable"),
    ],
)
def test_a_value_that_json_cannot_hold_is_shown_and_said_so(
    node: Node, expression: str, in_repr: str, reason: str
) -> None:
    run = node.run_code(
        "from dataclasses import dataclass\n@dataclass\nclass Point:\n    x: int\n"
        f"loop = []\nloop.append(loop)\ndef do_action(engine): return {expression}"
    )
    assert run.code == 0
    assert run.result["state"] == "succeeded"
    assert "value" not in run.result
    assert in_repr in run.result["repr"]
    assert run.result["steps"][0]["repr"] == run.result["repr"]
    assert "that JSON cannot hold" in run.stderr
    assert reason in run.stderr


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5),
    max_leaves=20,
)


@given(JSON)
def test_json_values_come_back_as_they_were(value: Any) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return
    text, obstacle = encode(value)
    assert obstacle is None
    assert json.loads("{" + text[1:] + "}") == {"value": value}


def test_a_value_of_100_megabytes(node: Node) -> None:
    run = node.run_code("def do_action(engine): return 'x' * (100 << 20)")
    assert run.code == 0
    assert len(run.result["value"]) == 100 << 20


def test_printing_200_megabytes(node: Node) -> None:
    run = node.run_code("def do_action(engine):\n    line = 'x' * 1023\n    for _ in range(200 << 10): print(line)")
    assert run.code == 0
    assert (run.folder / "stdout.log").stat().st_size == 200 << 20


def test_output_shows_while_the_step_still_runs(node: Node) -> None:
    node.lay_out(
        {
            "tasks/1_task.py": "import os, time\ndef do_action(engine):\n    print('héllo \\udcff')\n"
            "    while not os.path.exists('go'): time.sleep(0.01)"
        }
    )
    process, folder = node.start("1_task.py", settings={"LC_ALL": "POSIX", "PYTHONIOENCODING": "ascii"})

    wait_until(lambda: (folder / "stdout.log").stat().st_size > 0, "a line in the log")
    running = json.loads((folder / "result.json").read_text())
    (folder / "go").touch()

    assert process.wait(DEADLINE) == 0
    assert (folder / "stdout.log").read_text() == "héllo \\udcff\n"
    assert running["state"] == "running"
    assert running["steps"][0]["state"] == "running"


def test_a_step_that_runs_past_its_time_is_ended_with_all_it_started(node: Node) -> None:
    node.lay_out(
        {
            "tasks/1_task.py": "def do_action(engine): return 1",
            "tasks/2_task.py": """
import os, subprocess, time
def do_action(engine, value):
    engine.data_to_upload("before", "before.txt")
    child = subprocess.Popen(["sleep", "600"])
    # A daemon: its own parent has gone.
    subprocess.run(["sh", "-c", "sleep 600 & echo $! > daemon"])
    with open("child", "w") as file:
        file.write(str(child.pid))
    time.sleep(600)
""",
        }
    )
    run = node.run("1_task.py", timeout=3)

    assert run.code == 124
    assert run.result["state"] == "failed"
    assert [step["state"] for step in run.result["steps"]] == ["succeeded", "failed"]
    assert run.result["steps"][0]["value"] == 1
    assert run.error["type"] == "TimeoutError"
    assert "limit of 3 s" in run.error["message"]
    assert "2_task.py" in run.error["traceback"]
    assert "azbatchwrap_engine" not in run.error["traceback"]
    assert run.result["steps"][1]["seconds"] > 1
    assert run.result["outputs"] == ["before.txt"]
    for name in ("child", "daemon"):
        process = int((run.folder / name).read_text())
        wait_until(lambda process=process: not is_alive(process), f"the end of the {name}")


def test_a_step_stuck_in_c_code_is_ended_too(node: Node) -> None:
    run = node.run_code("import re\ndef do_action(engine): re.match('(a+)+b', 'a' * 60)", timeout=1)
    assert run.code == 124
    assert run.error["type"] == "TimeoutError"
    assert "in do_action" in run.error["traceback"]


def test_a_step_that_ends_in_time_is_not_touched(node: Node) -> None:
    run = node.run_code("def do_action(engine): return 'in time'", timeout=DEADLINE)
    assert run.result["value"] == "in time"


def test_retries_start_from_a_fresh_state_and_count(node: Node) -> None:
    run = node.run_code(
        """
seen = []
def do_action(engine):
    seen.append(1)
    os.environ["LEFT"] = os.environ.get("LEFT", "") + "x"
    with open("tries", "a") as file:
        file.write("x")
    tries = os.path.getsize("tries")
    os.chdir("/")
    if tries < 3:
        raise ValueError("not yet")
    return [len(seen), os.environ["LEFT"], tries, engine.attempt]
""",
        retries=4,
    )
    assert run.code == 0
    assert run.result["attempts"] == 3
    assert run.result["value"] == [1, "x", 3, 3]
    assert len(run.result["steps"]) == 1
    assert run.stderr.count("ValueError: not yet") == 2


def test_retries_end(node: Node) -> None:
    run = node.run_code("def do_action(engine): os.kill(os.getpid(), 9)", retries=1)
    assert run.code == 137
    assert run.result["attempts"] == 2


@pytest.mark.parametrize(("code", "attempts"), [(5, 3), (6, 1)])
def test_retries_only_for_the_exit_codes_asked_for(node: Node, code: int, attempts: int) -> None:
    run = node.run_code(f"def do_action(engine): sys.exit({code})", retries=2, retry_exit_codes=[5])
    assert run.code == code
    assert run.result["attempts"] == attempts


def test_the_time_covers_all_attempts(node: Node) -> None:
    run = node.run_code("def do_action(engine):\n    time.sleep(0.3)\n    raise ValueError", retries=1000, timeout=1.5)
    assert run.result["state"] == "failed"
    # 1,000 attempts would take five minutes.
    assert run.result["attempts"] < 10


def test_being_terminated_is_recorded_and_not_retried(node: Node) -> None:
    node.lay_out({"tasks/1_task.py": "import time\ndef do_action(engine):\n    print('on')\n    time.sleep(600)"})
    process, folder = node.start("1_task.py", retries=5)
    wait_until(lambda: (folder / "stdout.log").stat().st_size > 0, "the start of the step")

    os.killpg(process.pid, signal.SIGTERM)
    run = node.finished(process.wait(DEADLINE), folder)

    assert run.code == 143
    assert run.result["attempts"] == 1
    assert run.error["type"] == "KilledBySignal"


def test_an_interrupt_is_recorded_and_not_retried(node: Node) -> None:
    node.lay_out({"tasks/1_task.py": "import time\ndef do_action(engine):\n    print('on')\n    time.sleep(600)"})
    process, folder = node.start("1_task.py", retries=5)
    wait_until(lambda: (folder / "stdout.log").stat().st_size > 0, "the start of the step")

    os.killpg(process.pid, signal.SIGINT)
    run = node.finished(process.wait(DEADLINE), folder)

    assert run.code == 130
    assert run.result["attempts"] == 1
    assert run.error["type"] == "KeyboardInterrupt"


def test_a_step_may_wind_down_when_it_is_terminated(node: Node) -> None:
    node.lay_out(
        {
            "tasks/1_task.py": """
import signal, time
def do_action(engine):
    ended = []
    signal.signal(signal.SIGTERM, lambda *_: ended.append(1))
    print("on")
    while not ended:
        time.sleep(0.01)
    engine.data_to_upload("so far", "checkpoint.txt")
    return "wound down"
"""
        }
    )
    process, folder = node.start("1_task.py")
    wait_until(lambda: (folder / "stdout.log").stat().st_size > 0, "the start of the step")

    os.kill(process.pid, signal.SIGTERM)
    run = node.finished(process.wait(DEADLINE), folder)

    assert run.code == 0
    assert run.result["value"] == "wound down"
    assert run.output("checkpoint.txt") == b"so far"


def test_killed_with_its_watcher_the_file_still_says_what_ran(node: Node) -> None:
    node.lay_out({"tasks/1_task.py": "import time\ndef do_action(engine):\n    print('on')\n    time.sleep(600)"})
    process, folder = node.start("1_task.py")
    wait_until(lambda: (folder / "stdout.log").stat().st_size > 0, "the start of the step")

    os.killpg(process.pid, signal.SIGKILL)
    run = node.finished(process.wait(DEADLINE), folder)

    assert run.result["state"] == "running"
    assert run.result["steps"][0]["name"] == "1_task.py"


def test_threads_are_waited_for_and_forks_do_not_report(node: Node) -> None:
    run = node.run_code(
        """
import threading
def late(engine):
    time.sleep(0.3)
    engine.data_to_upload("late", "late.txt")
def do_action(engine):
    if os.fork() == 0:
        return "from the fork"
    os.wait()
    threading.Thread(target=late, args=(engine,)).start()
    return "from the step"
"""
    )
    assert run.result["value"] == "from the step"
    assert run.result["outputs"] == ["late.txt"]


@pytest.mark.parametrize(
    "code",
    [
        "async def do_action(engine):\n    import asyncio\n    await asyncio.sleep(0)\n    return [1, 2]",
        "def do_action(engine):\n    yield 1\n    yield 2",
        "async def do_action(engine):\n    yield 1\n    yield 2",
    ],
)
def test_what_an_async_or_yielding_step_does_is_done(node: Node, code: str) -> None:
    run = node.run_code(code)
    assert (run.code, run.result["value"]) == (0, [1, 2]), run.stderr


def test_an_async_step_that_fails_is_recorded(node: Node) -> None:
    run = node.run_code("async def do_action(engine):\n    raise ValueError('no')")
    assert (run.code, run.error["type"], run.error["message"]) == (1, "ValueError", "no")


@pytest.mark.parametrize(("end", "exit_code"), [("return 'done'", 0), ("sys.exit(5)", 5), ("raise ValueError", 1)])
def test_a_step_that_closes_every_file_it_does_not_know(node: Node, end: str, exit_code: int) -> None:
    run = node.run_code(f"import sys\ndef do_action(engine):\n    os.closerange(3, 256)\n    {end}")
    assert (run.code, run.result["state"]) == (exit_code, "failed" if exit_code else "succeeded")
    assert "azbatchwrap: attempt" not in run.stderr


def test_worker_processes_find_the_task_module(node: Node) -> None:
    run = node.run_code(
        """
import multiprocessing
def square(x):
    return x * x
def do_action(engine):
    with multiprocessing.get_context("spawn").Pool(2) as pool:
        return pool.map(square, [1, 2, 3])
"""
    )
    assert run.result.get("value") == [1, 4, 9], run.stderr


def test_a_step_that_destroys_the_record_is_still_recorded(node: Node) -> None:
    run = node.run_code("def do_action(engine):\n    os.remove('result.json')\n    os._exit(2)")
    assert run.error["type"] == "ProcessExit"


@pytest.mark.parametrize("name", ["result.json", "stdout.txt"])
def test_an_output_that_would_hide_the_record_fails_the_task_and_is_kept(node: Node, name: str) -> None:
    run = node.run_code(f"def do_action(engine): open('outputs/{name}', 'w').write('mine')")
    assert run.code == 1
    assert name in run.error["message"]
    assert run.result["outputs"] == [f"outputs_{name}"]


def test_inputs_appear_under_their_names(node: Node) -> None:
    names = ["input.txt", "data/a b.csv", "data/deep/ümläut \n'x'.txt"]
    node.lay_out(
        {f"inputs/{name}": name for name in names}
        | {"tasks/1_task.py": "def do_action(engine, *names): return [open(name, newline='').read() for name in names]"}
    )
    assert node.run("1_task.py", *names).result["value"] == names


def test_only_the_inputs_asked_for_appear(node: Node) -> None:
    node.lay_out(
        {f"inputs/{name}": name for name in ("a.txt", "b.txt", "data/c.txt")}
        | {"tasks/1_task.py": "import os\ndef do_action(engine): return sorted(os.listdir('.'))"}
    )
    run = node.run("1_task.py", inputs=["a.txt", "data"])
    assert "a.txt" in run.result["value"]
    assert "data" in run.result["value"]
    assert "b.txt" not in run.result["value"]

    missing = node.run("1_task.py", inputs=["nothing.txt"])
    assert missing.code == 1
    assert "'nothing.txt'" in missing.error["message"]


def test_the_tasks_own_resource_file_wins_over_an_input(node: Node) -> None:
    node.lay_out({"inputs/a.txt": "input", "tasks/1_task.py": "def do_action(engine): return open('a.txt').read()"})
    folder = node.new_folder()
    (folder / "a.txt").write_text("resource")
    assert node.run("1_task.py", folder=folder).result["value"] == "resource"


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"AZBATCHWRAP_ARGS": "[1,"}, "AZBATCHWRAP_ARGS is not JSON"),
        ({"AZBATCHWRAP_ARGS": '{"a": 1}'}, "AZBATCHWRAP_ARGS must be a JSON array"),
        ({"AZBATCHWRAP_ARGS": "@none.json"}, "none.json, which cannot be read"),
        ({"AZBATCHWRAP_TASK": "{}"}, 'AZBATCHWRAP_TASK must be a JSON object with a "module"'),
        ({"AZBATCHWRAP_TASK": "[1] x"}, "AZBATCHWRAP_TASK is not JSON"),
    ],
)
def test_unreadable_orders_are_a_recorded_failure(node: Node, settings: dict[str, str], message: str) -> None:
    node.lay_out({"tasks/1_task.py": "def do_action(engine): pass"})
    run = node.run("1_task.py", settings=settings)
    assert run.code == 1
    assert run.result["state"] == "failed"
    assert message in run.error["message"]


def test_an_input_with_the_records_name_is_refused(node: Node) -> None:
    node.lay_out({"inputs/result.json": "{}", "tasks/1_task.py": "def do_action(engine): pass"})
    run = node.run("1_task.py")
    assert run.code == 1
    assert "'result.json'" in run.error["message"]


def test_nothing_slow_is_imported_before_the_first_step(node: Node) -> None:
    run = node.run_code("LOADED = sorted(sys.modules)\ndef do_action(engine): return LOADED")
    slow = {"json", "re", "enum", "pathlib", "typing", "threading", "logging", "subprocess", "traceback", "inspect"}
    # An interpreter with .pth files may have loaded some of them before the engine begins.
    bare = subprocess.run(
        [node.bin / "python3", "-c", "import sys; print(*sys.modules)"], capture_output=True, text=True, check=True
    )
    assert slow & set(run.result["value"]) <= slow & set(bare.stdout.split())
