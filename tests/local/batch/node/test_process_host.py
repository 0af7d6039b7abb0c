from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from azbatchwrap.local.batch.node import HostLost, ProcessHost, kill_leftovers, kill_orphans
from azbatchwrap.local.batch.node.process_helper import start_time
from azbatchwrap.local.batch.node.process_host import StartFailed
from tests.local.batch.node.waiting import alive, until

ENVIRONMENT = {"PATH": "/usr/bin:/bin"}


def number_in(path: Path) -> int:
    return int(path.read_text() or 0) if path.exists() else 0


async def test_a_process_gets_its_folder_streams_arguments_and_environment(host: ProcessHost, tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "er" / "tâsk"
    script = 'printf "%s|" "$PWD" "$GREETING" "$@"; cat; echo problem >&2; exit 3'
    argv = ["sh", "-c", script, "sh", "a b", "c\nd", "é", ""]
    handle = await host.spawn(argv, folder, {**ENVIRONMENT, "GREETING": "x=y\n$z"})
    assert await handle.wait() == 3
    assert (folder / "stdout.txt").read_text() == f"{folder}/wd|x=y\n$z|a b|c\nd|é||"
    assert (folder / "stderr.txt").read_text() == "problem\n"


async def test_nothing_of_the_service_is_inherited(host: ProcessHost, tmp_path: Path) -> None:
    handle = await host.spawn(["sh", "-c", "ls -l /proc/$$/fd; env"], tmp_path, {**ENVIRONMENT, "ONLY": "this"})
    assert await handle.wait() == 0
    told = (tmp_path / "stdout.txt").read_text()
    opened = [line.rpartition(" -> ")[2] for line in told.splitlines() if " -> " in line]
    assert sorted(opened) == sorted(["/dev/null", f"{tmp_path}/stdout.txt", f"{tmp_path}/stderr.txt"])
    names = {line.partition("=")[0] for line in told.splitlines() if "=" in line}
    assert names <= {"PATH", "ONLY", "PWD", "SHLVL", "_", "OLDPWD"}


async def test_signals_have_their_default_meaning_in_tasks(host: ProcessHost, tmp_path: Path) -> None:
    handle = await host.spawn(["grep", "-E", "^Sig(Ign|Blk)", "/proc/self/status"], tmp_path, ENVIRONMENT)
    assert await handle.wait() == 0
    told = (tmp_path / "stdout.txt").read_text().split()
    assert [int(mask, 16) & 0x7FFFFFFF for mask in told[1::2]] == [0, 0]  # beyond 31 they are the C library's own


@pytest.mark.parametrize(("number", "code"), [(signal.SIGKILL, 137), (signal.SIGTERM, 143), (signal.SIGSEGV, 139)])
async def test_a_signal_is_reported_as_a_shell_does(host: ProcessHost, tmp_path: Path, number: int, code: int) -> None:
    handle = await host.spawn(["sh", "-c", f"kill -{int(number)} $$"], tmp_path, ENVIRONMENT)
    assert await handle.wait() == code


async def test_the_handle_names_the_process(host: ProcessHost, tmp_path: Path) -> None:
    handle = await host.spawn(["sleep", "60"], tmp_path, ENVIRONMENT)
    assert os.getpgid(handle.pid) == os.getsid(handle.pid) == handle.pid
    assert await handle.kill() == 137


async def test_the_start_time_is_the_systems(host: ProcessHost, tmp_path: Path) -> None:
    handles = [await host.spawn(["sleep", "60"], tmp_path / str(number), ENVIRONMENT) for number in range(60)]
    assert [handle.start_time for handle in handles] == [start_time(handle.pid) for handle in handles]
    assert min(handle.start_time for handle in handles) > 0


async def test_a_process_that_ended_tells_what_it_took(host: ProcessHost, tmp_path: Path) -> None:
    before = time.time_ns()
    handle = await host.spawn(["sh", "-c", "i=0; while [ $i -lt 50000 ]; do i=$((i+1)); done"], tmp_path, ENVIRONMENT)
    assert before <= handle.started <= time.time_ns()
    assert handle.usage is None
    await handle.wait()
    assert handle.usage is not None
    assert handle.usage.user + handle.usage.kernel > 0
    assert 0 < handle.usage.wall < (time.time_ns() - before) / 1000
    assert handle.usage.memory > 100_000


async def test_kill_asks_first_and_then_insists(host: ProcessHost, tmp_path: Path) -> None:
    polite = await host.spawn(
        ["sh", "-c", "trap 'exit 5' TERM; echo ready; while :; do sleep 0.02; done"], tmp_path / "a", ENVIRONMENT
    )
    deaf = await host.spawn(
        ["sh", "-c", "trap '' TERM; echo ready; while :; do sleep 0.02; done"], tmp_path / "b", ENVIRONMENT
    )
    for name in ("a", "b"):
        await until(lambda name=name: (tmp_path / name / "stdout.txt").read_text() == "ready\n")
    assert await polite.kill(grace=20) == 5
    assert await deaf.kill(grace=0.1) == 137
    assert polite.ended_because
    assert await deaf.kill() == 137  # again is no error


async def test_descendants_are_killed_when_the_task_ends(host: ProcessHost, tmp_path: Path) -> None:
    script = "(sh -c 'sleep 600 & echo $! > inner; wait' &) ; while [ ! -s inner ]; do sleep 0.01; done"
    handle = await host.spawn(["sh", "-c", script], tmp_path, ENVIRONMENT)
    assert await handle.wait() == 0
    inner = number_in(tmp_path / "wd" / "inner")
    assert inner > 0
    await until(lambda: not alive(inner))


async def test_missing_programs_and_files_that_are_none(host: ProcessHost, tmp_path: Path) -> None:
    (tmp_path / "t" / "wd").mkdir(parents=True)
    (tmp_path / "t" / "wd" / "plain").write_text("no program")
    (tmp_path / "t" / "wd" / "lost").write_text("#!/no/such/interpreter\n")
    (tmp_path / "t" / "wd" / "lost").chmod(0o755)
    steps = {}
    for program in ("no-such-program", "./missing", "/bin", "./plain", "./lost"):
        with pytest.raises(StartFailed) as caught:
            await host.spawn([program], tmp_path / "t", ENVIRONMENT)
        steps[program] = caught.value.step
    assert steps == {
        "no-such-program": "program",
        "./missing": "program",
        "/bin": "program",
        "./plain": "execute",
        "./lost": "execute",
    }
    with pytest.raises(StartFailed) as caught:
        await host.spawn(["true"], tmp_path / "t" / "wd" / "plain" / "below", ENVIRONMENT)
    assert caught.value.step == "folder"


async def test_bad_settings_do_not_end_the_helper(host: ProcessHost, tmp_path: Path) -> None:
    for environment in ({"": "x"}, {"A": "x" * 200_000}):
        with pytest.raises(StartFailed):
            await host.spawn(["/bin/true"], tmp_path, environment)
    for argv in (["/bin/true", "a\0b"], ["/bin/true", "\ud800"]):
        with pytest.raises(ValueError):
            await host.spawn(argv, tmp_path, ENVIRONMENT)
    assert await (await host.spawn(["/bin/true"], tmp_path, ENVIRONMENT)).wait() == 0


async def test_many_at_once(host: ProcessHost, tmp_path: Path) -> None:
    async def one(number: int) -> int:
        handle = await host.spawn(["sh", "-c", f"exit {number % 100}"], tmp_path / str(number), ENVIRONMENT)
        return await handle.wait()

    assert await asyncio.gather(*(one(number) for number in range(200))) == [number % 100 for number in range(200)]


async def test_the_helper_is_small(host: ProcessHost) -> None:
    status = await asyncio.to_thread(Path(f"/proc/{host.pid}/status").read_text)
    assert int(status.partition("VmRSS:")[2].split()[0]) < 20 * 1024  # KiB


async def test_close_kills_what_runs(tmp_path: Path) -> None:
    host = ProcessHost()
    await host.start()
    handle = await host.spawn(["sleep", "600"], tmp_path, ENVIRONMENT)
    waiting = asyncio.ensure_future(handle.wait())
    await host.close()
    with pytest.raises(HostLost):
        await waiting
    await until(lambda: not alive(handle.pid))


async def test_a_dead_helper_is_noticed_and_replaced(host: ProcessHost, tmp_path: Path) -> None:
    handle = await host.spawn(["sleep", "600"], tmp_path, ENVIRONMENT)
    first = host.pid
    os.kill(first, signal.SIGKILL)
    with pytest.raises(HostLost):
        await handle.wait()
    await until(lambda: not alive(handle.pid))
    assert await (await host.spawn(["/bin/true"], tmp_path, ENVIRONMENT)).wait() == 0
    assert host.pid != first


async def test_one_helper_replaces_a_dead_one_however_many_ask(host: ProcessHost, tmp_path: Path) -> None:
    first = host.pid
    os.kill(first, signal.SIGKILL)
    await until(lambda: not alive(first))
    with contextlib.suppress(HostLost):  # it may not be known yet
        await (await host.spawn(["/bin/true"], tmp_path / "probe", ENVIRONMENT)).wait()
    handles = await asyncio.gather(
        *(host.spawn(["sh", "-c", "echo $PPID"], tmp_path / str(number), ENVIRONMENT) for number in range(5))
    )
    assert [await handle.wait() for handle in handles] == [0] * 5
    assert {int((tmp_path / str(number) / "stdout.txt").read_text()) for number in range(5)} == {host.pid}


async def test_a_cancelled_spawn_leaves_no_process(host: ProcessHost, tmp_path: Path) -> None:
    script = "echo $$ > pid; exec sleep 600"
    spawning = asyncio.ensure_future(host.spawn(["sh", "-c", script], tmp_path, ENVIRONMENT))
    await asyncio.sleep(0)
    spawning.cancel()
    with pytest.raises(asyncio.CancelledError):
        await spawning
    assert await (await host.spawn(["/bin/true"], tmp_path / "other", ENVIRONMENT)).wait() == 0
    pid = number_in(tmp_path / "wd" / "pid")
    await until(lambda: not alive(pid))


async def test_one_cancelled_in_the_moment_it_starts_leaves_no_process_either(
    host: ProcessHost, tmp_path: Path
) -> None:
    loop = asyncio.get_running_loop()
    spawning = asyncio.ensure_future(host.spawn(["sleep", "600"], tmp_path, ENVIRONMENT))
    started: list[int] = []

    def cancel_at_once() -> None:
        """Runs in each turn of the loop: after the helper's answer was read, before who waits for it goes on."""
        started.extend(handle.pid for handle in host._running.values())
        if started:
            spawning.cancel()
        else:
            loop.call_soon(cancel_at_once)

    loop.call_soon(cancel_at_once)
    with pytest.raises(asyncio.CancelledError):
        await spawning
    await until(lambda: not alive(started[0]))


DYING_SERVICE = """
import asyncio, sys
from pathlib import Path
from azbatchwrap.local.batch.node import ProcessHost
async def main():
    host = ProcessHost()
    await host.start()
    handle = await host.spawn(["sh", "-c", "sleep 600 & echo $! > inner; wait"], Path(sys.argv[1]), {"PATH": "/usr/bin:/bin"})
    print(host.pid, handle.pid, handle.start_time, flush=True)
    await handle.wait()
asyncio.run(main())
"""


@pytest.mark.parametrize("helper_too", [False, True])
async def test_a_killed_service_leaves_no_task_running(tmp_path: Path, helper_too: bool) -> None:
    service = await asyncio.create_subprocess_exec(
        sys.executable, "-c", DYING_SERVICE, str(tmp_path), stdout=subprocess.PIPE
    )
    helper, pid, started = map(int, (await service.stdout.readline()).split())
    await until(lambda: number_in(tmp_path / "wd" / "inner") > 0)
    inner = number_in(tmp_path / "wd" / "inner")
    if helper_too:
        os.kill(helper, signal.SIGSTOP)
    service.kill()
    await service.wait()
    if helper_too:
        os.kill(helper, signal.SIGKILL)
        assert alive(pid)
        assert kill_orphans([(pid, started + 1), (pid, 0)]) == []  # another process has the number by now
        assert alive(pid)
        assert kill_orphans([(pid, started)]) == [pid]
    await until(lambda: not alive(pid) and not alive(inner))
    await until(lambda: not alive(helper))


def test_orphans_that_are_gone_are_no_error() -> None:
    process = subprocess.Popen(["/bin/true"])
    started = start_time(process.pid)
    process.wait()
    assert kill_orphans([(process.pid, started)]) == []


async def test_daemons_that_left_their_task_are_found_by_their_node(host: ProcessHost, tmp_path: Path) -> None:
    nodes = tmp_path / "nodes"
    pids = []
    for root in (nodes / "p" / "n", tmp_path / "nodes-of-others" / "p" / "n"):
        environment = {**ENVIRONMENT, "AZ_BATCH_NODE_ROOT_DIR": str(root)}
        script = "setsid sh -c 'echo $$ > daemon; exec sleep 600' & while [ ! -s daemon ]; do sleep 0.01; done"
        handle = await host.spawn(["sh", "-c", script], root / "startup", environment)
        assert await handle.wait() == 0
        pids.append(number_in(root / "startup" / "wd" / "daemon"))
    mine, theirs = pids
    assert alive(mine)  # a start task may leave daemons, as on Azure
    assert kill_leftovers(nodes) == [mine]
    await until(lambda: not alive(mine))
    assert alive(theirs)
    os.kill(theirs, signal.SIGKILL)


async def test_the_helper_ends_its_tasks_when_it_is_asked_to_end(host: ProcessHost, tmp_path: Path) -> None:
    handle = await host.spawn(["sleep", "600"], tmp_path, ENVIRONMENT)
    os.kill(host.pid, signal.SIGTERM)
    with contextlib.suppress(HostLost):
        await handle.wait()
    await until(lambda: not alive(handle.pid))
