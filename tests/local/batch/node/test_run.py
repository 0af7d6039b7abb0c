from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from collections.abc import Iterator
from datetime import datetime, timedelta, timezone
from pathlib import Path

import pytest

from azbatchwrap.local.batch.node import HostLost, NodeFolders, NodePlace, ProcessHandle, ProcessHost, Stage, Transfers
from tests.local.batch.node.blob_server import BlobServer
from tests.local.batch.node.conftest import Node
from tests.local.batch.node.test_transfers import output
from tests.local.batch.node.waiting import alive, until
from tests.real_parts import small_disk


async def test_a_task_that_succeeds(node: Node) -> None:
    before = datetime.now(timezone.utc)
    outcome = await node.run("/bin/sh -c 'echo hello; pwd; echo $AZ_BATCH_TASK_ID'")
    assert (outcome.succeeded, outcome.exit_code, outcome.failure, outcome.stage) == (True, 0, None, None)
    assert before <= outcome.started <= outcome.ended <= datetime.now(timezone.utc)
    assert node.stdout() == f"hello\n{node.folder()}/wd\nt1\n"
    assert sorted(path.name for path in node.folder().iterdir()) == ["stderr.txt", "stdout.txt", "wd"]
    assert [handle.pid > 0 for handle in node.started] == [True]


async def test_no_shell_touches_the_line(node: Node) -> None:
    outcome = await node.run("echo $HOME *.txt 'a  b' > out | wc && echo")
    assert outcome.succeeded
    assert node.stdout() == "$HOME *.txt a  b > out | wc && echo\n"


async def test_the_nodes_python_runs_without_the_users_packages(node: Node) -> None:
    outcome = await node.run("python3 -c 'import sys; print(sys.prefix); import aiohttp'")
    assert outcome.exit_code == 1
    assert node.stdout().strip() == str(node.folders.place.python_bin.parent)
    assert "No module named 'aiohttp'" in (node.folder() / "stderr.txt").read_text()


@pytest.mark.parametrize(("command", "code"), [("sh -c 'exit 7'", 7), ("sh -c 'kill -9 $$'", 137)])
async def test_an_exit_code_that_is_not_zero(node: Node, command: str, code: int) -> None:
    outcome = await node.run(command)
    assert outcome.exit_code == code
    assert outcome.stage is Stage.COMMAND
    failure = outcome.failure.wire()
    assert (failure["category"], failure["code"]) == ("UserError", "FailureExitCode")
    assert failure["details"] == [{"name": "Message", "value": f"the exit code was {code}"}]


@pytest.mark.parametrize(
    ("command", "code"),
    [
        ("no-such-program --flag", "CommandProgramNotFound"),
        ("./missing.sh", "CommandProgramNotFound"),
        ("echo 'open", "CommandLaunchFailed"),
        ("echo a\0b", "CommandLaunchFailed"),
        ("", "CommandLaunchFailed"),
    ],
)
async def test_lines_that_cannot_start(node: Node, command: str, code: str) -> None:
    outcome = await node.run(command)
    assert (outcome.exit_code, outcome.stage) == (None, Stage.PREPARATION)
    assert (outcome.failure.category, outcome.failure.code) == ("UserError", code)
    assert node.started == []


async def test_files_that_are_no_programs_and_too_long_settings(node: Node, blobs: BlobServer) -> None:
    blobs.containers["in"]["plain"] = b"text"
    files = [{"httpUrl": blobs.url("in", "plain"), "filePath": "plain"}]
    plain = await node.run("./plain", resource_files=files)
    assert plain.failure.code == "CommandLaunchFailed"
    long = await node.run("/bin/true", settings={"LONG": "x" * 200_000})
    assert long.failure.code == "CommandLaunchFailed"
    assert "too long" in long.failure.details[0][1]


async def test_resource_files_come_before_the_command_and_outputs_leave_after(node: Node, blobs: BlobServer) -> None:
    blobs.containers["in"] = {"run.sh": b'#!/bin/sh\ncat data/in.txt > out.txt; echo "said"', "data/in.txt": b"input"}
    outcome = await node.run(
        "./run.sh",
        resource_files=[{"storageContainerUrl": blobs.url("in")}],
        output_files=[output(blobs, "*.txt", "job/t1"), output(blobs, "../stdout.txt", "job/t1/stdout.txt")],
    )
    assert outcome.succeeded
    assert blobs.containers["out"] == {"job/t1/out.txt": b"input", "job/t1/stdout.txt": b"said\n"}


async def test_a_missing_resource_file_stops_the_task_before_it_runs(node: Node, blobs: BlobServer) -> None:
    outcome = await node.run(
        "/bin/true",
        resource_files=[{"httpUrl": blobs.url("in", "none"), "filePath": "x"}],
        output_files=[output(blobs, "../*.txt", "job")],
    )
    assert (outcome.exit_code, outcome.failure.code, outcome.stage) == (None, "BlobNotFound", Stage.PREPARATION)
    assert node.started == []
    assert blobs.containers["out"] == {}  # what never started uploads nothing


async def test_outputs_of_a_failed_task_leave_too(node: Node, blobs: BlobServer) -> None:
    outputs = [output(blobs, "../stdout.txt", name, f"task{name}") for name in ("success", "failure", "completion")]
    outcome = await node.run("sh -c 'echo out; exit 2'", output_files=outputs)
    assert outcome.failure.code == "FailureExitCode"
    assert blobs.containers["out"] == {"failure": b"out\n", "completion": b"out\n"}


async def test_a_failed_upload_fails_a_task_that_did_well(node: Node, blobs: BlobServer) -> None:
    outputs = [output(blobs, "../stdout.txt", "x", containerUrl=blobs.url("none"))]
    well = await node.run("/bin/true", output_files=outputs)
    assert (well.exit_code, well.stage, well.failure.code) == (0, Stage.UPLOAD, "FileUploadContainerNotFound")
    badly = await node.run("/bin/false", "t2", output_files=outputs)
    assert (badly.exit_code, badly.stage, badly.failure.code) == (1, Stage.COMMAND, "FailureExitCode")
    assert badly.upload_failure.code == "FileUploadContainerNotFound"


async def test_the_wall_clock_ends_a_task_and_its_children(node: Node, blobs: BlobServer) -> None:
    outcome = await node.run(
        "sh -c 'sleep 600 & echo $! > child; echo early; wait'",
        wall_clock=0.3,
        output_files=[output(blobs, "../stdout.txt", "stdout.txt")],
    )
    assert (outcome.failure.code, outcome.exit_code, outcome.stage) == ("TaskEnded", 143, Stage.COMMAND)
    assert outcome.ended - outcome.started < timedelta(seconds=20)
    assert blobs.containers["out"] == {"stdout.txt": b"early\n"}
    child = int((node.folder() / "wd" / "child").read_text())
    await until(lambda: not alive(child))


async def test_a_container_task_is_not_run_outside_of_one(node: Node) -> None:
    outcome = await node.run("/bin/true", container={"imageName": "busybox"})
    assert (outcome.failure.code, outcome.exit_code) == ("CommandLaunchFailed", None)


async def test_the_wall_clock_counts_downloads(node: Node, blobs: BlobServer) -> None:
    blobs.containers["in"]["a"] = b"a"
    blobs.silent.add("/in/a")
    files = [{"httpUrl": blobs.url("in", "a"), "filePath": "a"}]
    outcome = await node.run("/bin/true", wall_clock=0.2, resource_files=files)
    assert (outcome.failure.code, outcome.exit_code) == ("TaskEnded", None)


async def test_azures_default_limit_is_none(node: Node) -> None:
    assert (await node.run("/bin/true", wall_clock=922_337_203_685.4775807)).succeeded


async def test_the_handle_ends_a_task(node: Node) -> None:
    killing: list[asyncio.Future[int]] = []

    def end(handle: ProcessHandle) -> None:
        killing.append(asyncio.ensure_future(handle.kill(1, "a user asked for it")))

    outcome = await node.run("sleep 600", on_started=end)
    assert (outcome.failure.code, outcome.failure.details) == ("TaskEnded", (("Message", "a user asked for it"),))
    assert await killing[0] == outcome.exit_code


async def test_cancelling_kills_the_process(node: Node, blobs: BlobServer) -> None:
    running = asyncio.ensure_future(node.run("sleep 600", output_files=[output(blobs, "../stdout.txt", "x")]))
    await until(lambda: bool(node.started))
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert await node.started[0].wait() == 137
    assert blobs.containers["out"] == {}


async def test_a_lost_host_is_the_services_business(node: Node) -> None:
    running = asyncio.ensure_future(node.run("sleep 600"))
    await until(lambda: bool(node.started))
    os.kill(node.host.pid, 9)
    with pytest.raises(HostLost):
        await running
    assert (await node.run("/bin/true")).succeeded


async def test_a_second_attempt_finds_the_files_of_the_first_and_new_streams(node: Node) -> None:
    await node.run("sh -c 'echo first attempt; echo x > kept'")
    outcome = await node.run("cat kept")
    assert outcome.succeeded
    assert node.stdout() == "x\n"


async def test_ids_and_settings_with_odd_characters(node: Node) -> None:
    task = "t_-" + "x" * 61
    setting = "a'b\"c $(d) `e`\nf ünï"
    outcome = await node.run("sh -c 'printf %s \"$ODD\"'", task, settings={"ODD": setting})
    assert outcome.succeeded
    assert node.stdout(task) == setting


async def test_sockets_fit_into_the_temporary_folder(node: Node) -> None:
    code = "import multiprocessing as m; d = m.Manager().dict(a=1); print(d['a'])"
    outcome = await node.run(f"python3 -c \"if __name__ == '__main__': {code}\"")
    assert outcome.succeeded, (node.folder() / "stderr.txt").read_text()


async def test_200_megabytes_pass_without_being_held(node: Node, blobs: BlobServer) -> None:
    """In a process of its own the whole round takes a fraction of the file's size."""
    script = Path(__file__).with_name("large_output.py")
    process = await asyncio.create_subprocess_exec(
        sys.executable, str(script), str(node.folders.place.root), blobs.url("out"),
        stdout=subprocess.PIPE,
    )  # fmt: skip
    told, _ = await process.communicate()
    assert process.returncode == 0
    assert len(blobs.containers["out"]["big.txt"]) == 200 << 20
    assert int(told) < 20 << 10  # KiB


def test_everything_works_on_the_services_own_event_loop(folders: NodeFolders) -> None:
    uvloop = pytest.importorskip("uvloop")

    async def story() -> None:
        blobs, host, transfers = (
            await BlobServer(containers={"in": {"a": b"a"}, "out": {}}).start(),
            ProcessHost(),
            Transfers(),
        )
        await transfers.start()
        node = Node(folders, host, transfers)
        files = [{"httpUrl": blobs.url("in", "a"), "filePath": "a"}]
        outputs = [output(blobs, "../stdout.txt", "x")]
        assert (await node.run("cat a", resource_files=files, output_files=outputs)).succeeded
        assert blobs.containers["out"] == {"x": b"a"}
        assert (await node.run("sleep 600", wall_clock=0.1)).failure.code == "TaskEnded"
        running = asyncio.ensure_future(node.run("sleep 600", on_started=lambda _: os.kill(host.pid, 9)))
        with pytest.raises(HostLost):
            await running
        await host.close()
        await transfers.close()
        await blobs.stop()

    uvloop.run(story())


@pytest.fixture
def disk(tmp_path: Path) -> Iterator[Path]:
    with small_disk(tmp_path / "disk", "size=256k,nr_inodes=40") as place:
        yield place


async def test_a_full_disk_fails_the_task_and_nothing_else(
    node: Node, disk: Path, blobs: BlobServer, node_python: Path
) -> None:
    on_disk = Node(NodeFolders(NodePlace(disk / "nodes" / "p" / "n", node_python)), node.host, node.transfers)
    on_disk.folders.create()
    blobs.containers["in"]["big"] = os.urandom(1 << 20)
    files = [{"httpUrl": blobs.url("in", "big"), "filePath": "big"}]
    download = await on_disk.run("/bin/true", resource_files=files)
    assert (download.failure.category, download.failure.code) == ("ServerError", "DiskFull")
    assert list((on_disk.folder() / "wd").iterdir()) == []
    assert (await on_disk.run("/bin/true", "t2")).succeeded
    count = 0
    while os.statvfs(disk).f_ffree:
        (disk / f"filler{count}").touch()
        count += 1
    assert (await on_disk.run("/bin/true", "t3")).failure.code == "DiskFull"
    assert (await on_disk.run("/bin/true", "t4", resource_files=files)).failure.code == "DiskFull"
    upload = await on_disk.run("/bin/true", "t2", output_files=[output(blobs, "../stdout.txt", "x")])
    assert upload.failure.code == "DiskFull"  # no room for its log, but the file left
    assert "x" in blobs.containers["out"]
    assert (await node.run("/bin/true", "t5")).succeeded
