"""The REST mode through a client that was generated from its own description, and through the documented curl lines."""

from __future__ import annotations

import importlib
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
from openapi_spec_validator import validate

from azbatchwrap.batchkit.journal import read_records
from azbatchwrap.batchkit.openapi import describe
from azbatchwrap.speechkit import SpeechBatchRequest
from tests.batchkit.consumer import Words
from tests.batchkit.test_runs import Client
from tests.batchkit.test_server import Rest, file_of
from tests.batchkit_servers import PATIENCE, Servers
from tests.real_parts import program
from tests.waiting import wait_until

DOCS = Path(__file__).parents[2] / "docs" / "batchkit.md"


@pytest.fixture
def there(tmp_path: Path) -> Iterator[Callable[..., Rest]]:
    client = Client(tmp_path)

    def make(*servers: Any) -> Rest:
        client.use(*servers)
        made = Rest(client)
        made.start()
        return made

    yield make
    client.stop()


class Generated:
    """A stranger's client, made from the description; notes which operations were used."""

    def __init__(self, place: Path, url: str) -> None:
        self._place = place
        command = [sys.executable, "-m", "openapi_python_client", "generate", "--url", f"{url}/openapi.json"]
        target = ["--output-path", str(place / "generated_client"), "--meta", "none"]
        made = subprocess.run([*command, *target], capture_output=True, text=True, timeout=PATIENCE, check=False)
        assert made.returncode == 0, made.stderr
        sys.path.insert(0, str(place))
        self.models = self._module("models")
        self.used: set[str] = set()
        self.connect(url)

    def connect(self, url: str) -> None:
        self._client = self._module("client").Client(base_url=url, timeout=PATIENCE)

    def _module(self, name: str) -> ModuleType:
        return importlib.import_module(f"generated_client.{name}")

    @property
    def operations(self) -> set[str]:
        folder = self._place / "generated_client" / "api" / "default"
        return {path.stem for path in folder.glob("*.py")} - {"__init__"}

    def ask(self, operation: str, **given: Any) -> Any:
        """The answer as the generated code reads it: one of ``models``, or a list of them."""
        self.used.add(operation)
        return self._module(f"api.default.{operation}").sync(client=self._client, **given)

    def forget(self) -> None:
        sys.path.remove(str(self._place))
        for name in [name for name in sys.modules if name.partition(".")[0] == "generated_client"]:
            del sys.modules[name]


@pytest.mark.parametrize("needs_token", [False, True])
@pytest.mark.parametrize("batch_type", [Words, SpeechBatchRequest])
def test_the_description_is_valid(batch_type: Any, needs_token: bool) -> None:
    validate(describe(batch_type, needs_token=needs_token))


def test_a_generated_client_does_every_operation_over_a_restart(there: Any, servers: Servers, tmp_path: Path) -> None:
    server = servers.new(delay=0.05)
    serving = there(server)
    client = Generated(tmp_path, serving.url)
    try:
        _use_every_operation(client, serving, server, tmp_path)
        assert client.used == client.operations
    finally:
        client.forget()


def _use_every_operation(client: Generated, serving: Rest, server: Any, tmp_path: Path) -> None:
    models = client.models
    assert client.ask("health").status == "ok"
    wait_until(lambda: client.ask("ready").ready)
    assert [endpoint.url for endpoint in client.ask("endpoints")] == [server.url]
    wanted = models.Submission(files=[str(file_of(tmp_path, "a.txt", 60))])
    batch = client.ask("submit", body=wanted)
    wait_until(lambda: server.asked > 10)

    serving.process.kill()
    serving.process.wait(PATIENCE)
    serving.start()
    client.connect(serving.url)
    assert [known.batch_id for known in client.ask("list_batches")] == [batch.batch_id]
    watched = client.ask("watch", batch_id=batch.batch_id, target_state=models.WatchTargetState.DONE, timeout=PATIENCE)
    assert watched.status is models.BatchStatus.DONE
    facts = client.ask("status", batch_id=batch.batch_id, wait=PATIENCE)
    assert (facts.status_code, facts.file_stats.passed, facts.fault) == (2, 60, None)
    records = [record.id for record in read_records(Path(facts.results_dir) / "results.jsonl")]
    assert sorted(records) == sorted(f"a.txt:line {number}" for number in range(60))

    refused = client.ask("submit", body=models.Submission(files=[""]))
    assert "files" in refused.error
    assert "no such batch" in client.ask("status", batch_id="another").error
    replaced = client.ask("replace_endpoints", body=models.Endpoints.from_dict({"new": server.url}))
    assert [endpoint.name for endpoint in replaced if endpoint.state != "retiring"] == ["new"]
    reread = client.ask("reload")
    assert [endpoint.name for endpoint in reread if endpoint.state != "retiring"] == [f"e{server.port}"]
    assert client.ask("delete", batch_id=batch.batch_id).status is models.BatchStatus.DELETED
    assert client.ask("list_batches") == []


def test_the_documented_curl_lines_work(there: Any, servers: Servers, tmp_path: Path) -> None:
    serving = there(servers.new())
    submit, status = re.findall(r"^curl .*$", DOCS.read_text(), re.MULTILINE)
    sound = file_of(tmp_path, "a.txt", 3)
    batch = curl(submit.replace("/data/a.txt", str(sound)), serving.url)
    facts = curl(re.sub(r"batch_id=[^&']+", f"batch_id={batch['batch_id']}", status), serving.url)
    assert (facts["status"], facts["file_stats"]["passed"]) == ("done", 3)


def curl(line: str, url: str) -> Any:
    line = line.replace("localhost:5000", url)
    program("curl")
    done = subprocess.run(["sh", "-c", line], capture_output=True, text=True, timeout=PATIENCE, check=True)
    return json.loads(done.stdout)


def test_the_page_submits_and_follows_a_batch(there: Any, servers: Servers, tmp_path: Path, browser: Any) -> None:
    serving = there(servers.new())
    browser.get(f"{serving.url}/docs")
    document = json.dumps({"files": [str(file_of(tmp_path, "a.txt", 3))]})
    batch = try_operation(browser, "POST /submit", body=document)
    facts = try_operation(browser, "GET /status", batch_id=batch["batch_id"], wait="true")
    assert (facts["status"], facts["file_stats"]["passed"]) == ("done", 3)
    assert "no JSON" in try_operation(browser, "POST /submit", body="{", status=400)["error"]
    assert try_operation(browser, "GET /health") == {"status": "ok"}


def try_operation(browser: Any, title: str, *, body: str = "", status: int = 200, **fields: str) -> Any:
    """Fill an operation's fields in, press Try, and read the answer that is shown."""

    def section() -> Any:
        return browser.find_element("xpath", f"//section[h2='{title}']")

    def answer() -> tuple[str, ...]:
        code, _, text = section().find_element("tag name", "pre").text.partition("\n")
        return (code, text) if code.isdigit() else ()

    wait_until(lambda: browser.find_elements("xpath", f"//section[h2='{title}']"))
    for name, value in fields.items():
        section().find_element("xpath", f".//label[starts-with(., '{name} ')]/input").send_keys(value)
    for area in section().find_elements("tag name", "textarea"):
        area.clear()
        area.send_keys(body)
    section().find_element("tag name", "button").click()
    code, text = wait_until(answer)
    assert int(code) == status, text
    return json.loads(text)
