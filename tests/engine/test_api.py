"""What a task file can ask of the ``engine`` it is given."""

from __future__ import annotations

from pathlib import Path

import pytest

from azbatchwrap.engine.api import ALIASES, Engine
from azbatchwrap.engine.facts import Facts

from .conftest import Node


@pytest.fixture
def engine(tmp_path: Path) -> Engine:
    """An engine of a task whose working folder is ``tmp_path / "wd"``."""
    deployment = tmp_path / "deployment"
    for folder in ("inputs", "app", "tasks"):
        (deployment / folder).mkdir(parents=True)
    (deployment / "inputs" / "shared.txt").write_text("input")
    (deployment / "layout.json").write_text('{"inputs": ["shared.txt"]}')
    (tmp_path / "wd").mkdir()
    environment = {"AZ_BATCH_JOB_ID": "j", "AZ_BATCH_TASK_ID": "t", "AZ_BATCH_NODE_ID": "n", "AZ_BATCH_POOL_ID": "p"}
    facts = Facts(
        {**environment, "AZBATCHWRAP_INDEX": "3", "AZBATCHWRAP_OUTPUT_CONTAINER": "out"},
        str(tmp_path / "wd"),
        str(deployment),
    )
    facts.lay_out_inputs()
    return Engine(facts, 2)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "wd"


def write(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)


def outputs(folder: Path) -> dict[str, str]:
    """Name -> content of everything in the output folder."""
    files = (path for path in (folder / "outputs").rglob("*") if path.is_file())
    return {path.relative_to(folder / "outputs").as_posix(): path.read_text() for path in files}


def test_facts_in_both_spellings(engine: Engine) -> None:
    assert (engine.job_id, engine.task_id, engine.node_id, engine.pool_id) == ("j", "t", "n", "p")
    assert (engine.jobId, engine.taskId, engine.nodeId, engine.poolId) == ("j", "t", "n", "p")
    assert (engine.index, engine.attempt, engine.get_output_container(), engine.getOutputContainer()) == (
        3,
        2,
        "out",
        "out",
    )


@pytest.mark.parametrize(("java", "python"), ALIASES.items())
def test_every_java_spelling_is_the_same_thing(engine: Engine, java: str, python: str) -> None:
    assert getattr(engine, java) == getattr(engine, python)


def test_an_unknown_name_is_an_attribute_error(engine: Engine) -> None:
    with pytest.raises(AttributeError, match="no 'addFile'"):
        engine.addFile  # noqa: B018


def test_no_output_container_is_said(tmp_path: Path) -> None:
    with pytest.raises(LookupError, match="without an output container"):
        Engine(Facts({}, str(tmp_path), str(tmp_path)), 1).get_output_container()


@pytest.mark.parametrize("name", ["a.txt", "a b 'c' \"d\" \n ü日.txt", "x" * 200])
def test_a_file_keeps_its_name(engine: Engine, folder: Path, name: str) -> None:
    write(folder, name)
    assert engine.add_file_to_upload(name) == [name]
    assert outputs(folder) == {name: name}
    assert engine.upload_files() == [name]


def test_a_file_in_a_folder_or_elsewhere_gives_its_base_name(engine: Engine, folder: Path, tmp_path: Path) -> None:
    write(folder, "sub/a.txt")
    write(tmp_path, "b.txt")
    engine.add_file_to_upload("sub/a.txt")
    engine.add_file_to_upload(tmp_path / "b.txt")
    assert sorted(outputs(folder)) == ["a.txt", "b.txt"]


def test_the_step_may_be_in_another_folder(engine: Engine, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(folder, "a.txt")
    monkeypatch.chdir("/")
    assert engine.add_file_to_upload("a.txt") == ["a.txt"]


def test_what_is_not_in_the_working_folder_is_looked_for_in_the_current_one(
    engine: Engine, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(folder, "both.txt", "sub/both.txt", "sub/a.txt", "sub/1.csv", "sub/plots/one.svg")
    monkeypatch.chdir(folder / "sub")
    assert engine.add_file_to_upload("a.txt") == ["a.txt"]
    assert engine.add_file_to_upload("*.csv") == ["1.csv"]
    assert engine.add_file_to_upload("plots") == ["plots/one.svg"]
    assert engine.add_file_to_upload("both.txt") == ["both.txt"]
    assert outputs(folder)["both.txt"] == "both.txt"


def test_a_glob_keeps_paths_below_its_fixed_part(engine: Engine, folder: Path) -> None:
    write(folder, "r/a/x.csv", "r/b/x.csv", "r/b/y.txt", "r/.hidden/z.csv")
    assert engine.add_file_to_upload("r/**/*.csv") == ["a/x.csv", "b/x.csv"]
    assert outputs(folder) == {"a/x.csv": "r/a/x.csv", "b/x.csv": "r/b/x.csv"}


def test_a_file_whose_name_looks_like_a_pattern(engine: Engine, folder: Path) -> None:
    write(folder, "a[1].txt", "a1.txt")
    assert engine.add_file_to_upload("a[1].txt") == ["a[1].txt"]


def test_a_folder_keeps_its_tree(engine: Engine, folder: Path) -> None:
    write(folder, "plots/one.svg", "plots/sub/two.svg", "plots/.cache/x")
    engine.add_file_to_upload("plots")
    assert sorted(outputs(folder)) == ["plots/one.svg", "plots/sub/two.svg"]


@pytest.mark.parametrize("path", ["nothing.txt", "*.nothing", "no/folder/x"])
def test_a_missing_file_is_named(engine: Engine, path: str) -> None:
    with pytest.raises(FileNotFoundError) as caught:
        engine.add_file_to_upload(path)
    assert repr(path) in str(caught.value)


def test_a_dangling_link_is_named(engine: Engine, folder: Path) -> None:
    (folder / "link").symlink_to("gone")
    with pytest.raises(FileNotFoundError, match="gone"):
        engine.add_file_to_upload("link")


def test_two_files_of_one_name_are_refused_and_can_be_told_apart(engine: Engine, folder: Path) -> None:
    write(folder, "a/x.csv", "b/x.csv")
    engine.add_file_to_upload("a/x.csv")
    with pytest.raises(FileExistsError, match="name="):
        engine.add_file_to_upload("b/x.csv")
    assert engine.add_file_to_upload("b/x.csv", name="b/x.csv") == ["b/x.csv"]
    assert outputs(folder) == {"x.csv": "a/x.csv", "b/x.csv": "b/x.csv"}


def test_a_file_handed_in_again_replaces_its_earlier_state(engine: Engine, folder: Path) -> None:
    write(folder, "a.txt")
    engine.add_file_to_upload("a.txt")
    engine.add_file_to_upload("a.txt")
    (folder / "new").write_text("second")
    (folder / "new").rename(folder / "a.txt")
    engine.add_file_to_upload("a.txt")
    assert outputs(folder) == {"a.txt": "second"}


def test_a_file_that_is_in_the_output_folder_already(engine: Engine, folder: Path) -> None:
    write(folder, "outputs/sub/a.txt")
    assert engine.add_file_to_upload("outputs/sub/a.txt") == ["sub/a.txt"]


def test_an_input_is_copied_so_that_other_tasks_keep_theirs(engine: Engine, folder: Path, tmp_path: Path) -> None:
    engine.addFileToUpload("shared.txt")
    (folder / "outputs" / "shared.txt").write_text("changed")
    assert (tmp_path / "deployment" / "inputs" / "shared.txt").read_text() == "input"


@pytest.mark.parametrize(
    "name", ["result.json", "stdout.txt", "stderr.txt", ".hidden", "a/.b/c", "../x", "/x", "", "a/../.."]
)
def test_names_that_cannot_be_uploaded(engine: Engine, folder: Path, name: str) -> None:
    with pytest.raises(ValueError):
        engine.data_to_upload("x", name)
    assert outputs(folder) == {}


def test_data_becomes_files(engine: Engine, folder: Path) -> None:
    assert engine.data_to_upload("ümläut\n") == "data_1.txt"
    assert engine.dataToUpload(b"\x00\xff", "raw/b.bin") == "raw/b.bin"
    assert engine.data_to_upload("second") == "data_2.txt"
    assert (folder / "outputs" / "data_1.txt").read_bytes() == "ümläut\n".encode()
    assert (folder / "outputs" / "raw" / "b.bin").read_bytes() == b"\x00\xff"
    with pytest.raises(FileExistsError):
        engine.data_to_upload("again", "data_1.txt")
    with pytest.raises(TypeError, match="dict"):
        engine.data_to_upload({"a": 1})  # type: ignore[arg-type]


def test_upload_files_names_what_has_gone(engine: Engine, folder: Path) -> None:
    engine.data_to_upload("x", "a.txt")
    (folder / "outputs" / "a.txt").unlink()
    with pytest.raises(FileNotFoundError, match=r"a\.txt"):
        engine.uploadFiles()


def test_json_configuration_is_found_wherever_it_was_deployed(engine: Engine, tmp_path: Path) -> None:
    (tmp_path / "deployment" / "app" / "settings.json").write_bytes(b'\xef\xbb\xbf{"a": 1}')
    (tmp_path / "deployment" / "tasks" / "broken.json").write_text('{"a": 1,\n}')
    assert engine.read_json_config_file("settings.json") == {"a": 1}
    with pytest.raises(FileNotFoundError, match=r"none\.json"):
        engine.readJsonConfigFile("none.json")
    with pytest.raises(ValueError, match=r"broken\.json is not JSON: .* line 2"):
        engine.read_json_config_file("broken.json")


def test_log_lines_carry_the_step_and_reach_stderr_once(node: Node) -> None:
    node.lay_out(
        {
            "tasks/1_task.py": "import logging\nlogging.basicConfig(level=0)\ndef do_action(engine):\n"
            "    engine.log.info('reading %s', 'a.txt')\n    with engine.step('parse'):\n        engine.log.warning('odd')",
            "tasks/2_task.py": "def do_action(engine): engine.log.info('second')",
        }
    )
    lines = node.run("1_task.py").stderr.splitlines()
    shown = [line.split(" ", 1)[1] for line in lines]
    assert shown[:2] == ["INFO [1_task.py] reading a.txt", "WARNING [1_task.py/parse] odd"]
    assert shown[2].startswith("azbatchwrap: 1_task.py/parse took ")
    assert shown[3:] == ["INFO [2_task.py] second"]


def test_no_account_key_or_signature_reaches_a_task(node: Node) -> None:
    node.prepare({"tasks/1_task.py": "import os\ndef do_action(engine): return dict(os.environ)"})
    run = node.run("1_task.py")
    assert not any("sig=" in value for value in run.result["value"].values())
    for path in (node.shared).rglob("*"):
        assert not path.is_file() or b"not-a-secret" not in path.read_bytes()


def test_outputs_are_links_so_that_large_files_cost_nothing(engine: Engine, folder: Path) -> None:
    write(folder, "large.bin")
    engine.add_file_to_upload("large.bin")
    assert (folder / "large.bin").samefile(folder / "outputs" / "large.bin")
