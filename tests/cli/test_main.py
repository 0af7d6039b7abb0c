"""The command line as a whole: help, exit codes, and that it is quick and quiet."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import version
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from azbatchwrap import errors
from azbatchwrap.cli import main
from tests.fixtures_stack import clean_environment, run_cli

#: Nothing of these may be loaded before a command needs it.
HEAVY = {"azure", "rich", "yaml", "requests", "aiohttp", "starlette", "uvicorn", "lark", "orjson", "platformdirs"}


def walk(command: click.Command, name: str) -> Iterator[tuple[str, click.Command]]:
    yield name, command
    if isinstance(command, click.Group):
        context = click.Context(command)
        for child in command.list_commands(context):
            found = command.get_command(context, child)
            assert found is not None
            yield from walk(found, f"{name} {child}")


def names_of(module: str) -> list[str]:
    return [name for name, _ in walk(main.cli, module)]


@pytest.mark.parametrize("name", names_of("azbatchwrap"))
def test_every_command_explains_itself_with_an_example(name: str) -> None:
    result = CliRunner().invoke(main.cli, [*name.split()[1:], "--help"])
    assert result.exit_code == 0, result.output
    assert "Example" in result.output
    assert f"{name.split(maxsplit=1)[0]} " in result.output


def test_help_lists_every_command() -> None:
    result = CliRunner().invoke(main.cli, ["--help"])
    for name in main.COMMANDS:
        assert f"\n  {name}" in result.output


def test_the_short_help_of_the_list_is_what_the_command_says() -> None:
    for name, (_, text) in main.COMMANDS.items():
        command = main.cli.get_command(click.Context(main.cli), name)
        assert command is not None
        assert text


def test_help_loads_no_sdk() -> None:
    code = (
        "import sys; from azbatchwrap.cli import main; code = main._run(['--help']); assert code == 0; "
        "print(*sorted({name.partition('.')[0] for name in sys.modules}), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert not HEAVY & set(done.stderr.split())


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (errors.ConfigurationError("x"), 2),
        (errors.ManifestError("x"), 2),
        (errors.NotFound("x"), 3),
        (errors.Unreachable("x"), 3),
        (errors.StartTaskFailed("x"), 1),
        (errors.WaitTimeout("x"), 1),
        (errors.TaskFailed("x"), 1),
        (KeyboardInterrupt(), 130),
        (click.Abort(), 130),
        (click.UsageError("x"), 2),
        (PermissionError(13, "Permission denied", "/x"), 1),
        (BrokenPipeError(), 1),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else str(value),
)
def test_exit_codes(
    error: BaseException, code: int, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail(**_: object) -> None:
        raise error

    monkeypatch.setattr(main.cli, "main", fail)
    monkeypatch.setattr(main, "_forget_output", lambda: None)
    with pytest.raises(SystemExit) as ended:
        main.main([])
    assert ended.value.code == code
    said = capfd.readouterr().err
    assert "Traceback" not in said
    assert (said == "") == isinstance(error, BrokenPipeError)


def test_an_unknown_command_is_answered_with_the_nearest(tmp_path: Path) -> None:
    done = run_cli("rnu", folder=tmp_path, environment=clean_environment(tmp_path))
    assert done.returncode == 2
    assert "Did you mean 'run'?" in done.stderr


def test_a_wrong_manifest_stops_before_anything_is_opened(tmp_path: Path) -> None:
    (tmp_path / "task.json").write_text('{"JOB_MANIFEST": [{"TASK_MODULE": "1_task.py", "RETRIES": "x"}, 7]}')
    done = run_cli("run", "task.json", folder=tmp_path, environment=clean_environment(tmp_path))
    assert done.returncode == 2
    for fault in ("entry 1, RETRIES", "entry 2: must be an object", "there is no 1_task.py"):
        assert fault in done.stderr
    assert "Traceback" not in done.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["task.json"]


def test_nothing_configured_and_nothing_running_says_what_to_do(tmp_path: Path) -> None:
    done = run_cli("job", "list", folder=tmp_path, environment=clean_environment(tmp_path / "home"))
    assert done.returncode == 2
    assert "azbatchwrap local up" in done.stderr


def test_an_account_that_does_not_answer_is_exit_code_3(tmp_path: Path) -> None:
    nobody = "http://127.0.0.1:9"  # the discard port: nothing listens there
    environment = clean_environment(tmp_path) | {
        "AZURE_BATCH_ACCOUNT": "nobody",
        "AZURE_BATCH_ACCESS_KEY": "a2V5",
        "AZURE_BATCH_ENDPOINT": nobody,
        "AZURE_STORAGE_CONNECTION_STRING": f"DefaultEndpointsProtocol=http;AccountName=nobody;AccountKey=a2V5;BlobEndpoint={nobody}/nobody;",
    }
    done = run_cli("config", "check", folder=tmp_path, environment=environment)
    assert done.returncode == 3, done.stderr
    assert "batch account" in done.stdout
    assert "failed" in done.stdout
    assert "a2V5" not in done.stdout + done.stderr


def test_a_reader_that_goes_away_is_no_reason_to_complain() -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "azbatchwrap.cli.main", "--help"]
    done = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, check=False)
    os.close(writing)
    assert done.returncode == 1
    assert done.stderr == b""


def test_questions_need_somebody_to_answer(tmp_path: Path) -> None:
    done = run_cli("init", "x", folder=tmp_path, environment=clean_environment(tmp_path))
    assert done.returncode == 0
    done = run_cli("init", "x", folder=tmp_path, environment=clean_environment(tmp_path))
    assert done.returncode == 2
    assert "nothing was written" in done.stderr
    done = run_cli("init", "x", "--force", folder=tmp_path, environment=clean_environment(tmp_path))
    assert done.returncode == 0


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (["azbatchwrap.cli.main", "init", "x"], "x/batch.json"),
        (["azbatchwrap.cli.main", "processor", "collect", "--queue", "sqlite:///q.sqlite", "out.jsonl"], "q.sqlite"),
        (["azbatchwrap.cli.batchcreate", "config", "template", "b.json"], "b.json"),
    ],
)
def test_a_disk_without_room_is_named(tmp_path: Path, words: list[str], named: str) -> None:
    """Files that may not grow stand for the full disk: neither says where it is."""
    command = ["sh", "-c", 'ulimit -f 0; exec "$@"', "sh", sys.executable, "-m", *words]
    done = subprocess.run(
        command, cwd=tmp_path, env=clean_environment(tmp_path), capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode in {1, 2, 3}
    assert done.stderr.startswith("error: ")
    assert named in done.stderr


@pytest.mark.parametrize("module", ["main", "batchcreate", "speech"])
def test_every_command_knows_its_version(tmp_path: Path, module: str) -> None:
    command = [sys.executable, "-m", f"azbatchwrap.cli.{module}", "--version"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == f"azbatchwrap {version('azbatchwrap')}\n"
