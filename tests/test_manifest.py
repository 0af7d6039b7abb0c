"""What a manifest may say, and what it says about a wrong one."""

from __future__ import annotations

import itertools
import json
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from azbatchwrap import manifest
from azbatchwrap.errors import ManifestError
from azbatchwrap.manifest import TaskRecord

SEED = {
    "TASK_MODULES": ["1_task.py", "2_task.py"],
    "TASK_MODULES_DIRECTORY": "",
    "TASK_ARGS": "",
    "TASK_OUTPUT_CONTAINER": "outputcrap",
    "JOB_MANIFEST": [
        {"TASK_MODULE": "1_task.py", "TASK_INPUT": "java -Xmx4096m -jar blackscholes.jar 10.0 11.0 36.0 48.0 100"}
    ]
    * 4,
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder whose `tasks` holds three numbered files and one without a number; blanks and umlauts in its path."""
    place = tmp_path / "ein Ordner mit 'Ümlauten'"
    (place / "tasks").mkdir(parents=True)
    for name in ("1_task.py", "2_task.py", "10_task.py", "clean.py"):
        (place / "tasks" / name).write_text("def do_action(engine, *args): pass\n")
    return place


def write(folder: Path, content: object, name: str = "task.json") -> Path:
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def entries(*items: dict[str, Any]) -> dict[str, Any]:
    return {"JOB_MANIFEST": list(items)}


def faults_of(path: Path) -> tuple[str, ...]:
    with pytest.raises(ManifestError) as caught:
        manifest.read(path)
    return caught.value.faults


# --- the seed's format ---


def test_the_seeds_own_file_is_read(folder: Path) -> None:
    read = manifest.read(write(folder, SEED))
    assert read.output_container == "outputcrap"
    assert read.modules == ("1_task.py", "2_task.py")
    assert read.modules_directory == folder / "tasks"
    words = ("java", "-Xmx4096m", "-jar", "blackscholes.jar", "10.0", "11.0", "36.0", "48.0", "100")
    assert list(read.records) == [TaskRecord(n, None, "1_task.py", words) for n in range(4)]


def test_a_manifest_needs_only_its_entries(folder: Path) -> None:
    read = manifest.read(write(folder, entries({"TASK_MODULE": "clean.py"})))
    assert [record.args for record in read.records] == [()]
    assert read.modules == ("clean.py",)
    assert read.output_container is None


def test_without_a_list_of_modules_the_rest_of_a_chain_is_deployed_too(folder: Path) -> None:
    read = manifest.read(write(folder, entries({"TASK_MODULE": "2_task.py"})))
    assert set(read.modules) == {"2_task.py", "10_task.py"}


def test_without_a_chain_only_the_named_file_is_deployed(folder: Path) -> None:
    read = manifest.read(write(folder, entries({"TASK_MODULE": "1_task.py", "CHAIN": False})))
    assert read.modules == ("1_task.py",)


def test_task_args_is_the_input_of_entries_without_one(folder: Path) -> None:
    content = {
        "TASK_ARGS": "a b",
        **entries({"TASK_MODULE": "clean.py"}, {"TASK_MODULE": "clean.py", "TASK_INPUT": ""}),
    }
    assert [record.args for record in manifest.read(write(folder, content)).records] == [("a", "b"), ()]


def test_no_job_manifest_is_one_task(folder: Path) -> None:
    read = manifest.read(write(folder, {"TASK_MODULES": ["1_task.py", "2_task.py"], "TASK_ARGS": "x 'y z'"}))
    assert list(read.records) == [TaskRecord(0, None, "1_task.py", ("x", "y z"))]


def test_the_directory_is_relative_to_the_manifest_and_can_be_overridden(folder: Path, tmp_path: Path) -> None:
    nested = folder / "deep"
    nested.mkdir()
    path = write(nested, {"TASK_MODULES_DIRECTORY": "../tasks", **entries({"TASK_MODULE": "clean.py"})})
    assert manifest.read(path).module_paths == (nested / "../tasks/clean.py",)
    other = tmp_path / "other"
    other.mkdir()
    (other / "clean.py").touch()
    assert manifest.read(path, modules_directory=other).module_paths == (other / "clean.py",)


def test_input_files_are_relative_to_the_manifest(folder: Path) -> None:
    (folder / "data").mkdir()
    content = {"INPUT_FILES": ["data", "data/*.csv"], **entries({"TASK_MODULE": "clean.py"})}
    assert manifest.read(write(folder, content)).input_paths == (str(folder / "data"), str(folder / "data/*.csv"))
    content["INPUT_FILES"] = ["dta", 7, "", "data"]
    assert [fault.partition(":")[0] for fault in faults_of(write(folder, content))] == ["INPUT_FILES"] * 3


def test_every_key_of_an_entry_reaches_its_record(folder: Path) -> None:
    full = {
        "ID": "price-1", "TASK_MODULE": "1_task.py", "TASK_INPUT": ["a b", 2, {"k": [None, 1.5]}], "CHAIN": False,
        "INPUTS": ["data/a b.csv"], "RETRIES": 2, "TIMEOUT": "1h30m", "SLOTS": 4, "DEPENDS_ON": ["first"],
    }  # fmt: skip
    read = manifest.read(write(folder, entries(full, {"ID": "first", "TASK_MODULE": "clean.py"})))
    assert next(iter(read.records)) == TaskRecord(
        0, "price-1", "1_task.py", ("a b", 2, {"k": [None, 1.5]}), chain=False, inputs=("data/a b.csv",), retries=2,
        timeout=5400.0, slots=4, depends_on=("first",),
    )  # fmt: skip


@pytest.mark.parametrize(
    ("value", "args"),
    [
        ("input.txt 2 34", ("input.txt", "2", "34")),
        ("'a b' \"c $HOME\" d\\ e", ("a b", "c $HOME", "d e")),
        ("", ()),
        (None, ()),
        (7, (7,)),
        (True, (True,)),
        ({"a": 1}, ({"a": 1},)),
        (["a b", 3], ("a b", 3)),
        ("größe\n2", ("größe", "2")),
    ],
)
def test_input_becomes_words(folder: Path, value: object, args: tuple[object, ...]) -> None:
    read = manifest.read(write(folder, entries({"TASK_MODULE": "clean.py", "TASK_INPUT": value})))
    assert [record.args for record in read.records] == [args]


@pytest.mark.parametrize(
    ("value", "seconds"),
    [(90, 90.0), (0.5, 0.5), ("90", 90.0), ("10m", 600.0), ("1h30m", 5400.0), ("2 d", 172800.0), ("250ms", 0.25),
     ("PT10M", 600.0), ("P1DT2H3.5S", 93603.5), ("P2W", 1209600.0)],
)  # fmt: skip
def test_durations(value: object, seconds: float) -> None:
    assert manifest.parse_duration(value) == seconds


@pytest.mark.parametrize(
    "value", [0, -1, "0", "P", "PT", "P1Y", "P1M", "ten", "10 x", "", True, float("nan"), 1e300, []]
)
def test_wrong_durations(value: object) -> None:
    with pytest.raises(ManifestError):
        manifest.parse_duration(value)


# --- faults ---


def test_every_fault_is_reported_at_once(folder: Path) -> None:
    path = write(
        folder,
        {
            "TASK_MODULE_DIRECTORY": "tasks",
            "TASK_OUTPUT_CONTAINER": "No Such Name",
            "JOB_MANIFEST": [
                {"TASK_MODULE": "1_tsk.py", "TASK_INPUT": "it's"},
                {"TASK_MODUL": "1_task.py", "ID": "a b"},
                "1_task.py",
                {"TASK_MODULE": "clean.py", "RETRIES": -1, "SLOTS": "2", "TIMEOUT": "soon", "CHAIN": "yes"},
                {"TASK_MODULE": "clean.py", "ID": "Twice", "DEPENDS_ON": ["nobody"]},
                {"TASK_MODULE": "clean.py", "ID": "tWICE", "INPUTS": ["../../etc/passwd"]},
            ],
        },
    )
    text = "\n".join(faults_of(path))
    for expected in (
        "did you mean TASK_MODULES_DIRECTORY?",
        "TASK_OUTPUT_CONTAINER: ",
        "entry 1, TASK_INPUT: ",
        "unbalanced quote",
        "entry 1, TASK_MODULE: there is no 1_tsk.py",
        "did you mean 1_task.py?",
        "entry 2: 'TASK_MODUL' is not a known key; did you mean TASK_MODULE?",
        "entry 2, ID: 'a b'",
        "entry 2: TASK_MODULE is missing",
        "entry 3: must be an object",
        "entry 4, RETRIES: ",
        "entry 4, SLOTS: must be a whole number, not text",
        "entry 4, TIMEOUT: ",
        "entry 4, CHAIN: must be true or false, not text",
        "entry 5, DEPENDS_ON: no entry has the ID 'nobody'",
        "entry 6, ID: 'tWICE' is the ID of entry 5 already",
        "entry 6, INPUTS: '../../etc/passwd'",
    ):
        assert expected in text
    assert len(faults_of(path)) == 15


@pytest.mark.parametrize("bad", ["", "..", "a/b", "a.b", "x" * 65, "naïve", "a\nb", "a\n", 1.5, True, ["a"], {}])
def test_ids_the_service_would_refuse(folder: Path, bad: object) -> None:
    assert "entry 1, ID: " in faults_of(write(folder, entries({"TASK_MODULE": "clean.py", "ID": bad})))[0]


@pytest.mark.parametrize(
    "bad", ["", "../clean.py", "/etc/x.py", "a\\b.py", "clean", "clean.txt", 3, None, ["clean.py"]]
)
def test_task_files_that_cannot_be_named(folder: Path, bad: object) -> None:
    assert "TASK_MODULE" in faults_of(write(folder, entries({"TASK_MODULE": bad})))[0]


def test_a_path_as_task_file_is_answered_with_its_bare_name(folder: Path) -> None:
    assert "write '1_task.py'" in faults_of(write(folder, entries({"TASK_MODULE": "tasks/1_task.py"})))[0]


def test_entries_that_wait_for_each_other(folder: Path) -> None:
    circle = [
        {"TASK_MODULE": "clean.py", "ID": name, "DEPENDS_ON": wanted}
        for name, wanted in (("a", "b"), ("b", ["c"]), ("c", ["a", "d"]), ("d", []), ("self", "self"))
    ]
    faults = faults_of(write(folder, entries(*circle)))
    assert [fault.split(": ")[-1] for fault in faults] == ["a -> b -> c -> a", "self -> self"]


def test_a_dependency_is_written_as_the_id_it_names(folder: Path) -> None:
    items = ({"TASK_MODULE": "clean.py", "ID": "First"}, {"TASK_MODULE": "clean.py", "DEPENDS_ON": ["first"]})
    assert faults_of(write(folder, entries(*items)))[0].endswith("no entry has the ID 'first'; did you mean First?")


def test_a_long_chain_of_dependencies_is_no_circle(folder: Path) -> None:
    items = [{"TASK_MODULE": "clean.py", "ID": "t0"}] + [
        {"TASK_MODULE": "clean.py", "ID": f"t{n}", "DEPENDS_ON": [f"t{n - 1}"]} for n in range(1, 5000)
    ]
    assert len(manifest.read(write(folder, entries(*reversed(items)))).records) == 5000


def test_a_thousand_faults_are_not_all_listed(folder: Path) -> None:
    faults = faults_of(write(folder, entries(*[{}] * 1000)))
    assert len(faults) < 100
    assert faults[-1] == "… and 950 more"


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("task.json", '{"JOB_MANIFEST": [\n  {"TASK_MODULE": "clean.py",}\n]}', "line 2, column"),
        ("task.json", '{"JOB_MANIFEST": [], "JOB_MANIFEST": []}', "'JOB_MANIFEST' is given twice"),
        ("task.json", '[{"TASK_MODULE": "clean.py", "TIMEOUT": NaN}]', "NaN"),
        ("task.json", "[" * 100_000, "not JSON"),
        ("task.json", "", "line 1, column 1"),
        ("task.yaml", "JOB_MANIFEST:\n  - {TASK_MODULE: clean.py\n", "line 3, column 1"),
        ("task.yaml", "- TASK_MODULE: clean.py\n  TASK_MODULE: clean.py\n", "'TASK_MODULE' is given twice"),
        ("task.yaml", "a: !!int x\n", "not YAML"),
        ("task.yaml", "a: !!python/object:os.system x\n", "not YAML"),
        ("task.yaml", "a: 1\n---\nb: 2\n", "not YAML"),
        ("task.jsonl", '{"TASK_MODULE": "clean.py"}\n\n{"TASK_MODULE": clean}\n', "entry 2 (line 3): column 17"),
        ("task.csv", "module,inptu\nclean.py,x\n", "'inptu' is not a known column; did you mean INPUT?"),
        ("task.csv", "MODULE;ARG1\nclean.py;x\n", "is not a known column; put commas between the cells"),
        ("task.csv", "module,module\n", "the column TASK_MODULE is given twice"),
        ("task.csv", "module\nclean.py,x\n", "entry 1 (line 2): has 2 cells, but there are 1 columns"),
        ("task.csv", 'module\n"clean.py\n', "not CSV"),
        ("task.csv", "module,retries,chain\nclean.py,two,maybe\n", "entry 1 (line 2), CHAIN"),
        ("task.csv", "", "holds no entries"),
        ("task.json", "[]", "holds no entries"),
    ],
)
def test_broken_files_say_where(folder: Path, name: str, text: str, expected: str) -> None:
    with pytest.raises(ManifestError) as caught:
        manifest.read(write(folder, text, name))
    assert expected in str(caught.value)


def test_files_that_cannot_be_read(folder: Path) -> None:
    (folder / "bytes.json").write_bytes(b'["\xff\xfe\xfa"]')
    (folder / "bytes.csv").write_bytes(b"module\n\xff\n")
    for name in ("nowhere.json", "bytes.json", "bytes.csv", "tasks"):
        with pytest.raises(ManifestError):
            manifest.read(folder / name)


def test_yaml_that_unfolds_without_end_is_refused(folder: Path) -> None:
    bomb = "a0: &a0 [x, x]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}, *a{n - 1}]\n" for n in range(1, 40))
    path = write(folder, f"{bomb}JOB_MANIFEST:\n  - {{TASK_MODULE: clean.py, TASK_INPUT: *a39}}\n", "task.yaml")
    assert any("entry 1, TASK_INPUT" in fault for fault in faults_of(path))


def test_inputs_of_an_entry_must_be_among_the_input_files(folder: Path) -> None:
    read = manifest.read(write(folder, entries({"TASK_MODULE": "clean.py", "INPUTS": ["data", "data/a.csv", "b.csv"]})))
    manifest.check_inputs(read, ["data/a.csv", "b.csv"])
    with pytest.raises(ManifestError, match=r"entry 1, INPUTS: there is no 'b.csv' .* did you mean bb.csv"):
        manifest.check_inputs(read, ["data/a.csv", "bb.csv"])


# --- YAML and tables ---


def test_yaml_keeps_text_as_text(folder: Path) -> None:
    text = "- task_module: clean.py\n  task_input: [NO, 1:30, 2026-01-01, 010, 0x1f, 1e3, ~, true]\n"
    read = manifest.read(write(folder, text, "task.yaml"))
    assert next(iter(read.records)).args == ("NO", "1:30", "2026-01-01", 10, 31, 1000.0, None, True)


def test_yaml_anchors_share_keys(folder: Path) -> None:
    text = (
        "JOB_MANIFEST:\n  - &base {TASK_MODULE: clean.py, TIMEOUT: PT1M, ID: a}\n"
        "  - {<<: *base, ID: b, TASK_INPUT: x}\n"
    )
    records = list(manifest.read(write(folder, text, "task.yml")).records)
    assert [(record.id, record.timeout, record.args) for record in records] == [("a", 60.0, ()), ("b", 60.0, ("x",))]


def test_a_csv_row_is_an_entry(folder: Path) -> None:
    text = (
        "Module,Input,Arg1,Arg2,ID,Retries,Chain,Timeout,Depends_On\n"
        "1_task.py,\"a 'b c'\",x y,,first,2,no,10m,\n"
        "\n"
        "clean.py,,,z,,,,,first\n"
    )
    records = list(manifest.read(write(folder, text, "t.csv")).records)
    assert records == [
        TaskRecord(0, "first", "1_task.py", ("a", "b c", "x y"), chain=False, retries=2, timeout=600.0),
        TaskRecord(1, None, "clean.py", ("", "z"), depends_on=("first",)),
    ]


def test_tab_and_json_line_tables_say_the_same(folder: Path) -> None:
    tabs = manifest.read(write(folder, "module\tinput\nclean.py\ta b\n", "t.tsv"))
    lines = manifest.read(write(folder, '{"TASK_MODULE": "clean.py", "TASK_INPUT": "a b"}\n', "t.jsonl"))
    assert list(tabs.records) == list(lines.records) == [TaskRecord(0, None, "clean.py", ("a", "b"))]


def test_a_table_can_be_read_again_and_notices_changes(folder: Path) -> None:
    path = write(folder, "module\n" + "clean.py\n" * 1000, "t.csv")
    records = manifest.read(path).records
    assert len(records) == 1000
    assert list(records) == list(records)
    path.write_text("module\n../x.py\n")
    with pytest.raises(ManifestError):
        list(records)


def test_duplicate_ids_in_a_table(folder: Path) -> None:
    assert (
        "is the ID of entry 1 (line 2)" in faults_of(write(folder, "module,id\nclean.py,a\nclean.py,A\n", "t.csv"))[0]
    )


# --- tuples ---


def test_one_tuple_a_list_and_an_iterator_give_the_same_records() -> None:
    one = ("1_task.py", "input.txt 2 34", {"k": 1}, "a b")
    expected = [TaskRecord(0, None, "1_task.py", ("input.txt", "2", "34", {"k": 1}, "a b"))]
    for work in (one, [one], (one,), iter([one]), [list(one)], expected):
        assert list(manifest.from_tuples(work)) == expected
    assert list(manifest.from_tuples({"TASK_MODULE": "1_task.py", "ID": "x"})) == [TaskRecord(0, "x", "1_task.py")]
    assert list(manifest.from_tuples([])) == []


def test_an_iterator_is_read_lazily() -> None:
    taken = []

    def endless() -> Iterator[tuple[str, str]]:
        for number in itertools.count():
            taken.append(number)
            yield ("1_task.py", f"word {number}")

    records = list(itertools.islice(manifest.from_tuples(endless()), 3))
    assert [record.index for record in records] == [0, 1, 2]
    assert taken == [0, 1, 2]


def test_a_faulty_item_of_a_list_stops_all_of_it() -> None:
    with pytest.raises(ManifestError) as caught:
        manifest.from_tuples([("1_task.py", "a"), ("1_task.py", "it's"), ("..", ""), 7, ("1_task.py", "", object())])
    assert [fault.split(":")[0] for fault in caught.value.faults] == ["task 2", "task 3", "task 4", "task 5"]


def test_a_faulty_item_of_an_iterator_is_named() -> None:
    with pytest.raises(ManifestError, match="task 2: "):
        list(manifest.from_tuples(iter([("1_task.py", "a"), ("1_task.py", 'say "hi')])))


@pytest.mark.parametrize(
    "work", ["1_task.py", ["1_task.py", "input.txt 2 34"], 7, None, [()], [("1_task.py", float("nan"))]]
)
def test_what_is_no_task(work: object) -> None:
    with pytest.raises(ManifestError):
        list(manifest.from_tuples(work))


# --- properties ---


@given(st.lists(st.text()))
def test_quoted_words_come_back(words: list[str]) -> None:
    assert manifest.split_words(shlex.join(words)) == tuple(words)


@given(st.text())
def test_words_are_split_as_a_shell_does_or_refused(text: str) -> None:
    try:
        expected = tuple(shlex.split(text))
    except ValueError:
        with pytest.raises(ManifestError):
            manifest.split_words(text)
    else:
        assert manifest.split_words(text) == expected


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
entry_like = st.dictionaries(st.sampled_from([*manifest.ENTRY_KEYS, "task_module", "other"]), json_values)
manifest_like = st.fixed_dictionaries(
    {}, optional=dict.fromkeys(manifest.TOP_KEYS, json_values) | {"JOB_MANIFEST": st.lists(entry_like, max_size=4)}
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(content=json_values | manifest_like | st.lists(entry_like, max_size=4), kind=st.sampled_from(["json", "yaml"]))
def test_any_json_is_read_or_refused(tmp_path: Path, content: object, kind: str) -> None:
    path = tmp_path / f"task.{kind}"
    path.write_text(json.dumps(content))
    with_result(path)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(text=st.text() | st.binary(), kind=st.sampled_from(["json", "yaml", "csv", "tsv", "jsonl"]))
def test_any_bytes_are_read_or_refused(tmp_path: Path, text: str | bytes, kind: str) -> None:
    path = tmp_path / f"task.{kind}"
    path.write_bytes(text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass"))
    with_result(path)


def with_result(path: Path) -> None:
    """Reads ``path``; a ManifestError is as good an outcome as a manifest with tasks, anything else is not."""
    try:
        records = list(manifest.read(path).records)
    except ManifestError:
        return
    assert records
