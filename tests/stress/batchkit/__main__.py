"""``python -m tests.stress.batchkit [ITEMS [STORY …]]``: the public kit's mix of faults, and what it leaves out.

Items crash their worker, hang, fail for good, fail for now or break off; endpoints come and go every few seconds; the
client is killed, ended and started again; all three modes. What must hold in the end: every item has exactly one
result, those that had to fail failed with their reason, and every exit code is the right one.
"""

from __future__ import annotations

import contextlib
import json
import random
import signal
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request
from collections import Counter
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

from aiohttp import web

from azbatchwrap.batchkit.journal import RunPaths, read_records
from tests.batchkit_servers import Server, Servers
from tests.waiting import wait_until

ITEMS = 5000
CONSUMER = Path(__file__).with_name("consumer.py")
#: Seconds between two changes of the endpoints, and between two kills.
SWAP, KILL = 1.0, 2.0
#: Faults per hundred items, by the word that the item says.
MIX = {"crash": 5, "bad": 5, "down": 5, "error": 5, "oserror": 5, "hang": 2}
#: These fail for good: the crash because each attempt crashes, the others because nothing would change.
MUST_FAIL = {"crash": "WorkerDied", "bad": "ServiceError", "hang": "AttemptTimeout"}
LIMIT = 1200.0


def answer(body: str, count: int) -> Any:
    """What an endpoint makes of an item: some faults go away with the second attempt."""
    kind = body.partition(" ")[0]
    if kind == "bad":
        return web.json_response({"error": "this one is wrong"}, status=422)
    if kind == "error" and count == 1:
        return web.json_response({}, status=500)
    if kind == "down" and count == 1:
        raise ConnectionResetError
    return web.json_response({"got": body})


def words(count: int) -> list[str]:
    draw = random.Random(5)
    kinds = [kind for kind, share in MIX.items() for _ in range(share)]
    kinds += ["good"] * (100 - len(kinds))
    return [f"{draw.choice(kinds)} {number}" for number in range(count)]


def _link(path: Path, target: str) -> None:
    """Make ``path`` a link by rename, unless it is one to ``target`` already."""
    if path.is_symlink() and path.readlink() == Path(target):
        return
    beside = path.with_name("..beside")
    beside.symlink_to(target)
    beside.replace(path)


class Site:
    """Endpoints that come and go, and the client's folders."""

    def __init__(self, folder: Path, servers: Servers) -> None:
        self.folder = folder
        self.input = folder / "input"
        self.output = folder / "output"
        self.config = folder / "endpoints.json"
        self.input.mkdir(parents=True)
        self.servers: list[Server] = [servers.new(answer=answer, delay=0.002) for _ in range(6)]
        self.draw = random.Random(3)
        self.use(self.servers)

    @staticmethod
    def text_for(servers: list[Server]) -> str:
        return json.dumps({f"e{server.port}": {"url": server.url, "concurrency": 8} for server in servers})

    def use(self, servers: list[Server]) -> None:
        content = self.text_for(servers)
        if self.draw.random() < 0.3:
            self.config.write_text("")  # half a write, seen by whoever looks now
        (self.write_in_place if self.draw.random() < 0.5 else self.rename)(content)

    def write_in_place(self, content: str) -> None:
        self.config.write_text(content)

    def rename(self, content: str) -> None:
        """As editors and ``sed -i`` do."""
        beside = self.folder / "beside"
        beside.write_text(content)
        beside.replace(self.config)

    def swap_link(self, content: str) -> None:
        """As Kubernetes does with a ConfigMap: the file is a link through ..data, which is replaced by rename."""
        version = Path(tempfile.mkdtemp(prefix="..", dir=self.folder))
        (version / self.config.name).write_text(content)
        data = self.folder / "..data"
        _link(data, version.name)
        _link(self.config, f"..data/{self.config.name}")

    def write_nothing(self, _: str) -> None:
        self.config.write_text("")

    @contextlib.contextmanager
    def unrest(self) -> Iterator[None]:
        """Half of the endpoints are removed, and one is killed and revived, again and again."""
        over = threading.Event()

        def disturb() -> None:
            while not over.wait(SWAP):
                self.use(self.draw.sample(self.servers, 3))
                victim = self.draw.choice(self.servers)
                victim.stop()
                over.wait(SWAP / 2)
                victim.start()

        thread = threading.Thread(target=disturb)
        thread.start()
        try:
            yield
        finally:
            over.set()
            thread.join()
            self.use(self.servers)

    def client(self, *options: str) -> subprocess.Popen[str]:
        command = [
            sys.executable, "-m", "azbatchwrap.cli.main", "batchkit", "run", f"{CONSUMER}:Mixed", "-e", str(self.config),
            "-i", str(self.input), "-o", str(self.output), "--json", *options,
        ]  # fmt: skip
        return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def check(folder: Path, expected: list[str]) -> None:
    """Exactly one result per item, with the outcome that the item deserves."""
    records = list(read_records(RunPaths(folder).results))
    counts = Counter(record.id for record in records)
    assert counts == Counter(expected), (len(counts), len(expected), counts.most_common(3))
    for record in records:
        kind = record.id.split()[0]
        assert record.result.error_type == MUST_FAIL.get(kind), record
    summary = json.loads(RunPaths(folder).summary.read_text())
    stats = summary["overall_summary"]["file_stats"]
    assert len(summary["processed_files"]) == stats["total"] == len(expected), stats
    assert stats["failed"] == sum(word.split()[0] in MUST_FAIL for word in expected), stats


def ends(process: subprocess.Popen[str], code: int) -> None:
    process.communicate(timeout=LIMIT)
    assert process.returncode == code, process.returncode


def oneshot(site: Site, count: int) -> str:
    expected = words(count)
    (site.input / "words.txt").write_text("\n".join(expected))
    with site.unrest():
        ends(site.client(), 1)
    check(site.output, expected)
    return f"{count} items, endpoints coming and going"


def killed(site: Site, count: int) -> str:
    expected = [word for word in words(3 * count) if word.split()[0] in {"good", "error", "down"}][:count]
    (site.input / "words.txt").write_text("\n".join(expected))
    kills = 0
    results = RunPaths(site.output).results
    for server in site.servers:
        server.delay = 0.2  # or it would be over before the second kill
    while True:
        before = results.stat().st_size if results.exists() else 0
        process = site.client()
        # From its first result on: a busy machine may need longer than that to start it.
        wait_until(partial(has_moved, process, results, before), seconds=LIMIT)
        try:
            process.communicate(timeout=KILL)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL if kills % 4 else signal.SIGTERM)
            kills += 1
            process.communicate(timeout=60)
        if process.returncode == 0:
            break
    check(site.output, expected)
    asked = sum(server.asked for server in site.servers)
    return f"{count} items, {kills} kills {KILL:g} s apart, {asked} requests"


def hot_swap(site: Site, count: int) -> str:
    """Every way of replacing the endpoint file, in turn, so that nothing is lost and nothing asked for twice."""
    expected = [f"good {number}" for number in range(count)]
    (site.input / "words.txt").write_text("\n".join(expected))
    for server in site.servers:
        server.delay = 0.05
    swaps = Counter[str]()
    process = site.client()
    while process.poll() is None:
        for way in (site.write_in_place, site.rename, site.swap_link, site.write_nothing):
            time.sleep(SWAP / 4)
            way(site.text_for(site.draw.sample(site.servers, 3)))
            swaps[way.__name__] += 1
    ends(process, 0)
    check(site.output, expected)
    asked = sum((server.bodies for server in site.servers), Counter[str]())
    assert asked == Counter(expected), [word for word, times in asked.items() if times > 1]
    assert all(server.asked for server in site.servers)
    told = ", ".join(f"{times} x {way.replace('_', ' ')}" for way, times in swaps.items())
    return f"{count} items, each asked for once, over {told}"


def daemon(site: Site, count: int) -> str:
    expected = [word for word in words(2 * count) if not word.startswith("hang")][:count]
    process = site.client("--mode", "DAEMON")
    with site.unrest():
        for start in range(0, count, 100):
            part = site.folder / "part"
            part.write_text("\n".join(expected[start : start + 100]))
            part.rename(site.input / f"{start}.txt")
            time.sleep(0.05)
    # What arrives last is told by no event that we could wait for, so the results are.
    wait_until(lambda: sum(1 for _ in read_records(RunPaths(site.output).results)) >= count, seconds=LIMIT)
    process.send_signal(signal.SIGHUP)
    ends(process, 1)
    check(site.output, expected)
    return f"{count} items in {count // 100} files as they arrived"


def rest(site: Site, count: int) -> str:
    expected = [word for word in words(2 * count) if not word.startswith("hang")][:count]
    batches = {}
    process, url = serving(site)
    for start in range(0, count, count // 5):
        part = expected[start : start + count // 5]
        path = site.input / f"{start}.txt"
        path.write_text("\n".join(part))
        batches[ask(url, "POST", "/submit", {"files": [str(path)]})["batch_id"]] = part
    for ending in (signal.SIGKILL, signal.SIGTERM, signal.SIGKILL):
        time.sleep(1.0)
        process.send_signal(ending)
        process.communicate(timeout=60)
        process, url = serving(site)
    for batch, part in batches.items():
        facts = ask(url, "GET", f"/status?batch_id={batch}&wait={LIMIT:.0f}")
        assert facts["status"] == "done", facts
        check(Path(facts["results_dir"]), part)
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    return f"{count} items in {len(batches)} batches, three restarts"


def serving(site: Site) -> tuple[subprocess.Popen[str], str]:
    listening = RunPaths(site.output).batches / "listening.json"
    listening.unlink(missing_ok=True)
    process = site.client("--mode", "REST", "--port", "0")
    wait_until(listening.exists)
    return process, f"http://127.0.0.1:{json.loads(listening.read_text())['port']}"


def ask(url: str, method: str, path: str, body: Any = None) -> dict[str, Any]:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(url + path, data=data, method=method)
    with urllib.request.urlopen(request, timeout=LIMIT) as reply:
        found: dict[str, Any] = json.loads(reply.read())
    return found


def has_moved(process: subprocess.Popen[str], results: Path, before: int) -> bool:
    """Whether the journal has grown, or the process has ended."""
    return process.poll() is not None or (results.exists() and results.stat().st_size > before)


def main() -> int:
    count = int(sys.argv[1]) if len(sys.argv) > 1 else ITEMS
    stories = [oneshot, killed, hot_swap, daemon, rest]
    for story in [story for story in stories if story.__name__ in sys.argv[2:] or not sys.argv[2:]]:
        began = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="stress-") as folder:
            servers = Servers()
            try:
                told = story(Site(Path(folder) / "site", servers), count)
            finally:
                servers.close()
        seconds = time.monotonic() - began
        print(f"{story.__name__}: {told}: every item has its one result ({seconds:.0f} s)", flush=True)  # noqa: T201
    return 0


if __name__ == "__main__":
    sys.exit(main())
