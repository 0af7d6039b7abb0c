"""Job preparation and release on a node, against a blob server that misbehaves where a test asks it to."""

from __future__ import annotations

import hashlib
import os
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from azbatchwrap.engine import download, packages
from azbatchwrap.engine.node_folder import LEASE_LIFE

from .conftest import DEADLINE, SIGNATURE, BlobServer, Node, break_off, corrupt, refuse

TASK = "def do_action(engine, *args): return [open(name).read() for name in args]"


def left_over(node: Node) -> list[str]:
    """Unfinished things in the node's folder."""
    return [path.name for path in (node.shared / "azbatchwrap").rglob(".*")]


def deployments(node: Node) -> set[str]:
    return {path.name for path in (node.shared / "azbatchwrap").iterdir()} - {"blobs", "venvs", "leases", "lock"}


def blobs(node: Node) -> set[bytes]:
    return {path.read_bytes() for path in (node.shared / "azbatchwrap" / "blobs").iterdir()}


def test_the_layout(node: Node) -> None:
    folder = node.prepare({"inputs/a/x.txt": "x", "tasks/1_task.py": TASK, "app/lib/x.txt": "x", "app/empty": ""})

    assert (folder / "inputs" / "a" / "x.txt").read_text() == "x"
    assert (folder / "app" / "lib" / "x.txt").samefile(folder / "inputs" / "a" / "x.txt")
    assert (folder / "app" / "empty").read_bytes() == b""
    assert (folder / "engine" / "__main__.py").is_file()
    assert list((folder / "engine" / "azbatchwrap_engine" / "__pycache__").glob("run.*.pyc"))
    assert list((folder / "tasks" / "__pycache__").glob("1_task.*.pyc"))
    assert stat.S_IMODE((folder / "inputs" / "a" / "x.txt").stat().st_mode) == 0o555
    assert left_over(node) == []
    assert SIGNATURE not in "".join(path.read_text(errors="replace") for path in folder.rglob("*") if path.is_file())


def test_names_with_every_character(node: Node) -> None:
    names = ["a b", "'quoted\"", "new\nline", "ümläut 日本 🎈", "x" * 200, "-rf", "$(id)"]
    folder = node.prepare({f"inputs/{name}/{name}": name for name in names})
    for name in names:
        assert (folder / "inputs" / name / name).read_text() == name


def test_each_content_is_fetched_once_per_node(node: Node) -> None:
    node.prepare({"inputs/a": "same", "inputs/b": "same", "tasks/1_task.py": TASK}, job="job-1")
    node.prepare({"inputs/c": "same", "tasks/1_task.py": TASK}, job="job-2")
    node.prepare({"inputs/c": "same", "tasks/1_task.py": TASK}, job="job-3")
    assert len(node.blobs.requests) == 2


def test_a_broken_connection_is_resumed(node: Node) -> None:
    content = os.urandom(300_000)
    node.blobs.faults = [break_off(100_000), break_off(0)]
    # The second answer ignores the range and starts from the beginning, as a proxy may.
    folder = node.prepare({"inputs/large": content})
    assert (folder / "inputs" / "large").read_bytes() == content
    ranges = [wanted for _, wanted in node.blobs.requests]
    assert ranges[0] is None
    assert ranges[1] == "bytes=100000-"


def test_busy_servers_and_damaged_content_are_tried_again(
    blob_server: BlobServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(download, "PAUSE", 0.001)
    blob_server.faults = [refuse(503, "ServerBusy", Retry_After="0"), refuse(429, "Busy"), corrupt, break_off(3)]
    sha256 = blob_server.put(b"content")
    download.Downloads(blob_server.url, tmp_path).fetch_all({sha256: 7})
    assert (tmp_path / sha256).read_bytes() == b"content"
    assert len(blob_server.requests) == 5


def test_a_servers_wish_for_patience_is_granted(
    blob_server: BlobServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(download.time, "sleep", pauses.append)
    blob_server.faults = [refuse(503, "ServerBusy", Retry_After="7"), refuse(429, "Busy", Retry_After="86400")]
    download.Downloads(blob_server.url, tmp_path).fetch_all({blob_server.put(b"content"): 7})
    assert 7 <= pauses[0] <= 8
    assert pauses[1] < download.LONGEST_RETRY_AFTER + download.LONGEST_PAUSE


def test_a_server_that_stays_broken_is_given_up(
    blob_server: BlobServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(download, "PAUSE", 0.001)
    blob_server.faults = [refuse(503, "ServerBusy")] * 100
    sha256 = blob_server.put(b"content")
    with pytest.raises(download.DownloadError, match="tried 6 times: HTTP 503 ServerBusy"):
        download.Downloads(blob_server.url, tmp_path).fetch_all({sha256: 7})
    assert len(blob_server.requests) == download.ATTEMPTS


def test_no_server_at_all(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(download, "PAUSE", 0.001)
    with pytest.raises(download.DownloadError, match="refused"):
        download.Downloads(f"http://127.0.0.1:9/files?{SIGNATURE}", tmp_path).fetch_all({"0" * 64: 1})


def test_other_schemes_are_refused(tmp_path: Path) -> None:
    with pytest.raises(download.DownloadError, match="neither http nor https"):
        download.Downloads(f"file://{tmp_path}?x", tmp_path)


def test_what_the_nodes_agent_brought_is_checked_and_taken(tmp_path: Path) -> None:
    brought, taken = tmp_path / "content", tmp_path / "blobs"
    brought.mkdir()
    taken.mkdir()
    name = hashlib.sha256(b"given").hexdigest()
    with pytest.raises(download.DownloadError, match="was not brought"):
        download.adopt(brought, taken, {name: 5})
    (brought / name).write_bytes(b"wrong")
    with pytest.raises(download.DownloadError, match="not what its name says"):
        download.adopt(brought, taken, {name: 5})
    (brought / name).write_bytes(b"given")
    download.adopt(brought, taken, {name: 5})
    assert (taken / name).read_bytes() == b"given"
    assert stat.S_IMODE((taken / name).stat().st_mode) == 0o555


def test_a_proxy_of_the_environment_is_not_asked_for_loopback(node: Node) -> None:
    run = node.try_prepare({"inputs/a": "content"}, HTTP_PROXY="http://127.0.0.1:9")
    assert run.code == 0, run.stderr


def test_a_missing_blob_is_named_and_not_tried_again(node: Node) -> None:
    folder, deployment = node.order({"inputs/a": "content"})
    sha256 = next(iter(node.blobs.contents))
    node.blobs.contents.clear()
    process = node.prepare_command(folder, deployment)
    _, err = process.communicate(timeout=DEADLINE)
    assert process.returncode == 1
    assert sha256 in err
    assert "not in the storage container" in err
    assert len(node.blobs.requests) == 1
    assert deployments(node) == set()


def test_an_expired_signature_is_said_without_showing_it(node: Node) -> None:
    run = node.try_prepare({"inputs/a": "x"}, AZBATCHWRAP_FILES_URL=node.blobs.url.replace("not-a", "wrong"))
    assert run.code == 1
    assert "signature has expired or lacks rights" in run.stderr
    assert "sig=" not in run.stderr
    assert "Traceback" not in run.stderr


@pytest.mark.parametrize(
    "path", ["inputs/../../x", "/etc/x", "other/x", "inputs", "inputs/", "inputs//x", "inputs/./x", "tasks/a\0b"]
)
def test_paths_that_leave_their_folder_are_refused(node: Node, path: str) -> None:
    run = node.try_prepare({path: "x"})
    assert run.code == 1
    assert "deployment.json cannot be used" in run.stderr
    assert "Traceback" not in run.stderr
    assert not (node.root / "x").exists()


@pytest.mark.parametrize("content", ["", "{", "[]", '{"files": [{"path": "inputs/a"}]}', '{"files": 1}'])
def test_a_broken_deployment_list_is_said(node: Node, content: str) -> None:
    folder, deployment = node.order({})
    (folder / "deployment.json").write_text(content)
    process = node.prepare_command(folder, deployment)
    _, err = process.communicate(timeout=DEADLINE)
    assert process.returncode == 1
    assert "deployment.json cannot be used" in err
    assert "Traceback" not in err


@pytest.mark.parametrize("setting", ["AZBATCHWRAP_FILES_URL", "AZ_BATCH_JOB_ID", "AZ_BATCH_NODE_SHARED_DIR"])
def test_a_missing_setting_is_named(node: Node, setting: str) -> None:
    run = node.try_prepare({"inputs/a": "x"}, **{setting: ""})
    assert run.code == 1
    assert f"{setting} is missing" in run.stderr


@pytest.mark.parametrize("name", ["../x", "blobs", "", "a/b"])
def test_a_deployment_cannot_be_called_anything(node: Node, name: str) -> None:
    run = node.try_prepare({"inputs/a": "x"}, AZBATCHWRAP_DEPLOYMENT=name)
    assert run.code == 1
    assert "Traceback" not in run.stderr


def test_two_jobs_prepare_at_once(node: Node) -> None:
    files: dict[str, bytes | str] = {f"inputs/{n}": os.urandom(20_000) for n in range(30)}
    folder, deployment = node.order(files)
    processes = [node.prepare_command(folder, deployment, f"job-{n}") for n in range(4)]
    assert [process.communicate(timeout=DEADLINE) and process.returncode for process in processes] == [0] * 4
    assert len(node.blobs.requests) == 30
    assert left_over(node) == []


def test_a_killed_preparation_leaves_nothing_half_done(node: Node) -> None:
    def stall(request: Any, content: bytes) -> None:
        break_off(10)(request, content)
        time.sleep(1)

    files: dict[str, bytes | str] = {"inputs/a": os.urandom(1000), "tasks/1_task.py": TASK}
    folder, deployment = node.order(files)
    node.blobs.faults = [stall, stall]
    process = node.prepare_command(folder, deployment)
    deadline = time.monotonic() + DEADLINE
    while not node.blobs.requests and time.monotonic() < deadline:
        time.sleep(0.01)
    process.kill()
    process.communicate()
    assert deployments(node) == set()

    node.blobs.faults = []
    prepared = node.prepare(files)
    assert (prepared / "inputs" / "a").read_bytes() == files["inputs/a"]
    assert left_over(node) == []


def test_what_no_job_leases_is_removed_by_the_next_preparation(node: Node) -> None:
    node.prepare({"inputs/a": "old", "inputs/both": "both"}, job="job-1")
    first = node.deployment
    assert node.release("job-1") == 0
    assert deployments(node) == {first}

    node.prepare({"inputs/b": "new", "inputs/both": "both"}, job="job-2")

    assert deployments(node) == {node.deployment}
    assert blobs(node) == {b"new", b"both"}


def test_what_a_job_leases_stays(node: Node) -> None:
    node.prepare({"inputs/a": "old", "tasks/1_task.py": TASK}, job="job-1")
    first = node.deployment
    node.prepare({"inputs/a": "old", "tasks/1_task.py": TASK}, job="job-2")
    node.release("job-1")
    node.prepare({"inputs/a": "new"}, job="job-3")
    assert deployments(node) == {first, node.deployment}
    node.deployment = first
    assert node.run("1_task.py", "a").result["value"] == ["old"]


def test_releasing_twice_or_after_the_files_have_gone_is_no_failure(node: Node) -> None:
    node.prepare({"inputs/a": "x"})
    assert [node.release(), node.release()] == [0, 0]


def test_a_lease_of_a_job_long_gone_expires(node: Node) -> None:
    node.prepare({"inputs/a": "old"}, job="job-1")
    lease = node.shared / "azbatchwrap" / "leases" / node.deployment / "job-1"
    past = time.time() - LEASE_LIFE - 10
    os.utime(lease, (past, past))
    node.prepare({"inputs/b": "new"}, job="job-2")
    assert deployments(node) == {node.deployment}


def test_a_failed_preparation_holds_no_lease(node: Node) -> None:
    node.blobs.faults = [refuse(403, "AuthorizationFailure")]
    assert node.try_prepare({"inputs/a": "x"}).code == 1
    assert list((node.shared / "azbatchwrap" / "leases").glob("*/*")) == []


@pytest.mark.parametrize("damage", ["changed", "removed"])
def test_a_damaged_deployment_is_laid_out_anew(node: Node, damage: str) -> None:
    files: dict[str, bytes | str] = {"inputs/a": "right", "tasks/1_task.py": TASK}
    path = node.prepare(files) / "inputs" / "a"
    if damage == "changed":
        path.chmod(0o755)
        path.write_text("wrong")
    else:
        path.unlink()
    node.prepare(files, job="job-2")
    assert path.read_text() == "right"
    assert node.run("1_task.py", "a").result["value"] == ["right"]
    assert left_over(node) == []


def test_a_damaged_list_of_another_deployment_does_no_harm(node: Node) -> None:
    (node.prepare({"inputs/a": "x"}, job="job-1") / "layout.json").write_text("{")
    assert (node.prepare({"inputs/b": "y"}, job="job-2") / "inputs" / "b").read_text() == "y"


def test_a_task_file_that_does_not_compile_is_no_failure_of_the_node(node: Node) -> None:
    run = node.try_prepare({"tasks/1_task.py": "def broken("})
    assert run.code == 0
    assert "1_task.py does not compile" in run.stderr


def test_programs_among_the_files_can_be_started(node: Node) -> None:
    node.prepare(
        {
            "inputs/tool.sh": "#!/bin/sh\necho started",
            "tasks/1_task.py": "import subprocess\n"
            "def do_action(engine): return subprocess.run(['./tool.sh'], capture_output=True, text=True).stdout",
        }
    )
    assert node.run("1_task.py").result["value"] == "started\n"


def test_an_interpreter_that_has_gone_is_replaced_by_the_paths_own(node: Node) -> None:
    folder = node.prepare({"tasks/1_task.py": TASK})
    text = (folder / "run").read_text()
    start = text.index("azbw_python=") + len("azbw_python=")
    (folder / "run").write_text(f"{text[:start]}/gone/python3{text[text.index(chr(10), start) :]}")
    assert node.run("1_task.py").code == 0


def requirements_of(node: Node) -> dict[str, Any]:
    """A deployment with a requirements.txt that installs a package of its own, from a folder: no network."""
    project = node.root / "package"
    project.mkdir()
    (project / "azbw_probe.py").write_text("ANSWER = 42\n")
    wheel = node.root / "azbw_probe-1.0-py3-none-any.whl"
    import zipfile

    with zipfile.ZipFile(wheel, "w") as archive:
        archive.writestr("azbw_probe.py", "ANSWER = 42\n")
        archive.writestr("azbw_probe-1.0.dist-info/METADATA", "Metadata-Version: 2.1\nName: azbw_probe\nVersion: 1.0\n")
        archive.writestr(
            "azbw_probe-1.0.dist-info/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        archive.writestr("azbw_probe-1.0.dist-info/RECORD", "")
    content = f"--no-index\n{wheel.as_uri()}\n"
    return {
        "files": {
            "inputs/requirements.txt": content,
            "tasks/1_task.py": "import sys\ndef do_action(engine):\n    import azbw_probe, subprocess\n"
            "    inner = subprocess.run(['python3', '-c', 'import azbw_probe'])\n"
            "    return [azbw_probe.ANSWER, inner.returncode]",
        },
        "requirements": node.blobs.put(content.encode()),
    }


def test_requirements_become_one_environment_per_content(node: Node) -> None:
    order = requirements_of(node)
    assert node.prepare(**order)
    assert node.run("1_task.py").result.get("value") == [42, 0]
    complete = node.shared / "azbatchwrap" / "venvs" / order["requirements"] / "complete"
    made = complete.stat().st_mtime_ns

    node.prepare(job="job-2", **{**order, "files": {**order["files"], "inputs/more": "x"}})
    assert complete.stat().st_mtime_ns == made
    assert node.run("1_task.py").result.get("value") == [42, 0]


def test_requirements_that_cannot_be_installed_end_with_pips_words(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("--no-index\nno-such-package-at-all==1\n")
    with pytest.raises(packages.PackagesError, match=r"cannot be installed[\s\S]*no-such-package-at-all"):
        packages.install_into(Path(sys.executable), tmp_path / "requirements.txt")


def test_a_node_without_venv_says_what_to_install(node: Node) -> None:
    # As Debian's python3 without python3-venv: the module is not there.
    (node.root / "no venv").mkdir()
    (node.root / "no venv" / "ensurepip.py").write_text("raise ImportError('No module named ensurepip')")
    content = "azbw_probe\n"
    run = node.try_prepare(
        {"inputs/requirements.txt": content},
        requirements=node.blobs.put(content.encode()),
        PYTHONPATH=str(node.root / "no venv"),
    )
    assert run.code == 1
    assert "requirements.txt" in run.stderr
    assert "python3-venv" in run.stderr
    assert "Traceback" not in run.stderr


def test_wrong_words_are_refused(node: Node) -> None:
    folder, _ = node.order({})
    done = subprocess.run(
        [sys.executable, folder / "engine.pyz", "nonsense"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert "usage" in done.stderr


def test_a_full_disk_is_said_before_anything_is_fetched(blob_server: BlobServer, node: Node) -> None:
    folder, deployment = node.order({"inputs/a": "x"})
    text = (folder / "deployment.json").read_text().replace('"size": 1', f'"size": {1 << 60}')
    (folder / "deployment.json").write_text(text)
    process = node.prepare_command(folder, deployment)
    _, err = process.communicate(timeout=DEADLINE)
    assert process.returncode == 1
    assert "MiB left" in err
    assert blob_server.requests == []
