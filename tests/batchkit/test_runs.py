"""Whole runs in processes of their own: modes, signals, crashes, exit codes."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from azbatchwrap.batchkit.journal import read_records
from tests.batchkit_servers import PATIENCE, Server, Servers
from tests.waiting import wait_until

CONSUMER = Path(__file__).with_name("consumer.py")


class Client:
    """`azbatchwrap batchkit run` over folders below ``place``."""

    def __init__(self, place: Path, kind: str = "Words") -> None:
        self.endpoints = place / "endpoints.yaml"
        self.input = place / "input"
        self.output = place / "output"
        self.input.mkdir()
        self._kind = kind
        self._processes: list[subprocess.Popen[str]] = []

    def use(self, *servers: Server, concurrency: int = 4) -> None:
        """Put these endpoints in force, by an in-place write."""
        self.endpoints.write_text(self.text_for(*servers, concurrency=concurrency))

    @staticmethod
    def text_for(*servers: Server, concurrency: int = 4) -> str:
        return json.dumps({f"e{s.port}": {"url": s.url, "concurrency": concurrency} for s in servers})

    def command(self, *options: str) -> list[str]:
        return [
            sys.executable, "-m", "azbatchwrap.cli.main", "batchkit", "run", f"{CONSUMER}:{self._kind}", "-e",
            str(self.endpoints), "-i", str(self.input), "-o", str(self.output), "--json", *options,
        ]  # fmt: skip

    def start(self, *options: str) -> subprocess.Popen[str]:
        process = subprocess.Popen(self.command(*options), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        self._processes.append(process)
        return process

    def run(self, *options: str) -> tuple[int, dict[str, Any], str]:
        return self.end(self.start(*options))

    @staticmethod
    def end(process: subprocess.Popen[str]) -> tuple[int, dict[str, Any], str]:
        out, err = process.communicate(timeout=PATIENCE)
        return process.returncode, json.loads(out) if out else {}, err

    def ids(self) -> list[str]:
        return [record.id for record in read_records(self.output / "results.jsonl")]

    def summary(self) -> dict[str, Any]:
        found: dict[str, Any] = json.loads((self.output / "run_summary.json").read_text())
        return found

    def stop(self) -> None:
        for process in self._processes:
            if process.poll() is None:
                process.kill()
            process.communicate()


@pytest.fixture
def client(tmp_path: Path) -> Iterator[Client]:
    made = Client(tmp_path)
    yield made
    made.stop()


@pytest.fixture
def file_client(tmp_path: Path) -> Iterator[Client]:
    made = Client(tmp_path, "WholeFiles")
    yield made
    made.stop()


def lines(count: int) -> str:
    return "".join(f"line {n}\n" for n in range(count))


# --- ONESHOT ----------------------------------------------------------------------------------------------------------


def test_oneshot_does_what_is_there_and_exits_0(client: Client, servers: Servers) -> None:
    server = servers.new()
    client.use(server)
    (client.input / "sub folder ü").mkdir()
    (client.input / "sub folder ü" / "a.txt").write_text(lines(20))
    (client.input / ".half written").write_text("no\n")
    # What the run writes below its own input is not its input.
    client.output = client.input / "output"
    code, facts, shown = client.run()
    assert (code, facts["passed"], server.asked) == (0, 20, 20)
    assert "20/20 items" in shown
    assert f"e{server.port}: up" in shown
    # A second run finds all of it done.
    code, facts, _ = client.run()
    assert (code, facts["passed"], facts["cached"], server.asked) == (0, 20, 20, 20)
    # New content under the old name is new work.
    (client.input / "sub folder ü" / "a.txt").write_text(lines(21))
    code, facts, _ = client.run()
    assert (code, facts["cached"], server.asked) == (0, 0, 41)


def test_some_failed_is_exit_1_and_they_get_another_chance_with_the_next_run(client: Client, servers: Servers) -> None:
    server = servers.new(answer=lambda body, _: web.Response(status=400 if body == "line 3" else 200, text="{}"))
    server.answer = lambda body, _: web.json_response({}, status=400 if body == "line 3" else 200)
    client.use(server)
    (client.input / "a.txt").write_text(lines(5))
    logs = client.output.parent / "logs"
    code, facts, _ = client.run("--log-folder", str(logs))
    assert (code, facts["passed"], facts["failed"]) == (1, 4, 1)
    assert "WARNING azbatchwrap.batchkit.batch: a.txt:line 3: failed: ServiceError: " in (logs / "run.log").read_text()
    failed = [entry for entry in client.summary()["processed_files"] if not entry["passed"]]
    assert [(entry["filepath"], entry["error_type"]) for entry in failed] == [("a.txt:line 3", "ServiceError")]
    server.answer = lambda body, _: web.json_response({})
    code, facts, _ = client.run()
    assert (code, facts["passed"], facts["cached"], server.asked) == (0, 5, 4, 6)
    assert sorted(client.ids()) == [f"a.txt:line {n}" for n in range(5)]


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (None, "cannot be read"),
        ("", "names no endpoint"),
        ("{", "neither YAML nor JSON"),
        ("a: {host: h, concurrency: 0}", "concurrency is a whole number from 1 to 1000"),
    ],
)
def test_a_wrong_endpoint_file_is_exit_2_and_says_why(client: Client, content: str | None, complaint: str) -> None:
    if content is not None:
        client.endpoints.write_text(content)
    code, _, err = client.run()
    assert (code, complaint in err) == (2, True), err
    assert "Traceback" not in err


def test_a_disk_without_room_is_exit_2_and_named(client: Client, servers: Servers) -> None:
    """Files that may not grow stand for the full disk: neither says where it is."""
    client.use(servers.new())
    (client.input / "a.txt").write_text(lines(1))
    command = ["sh", "-c", 'ulimit -f 0; exec "$@"', "sh", *client.command()]
    done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 2
    assert f"error: output folder {client.output}: cannot be used: File too large" in done.stderr


def test_a_missing_input_folder_is_exit_2(client: Client, servers: Servers) -> None:
    client.use(servers.new())
    client.input.rmdir()
    code, _, err = client.run()
    assert (code, "is no folder" in err) == (2, True), err


def test_two_runs_on_one_output_folder_are_refused(client: Client, servers: Servers) -> None:
    server = servers.new(delay=30)
    client.use(server)
    (client.input / "a.txt").write_text(lines(1))
    first = client.start()
    wait_until(lambda: server.asked)
    code, _, err = client.run()
    assert (code, "another run is using it" in err) == (2, True), err
    first.send_signal(signal.SIGINT)
    assert client.end(first)[0] == 130


def test_sigterm_finishes_what_is_in_flight_and_the_next_start_does_the_rest(client: Client, servers: Servers) -> None:
    server = servers.new(delay=0.2)
    client.use(server)
    (client.input / "a.txt").write_text(lines(30))
    running = client.start()
    wait_until(lambda: server.asked >= 8)
    running.send_signal(signal.SIGTERM)
    code, facts, _ = client.end(running)
    assert code == 1
    assert 0 < facts["undone"] == 30 - facts["passed"]
    assert facts["passed"] == server.asked
    server.delay = 0
    code, facts, _ = client.run()
    assert (code, facts["passed"], server.asked) == (0, 30, 30)


def test_sigterm_before_anything_was_listed_is_no_success(client: Client, servers: Servers) -> None:
    server = servers.new(delay=60)
    client.use(server)
    os.mkfifo(client.input / "a.txt")  # its listing waits for a writer
    running = client.start()
    wait_until((client.output / ".batchkit" / "run.json").exists)
    running.send_signal(signal.SIGTERM)
    code, facts, _ = client.end(running)
    assert (code, facts["passed"], facts["undone"]) == (1, 0, 0)


def test_kill_9_again_and_again_leaves_one_result_per_item(client: Client, servers: Servers) -> None:
    server = servers.new(delay=0.01)
    client.use(server)
    (client.input / "a.txt").write_text(lines(600))
    for kill in range(3):
        running = client.start()
        wait_until(lambda: server.asked > 120 * (kill + 1))  # noqa: B023 - called at once
        running.kill()
        client.end(running)
    code, facts, _ = client.run()
    assert (code, facts["passed"]) == (0, 600)
    assert Counter(client.ids()) == Counter(f"a.txt:line {n}" for n in range(600))
    summary = client.summary()
    assert summary["overall_summary"]["file_stats"]["passed"] == len(summary["processed_files"]) == 600
    assert server.asked < 600 + 3 * 60


def test_hot_swap_by_rename_symlink_and_an_empty_write_in_between(client: Client, servers: Servers) -> None:
    first, second, third = (servers.new(delay=0.02) for _ in range(3))
    versions = client.endpoints.parent / "versions"
    versions.mkdir()
    (versions / "1").write_text(client.text_for(first))
    (versions / "2").write_text(client.text_for(second))
    client.endpoints.symlink_to(versions / "1")
    (client.input / "a.txt").write_text(lines(700))
    running = client.start()
    wait_until(lambda: first.asked > 20)

    link = client.endpoints.with_name("beside")
    link.symlink_to(versions / "2")
    link.replace(client.endpoints)  # as Kubernetes does
    wait_until(lambda: second.asked > 20)
    settled = first.asked
    (versions / "2").write_text("")
    (versions / "2").write_text("{ broken")
    seen = second.asked
    wait_until(lambda: second.asked > seen + 20)

    beside = client.endpoints.with_name("beside")
    beside.write_text(client.text_for(second, third))
    beside.replace(client.endpoints)  # as editors do
    wait_until(lambda: third.asked > 20)
    code, facts, err = client.end(running)
    assert (code, facts["passed"]) == (0, 700), err
    assert sum((server.bodies for server in (first, second, third)), Counter()) == {f"line {n}": 1 for n in range(700)}
    assert first.asked == settled


# --- DAEMON -----------------------------------------------------------------------------------------------------------


def test_daemon_takes_each_file_when_it_is_whole(file_client: Client, servers: Servers) -> None:
    client, server = file_client, servers.new()
    client.use(server)
    (client.input / "there.txt").write_text("was there")
    running = client.start("--mode", "DAEMON")
    wait_until(lambda: server.bodies["was there"])

    beside = client.endpoints.parent / "renamed.txt"
    beside.write_text("by rename")
    beside.rename(client.input / "renamed.txt")
    wait_until(lambda: server.bodies["by rename"])

    with (client.input / "slow.txt").open("w") as slow:
        slow.write("slow ")
        slow.flush()
        (client.input / "probe.txt").write_text("probe")
        wait_until(lambda: server.bodies["probe"])
        assert server.bodies["slow "] == 0
        slow.write("write")
    wait_until(lambda: server.bodies["slow write"])
    assert server.bodies["slow "] == 0

    (client.input / "renamed.txt").write_text("new content")
    wait_until(lambda: server.bodies["new content"])
    (client.input / "renamed.txt").unlink()
    (client.input / "renamed.txt").write_text("once more")
    wait_until(lambda: server.bodies["once more"])
    running.send_signal(signal.SIGTERM)
    code, facts, _ = client.end(running)
    assert (code, facts["passed"]) == (0, 6)
    assert set(server.bodies.values()) == {1}


def test_daemon_starts_a_new_file_beside_a_long_one_and_ends_with_sighup(file_client: Client, servers: Servers) -> None:
    client = file_client
    server = servers.new()
    server.answer = lambda body, _: _later(1.0) if body == "long" else web.json_response({})
    client.use(server)
    (client.input / "long.txt").write_text("long")
    running = client.start("--mode", "DAEMON")
    wait_until(lambda: server.bodies["long"])
    (client.input / "short.txt").write_text("short")
    wait_until(lambda: server.bodies["short"])
    assert server.in_flight >= 1
    running.send_signal(signal.SIGHUP)
    code, facts, _ = client.end(running)
    assert (code, facts["passed"], facts["undone"]) == (0, 2, 0)


async def _later(seconds: float) -> web.Response:
    import asyncio

    await asyncio.sleep(seconds)
    return web.json_response({})


def test_daemon_scans_by_signal_and_by_polling_where_no_notifications_come(
    file_client: Client, servers: Servers
) -> None:
    client, server = file_client, servers.new()
    client.use(server)
    running = client.start("--mode", "DAEMON", "--poll-only", "--poll", "3600")
    (client.input / "a.txt").write_text("first")
    wait_until((client.output / ".batchkit" / "run.json").exists)

    def scanned() -> int:
        running.send_signal(signal.SIGUSR1)
        time.sleep(0.1)
        return server.asked

    wait_until(scanned)
    running.send_signal(signal.SIGTERM)
    assert client.end(running)[0] == 0


# --- other ------------------------------------------------------------------------------------------------------------


def test_few_file_descriptors_are_enough(client: Client, servers: Servers) -> None:
    made = [servers.new(delay=0.01) for _ in range(3)]
    client.use(*made, concurrency=100)
    (client.input / "a.txt").write_text(lines(600))
    command = [
        "sh",
        "-c",
        'ulimit -n 100; exec "$@"',
        "sh",
        *client.command("--log-folder", str(client.output / "log")),
    ]
    process = subprocess.run(command, check=False, capture_output=True, text=True, timeout=PATIENCE)
    assert process.returncode == 0, process.stderr
    assert sum(server.asked for server in made) == 600
    assert max(server.most_in_flight for server in made) <= 36
    assert "ulimit" in (client.output / "log" / "run.log").read_text()


def test_the_last_line_of_an_endpoint_tells_all_that_it_served(client: Client, servers: Servers) -> None:
    server = servers.new()
    client.use(server)
    (client.input / "a.txt").write_text(lines(20))
    said = client.run()[2]
    assert re.search(rf"^e{server.port}: 20 served in ", said, re.MULTILINE), said


def test_the_log_folder_gets_a_run_log(client: Client, servers: Servers, tmp_path: Path) -> None:
    client.use(servers.new())
    (client.input / "a.txt").write_text(lines(1))
    assert client.run("--log-folder", str(tmp_path / "logs"))[0] == 0
    assert "endpoint" in (tmp_path / "logs" / "run.log").read_text()


def test_a_report_is_one_page(client: Client, servers: Servers) -> None:
    server = servers.new(answer=lambda body, _: web.Response(status=400 if body == "line 1" else 200, text="<b>"))
    client.use(server)
    (client.input / "a.txt").write_text(lines(3))
    assert client.run()[0] == 1
    command = [sys.executable, "-m", "azbatchwrap.cli.main", "batchkit", "report", str(client.output), "--json"]
    facts = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    page = Path(facts["report"]).read_text()
    assert facts["items"] == 3
    assert "ServiceError" in page
    assert "<b>" not in page
    assert "http" not in page.replace(server.url, "")
    assert f"e{server.port}" in page


def test_the_example_scores_texts(servers: Servers, tmp_path: Path) -> None:
    (tmp_path / "texts").mkdir()
    (tmp_path / "texts" / "one.txt").write_text("three little words")
    server = servers.new()
    example = Path(__file__).parents[2] / "examples" / "score_texts.py"
    assert len(example.read_text().splitlines()) < 60
    command = [sys.executable, str(example), str(tmp_path / "texts"), str(tmp_path / "scores"), server.url]
    subprocess.run(command, check=True, timeout=PATIENCE, env={**os.environ, "PYTHONWARNINGS": "error"})
    (record,) = read_records(tmp_path / "scores" / "results.jsonl")
    assert record.result.value == {"got": "three little words"}
