"""The REST mode, over HTTP, in a process of its own."""

from __future__ import annotations

import json
import signal
import subprocess
import threading
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from aiohttp import web

from azbatchwrap.batchkit import BatchConfig, Mode, RunOptions, ServerOptions
from azbatchwrap.batchkit.client import run
from azbatchwrap.batchkit.journal import read_records
from azbatchwrap.errors import ConfigurationError
from tests.batchkit.consumer import Words
from tests.batchkit.test_runs import Client, lines
from tests.batchkit_servers import PATIENCE, Servers
from tests.waiting import wait_until


class Rest:
    """A client as small as curl."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self.url = ""
        self.process: subprocess.Popen[str]

    def start(self, *options: str) -> None:
        listening = self._client.output / ".batchkit" / "batches" / "listening.json"
        listening.unlink(missing_ok=True)
        self.process = self._client.start("--mode", "APISERVER", "--port", "0", *options)
        wait_until(lambda: listening.exists() or self.process.poll() is not None)
        assert self.process.poll() is None, self.process.communicate()
        facts = json.loads(listening.read_text())
        self.url = f"http://{facts['host']}:{facts['port']}"

    def ask(self, method: str, path: str, body: Any = None, **headers: str) -> tuple[int, Any]:
        data = body if isinstance(body, bytes) or body is None else json.dumps(body).encode()
        request = urllib.request.Request(self.url + path, data=data, method=method, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=PATIENCE) as answer:
                return answer.status, json.loads(answer.read())
        except urllib.error.HTTPError as error:
            return error.code, json.loads(error.read())

    def submit(self, *files: Path) -> str:
        status, facts = self.ask("POST", "/submit", {"type": "Words", "files": [str(path) for path in files]})
        assert status == 200, facts
        assert isinstance(facts["batch_id"], str)
        return str(facts["batch_id"])

    def status(self, batch_id: str, **query: str) -> dict[str, Any]:
        more = "".join(f"&{name}={value}" for name, value in query.items())
        found: dict[str, Any] = self.ask("GET", f"/status?batch_id={batch_id}{more}")[1]
        return found


@pytest.fixture
def rest(tmp_path: Path) -> Iterator[Callable[..., Rest]]:
    client = Client(tmp_path)

    def make(*servers: Any) -> Rest:
        client.use(*servers)
        return Rest(client)

    yield make
    client.stop()


def file_of(tmp_path: Path, name: str, count: int) -> Path:
    path = tmp_path / name
    path.write_text(lines(count))
    return path


def test_a_batch_from_submission_to_deletion(rest: Any, servers: Servers, tmp_path: Path) -> None:
    there = rest(servers.new(delay=0.02))
    there.start()
    assert there.ask("GET", "/health") == (200, {"status": "ok"})
    wait_until(lambda: there.ask("GET", "/ready")[0] == 200)
    batch = there.submit(file_of(tmp_path, "a.txt", 40))
    assert there.status(batch)["status"] in {"waiting", "running"}
    facts = there.status(batch, wait="true")
    assert (facts["status"], facts["status_code"], facts["file_stats"]["passed"]) == ("done", 2, 40)
    summary = json.loads(Path(facts["run_summary_path"]).read_text())
    assert summary["overall_summary"]["file_stats"]["total"] == 40
    assert len(list(read_records(Path(facts["results_dir"]) / "results.jsonl"))) == 40
    assert [known["batch_id"] for known in there.ask("GET", "/list")[1]] == [batch]
    assert there.ask("PUT", f"/delete?batch_id={batch}")[1]["status"] == "deleted"
    assert there.ask("GET", f"/status?batch_id={batch}")[0] == 404
    assert not Path(facts["results_dir"]).exists()
    there.process.send_signal(signal.SIGTERM)
    assert there.process.wait(PATIENCE) == 0


def test_watch_answers_when_the_state_is_reached(rest: Any, servers: Servers, tmp_path: Path) -> None:
    gate = threading.Event()
    there = rest(servers.new(answer=lambda body, _: _open(gate)))
    there.start()
    batch = there.submit(file_of(tmp_path, "a.txt", 1))
    assert there.ask("GET", f"/watch?batch_id={batch}&target_state=running")[1]["status"] == "running"
    assert there.ask("GET", f"/watch?batch_id={batch}&target_state=done&timeout=0.1")[1]["status"] == "running"
    gate.set()
    assert there.ask("GET", f"/watch?batch_id={batch}")[1]["status"] == "done"


async def _open(gate: threading.Event) -> web.Response:
    import asyncio

    while not gate.is_set():  # noqa: ASYNC110 - the gate is opened by another thread
        await asyncio.sleep(0.01)
    return web.json_response({})


@pytest.mark.parametrize(
    ("method", "path", "body", "status", "complaint"),
    [
        ("POST", "/submit", b"{", 400, "no JSON"),
        ("POST", "/submit", b"", 400, "no JSON"),
        ("POST", "/submit", b'\xff{"files": []}', 400, "no JSON"),
        ("POST", "/submit", b'{"files": ' + b"[" * 100_000, 400, "no JSON"),
        ("POST", "/submit", b'{"files": ["\\ud800"]}', 400, "no JSON"),
        ("POST", "/submit", [], 400, "JSON object"),
        ("POST", "/submit", {"files": ["a\0b"]}, 400, "files: no path has a NUL"),
        ("POST", "/submit", {}, 400, "files: expected a list"),
        ("POST", "/submit", {"files": [1]}, 400, "files: expected a list"),
        ("POST", "/submit", {"type": "Other", "files": []}, 400, "this server takes Words"),
        ("GET", "/status", None, 400, "batch_id is missing"),
        ("GET", "/status?batch_id=1", None, 404, "no such batch"),
        ("GET", "/watch?batch_id=BATCH&target_state=over", None, 400, "waiting, running or done"),
        ("GET", "/watch?batch_id=BATCH&timeout=soon", None, 400, "number of seconds"),
        ("GET", "/status?batch_id=BATCH&wait=-1", None, 400, "number of seconds"),
        ("PUT", "/endpoints", {}, 400, "names no endpoint"),
        ("PUT", "/endpoints", b"a: b", 400, "unexpected character"),
        ("GET", "/nowhere", None, 404, "Not Found"),
        ("GET", "/submit", None, 405, "Method Not Allowed"),
    ],
)
def test_wrong_requests_are_told_what_is_wrong(  # noqa: PLR0917 - one table
    shared: Rest, method: str, path: str, body: Any, status: int, complaint: str
) -> None:
    found, facts = shared.ask(method, path.replace("BATCH", shared.ask("GET", "/list")[1][0]["batch_id"]), body)
    assert (found, complaint in facts["error"]) == (status, True), facts


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Rest]:
    """One server for all wrong requests: they must not harm it."""
    place = tmp_path_factory.mktemp("shared")
    servers, client = Servers(), Client(place)
    client.use(servers.new())
    there = Rest(client)
    there.start()
    batch = there.submit(file_of(place, "a.txt", 1))
    assert there.status(batch, wait="true")["status"] == "done"
    yield there
    client.stop()
    servers.close()


def test_an_empty_batch_is_done_and_blocks_nobody(shared: Rest) -> None:
    facts = shared.status(shared.submit(), wait="20")
    assert (facts["status"], facts["file_stats"]["total"]) == ("done", 0)


def test_a_file_that_is_not_there_ends_the_batch_with_the_reason(shared: Rest, tmp_path: Path) -> None:
    facts = shared.status(shared.submit(tmp_path / "gone.txt"), wait="20")
    assert facts["status"] == "done"
    assert "gone.txt" in facts["fault"]


def test_the_page_and_its_description_agree(shared: Rest) -> None:
    description = shared.ask("GET", "/openapi.json")[1]
    assert description["openapi"].startswith("3.")
    for path, methods in description["paths"].items():
        for method in methods:
            status, _ = shared.ask(method.upper(), path, b"")
            assert status not in {404, 405, 500}, (method, path)
    with urllib.request.urlopen(shared.url + "/docs", timeout=PATIENCE) as answer:
        page = answer.read().decode()
    assert "openapi.json" in page
    assert "http" not in page.replace('"http', "")


def test_a_page_under_another_name_reaches_nothing(shared: Rest) -> None:
    assert shared.ask("GET", "/list", Host="evil.example")[0] == 403


def test_endpoints_are_swapped_over_http(rest: Any, servers: Servers, tmp_path: Path) -> None:
    first, second = servers.new(), servers.new()
    there = rest(first)
    there.start()
    status, facts = there.ask("PUT", "/endpoints", {"new": {"url": second.url, "concurrency": 2}})
    assert (status, facts[0]["name"]) == (200, "new")
    batch = there.submit(file_of(tmp_path, "a.txt", 5))
    assert there.status(batch, wait="true")["file_stats"]["passed"] == 5
    assert (first.asked, second.asked) == (0, 5)


def test_a_token_is_needed_beyond_loopback_and_then_by_everybody(rest: Any, servers: Servers, tmp_path: Path) -> None:
    server = servers.new()
    config = BatchConfig(output_folder=tmp_path / "other")
    there = rest(server)
    options = RunOptions(
        mode=Mode.REST,
        endpoints=tmp_path / "endpoints.yaml",
        server=ServerOptions("0.0.0.0", 0),
    )
    with pytest.raises(ConfigurationError, match="needs a token"):
        run(Words, config, options)
    (tmp_path / "token").write_text("geheim\n")
    there.start("--token-file", str(tmp_path / "token"))
    assert there.ask("GET", "/list")[0] == 401
    assert there.ask("GET", "/list", Authorization="Bearer falsch")[0] == 401
    assert there.ask("GET", "/list", Authorization="Bearer geheim") == (200, [])
    assert there.ask("GET", "/health")[0] == 200


def test_a_port_in_use_is_exit_2(rest: Any, servers: Servers, tmp_path: Path) -> None:
    server = servers.new()
    rest(server)
    client = rest(server)._client
    code, _, err = client.run("--mode", "REST", "--port", str(server.port))
    assert (code, "is in use" in err) == (2, True), err


@pytest.mark.parametrize("ending", [signal.SIGKILL, signal.SIGTERM])
def test_a_restart_keeps_the_batches(rest: Any, servers: Servers, tmp_path: Path, ending: signal.Signals) -> None:
    server = servers.new(delay=0.05)
    there = rest(server)
    there.start()
    done = there.submit(file_of(tmp_path, "small.txt", 1))
    assert there.status(done, wait="true")["status"] == "done"
    batches = [there.submit(file_of(tmp_path, f"{n}.txt", 30)) for n in range(2)]
    wait_until(lambda: server.asked > 10)
    there.process.send_signal(ending)
    there.process.wait(PATIENCE)
    there.start()
    assert {known["batch_id"]: known["status"] for known in there.ask("GET", "/list")[1]}[done] == "done"
    for batch in batches:
        facts = there.status(batch, wait="true")
        assert facts["file_stats"]["passed"] == 30
        records = [record.id for record in read_records(Path(facts["results_dir"]) / "results.jsonl")]
        assert len(records) == len(set(records)) == 30
    assert there.status(done)["file_stats"]["passed"] == 1
    if ending is signal.SIGTERM:
        assert server.asked == 61  # what was in flight was finished, not done twice


def test_a_restart_keeps_what_went_wrong_with_a_batch(rest: Any, servers: Servers, tmp_path: Path) -> None:
    there = rest(servers.new())
    there.start()
    batch = there.submit(tmp_path / "gone.txt")
    assert "gone.txt" in there.status(batch, wait="true")["fault"]
    there.process.kill()
    there.process.wait(PATIENCE)
    there.start()
    facts = there.status(batch)
    assert (facts["status"], "gone.txt" in facts["fault"]) == ("done", True)


def test_sighup_takes_no_more_and_ends_when_all_is_done(rest: Any, servers: Servers, tmp_path: Path) -> None:
    server = servers.new(delay=0.05)
    there = rest(server)
    there.start()
    batch = there.submit(file_of(tmp_path, "a.txt", 30))
    there.process.send_signal(signal.SIGHUP)
    wait_until(lambda: there.ask("GET", "/ready")[0] == 503)
    assert there.ask("POST", "/submit", {"files": []})[0] == 503
    assert there.process.wait(PATIENCE) == 0
    records = there._client.output / ".batchkit" / "batches" / batch / "results.jsonl"
    assert len(list(read_records(records))) == 30
