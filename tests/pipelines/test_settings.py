"""Configuration: fourteen keys of old, layers, and every fault at once."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from azbatchwrap.errors import ConfigurationError
from azbatchwrap.pipelines import assets, settings
from azbatchwrap.pipelines.keys import KEYS
from azbatchwrap.pipelines.place import Place

SUBID = "01234567-89ab-cdef-0123-456789abcdef"
ORIGINAL = {
    "subid": SUBID, "resourceGroup": "group", "region": "West Europe", "workspace": "space", "experiment": "trial",
    "batch_compute_name": "dummybatch", "batch_vm_size": "Standard_D2", "batch_vm_min": 0, "batch_vm_max": 2,
    "source_container": "source", "result_container": "result", "pipeline_name": "simple_pipeline",
    "schedule_frequency": "Hour", "schedule_interval": 1,
}  # fmt: skip


def written(folder: Path, content: Any, name: str = "batchconfiguration.json") -> Path:
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def faults(folder: Path, **keys: Any) -> str:
    with pytest.raises(ConfigurationError) as caught:
        settings.load(written(folder, ORIGINAL | keys))
    return str(caught.value)


def test_the_fourteen_keys_are_taken_as_they_are(tmp_path: Path) -> None:
    assert {key.name for key in KEYS if key.is_original} == set(ORIGINAL)
    loaded = settings.load(written(tmp_path, ORIGINAL))
    assert {name: value for name, value in loaded.values().items() if name in ORIGINAL} == ORIGINAL
    assert Place(loaded).location == "westeurope"


def test_yaml_says_the_same(tmp_path: Path) -> None:
    text = "".join(f"{name}: {json.dumps(value)}\n" for name, value in ORIGINAL.items())
    loaded = settings.load(written(tmp_path, text, "batch.yml"))
    assert loaded.values() == settings.load(written(tmp_path, ORIGINAL)).values()


def test_layers_and_where_each_value_came_from(tmp_path: Path) -> None:
    path = written(tmp_path, {"subid": SUBID, "workspace": "of-file", "batch_vm_max": 3, "pipeline_name": None})
    environment = {"AZBATCHWRAP_AML_BATCH_VM_MAX": "4", "AZBATCHWRAP_AML_RESOURCE_GROUP": "of-environment"}
    loaded = settings.load(path, flags={"batch_vm_max": "5"}, environment=environment)
    assert (loaded.workspace, loaded.resource_group, loaded.batch_vm_max) == ("of-file", "of-environment", 5)
    assert loaded.sources["workspace"] == f"file: {path}"
    assert loaded.sources["resourceGroup"] == "environment: AZBATCHWRAP_AML_RESOURCE_GROUP"
    assert loaded.sources["batch_vm_max"] == "flag: -batch_vm_max"
    assert loaded.sources["pipeline_name"] == "default"


def test_the_subscription_of_other_programs_redirects_no_file(tmp_path: Path) -> None:
    other = "ffffffff-89ab-cdef-0123-456789abcdef"
    environment = {"AZURE_SUBSCRIPTION_ID": other}
    assert settings.load(written(tmp_path, ORIGINAL), environment=environment).subid == SUBID
    assert settings.load(environment=environment).subid == other
    own = {**environment, "AZBATCHWRAP_AML_SUBID": "eeeeeeee-89ab-cdef-0123-456789abcdef"}
    assert settings.load(written(tmp_path, ORIGINAL), environment=own).subid.startswith("eeee")


def test_there_is_no_default_subscription() -> None:
    with pytest.raises(ConfigurationError, match=r"subid is missing.*AZURE_SUBSCRIPTION_ID"):
        settings.load()


def test_all_faults_are_named_at_once(tmp_path: Path) -> None:
    said = faults(
        tmp_path,
        subid="<your subscription id>",
        batch_vm_min=5,
        batch_vm_max="many",
        endpoint_name="simple_pipeline",
        result_container="Results!",
        workspce="x",
        data="nowhere.txt",
    )
    assert said.startswith("the configuration has 6 faults:")
    for part in (
        "subid (file: ", "placeholder", "batch_vm_max", "whole number", "endpoint_name", "a letter first",
        "result_container", "workspce", "did you mean workspace?", "nowhere.txt, which does not exist",
    ):  # fmt: skip
        assert part in said


@pytest.mark.parametrize(
    ("key", "value", "said"),
    [
        ("batch_vm_min", -1, "between 0 and 10000"),
        ("batch_vm_min", 3, "larger than batch_vm_max"),
        ("batch_vm_min", True, "whole number"),
        ("batch_vm_min", 1.5, "whole number"),
        ("batch_vm_max", 0, "between 1"),
        ("schedule_frequency", "Fortnight", "one of Minute, Hour"),
        ("schedule_interval", 0, "between 1"),
        ("workspace", "a", "3 to 33"),
        ("workspace", ["a"], "must be text"),
        ("resourceGroup", "ends with.", "full stop"),
        ("batch_compute_name", "1abc", "a letter first"),
        ("batch_compute_name", "a" * 33, "3 to 32"),
        ("score_arguments", "{data} 'x", "unbalanced quote"),
        ("source_container", "result", "both 'result'"),
        ("score_arguments", ["{file}"], "not '{file}'"),
        ("tags", {"azbatchwrap": "mine"}, "does not allow"),
        ("tags", [1], "names and texts"),
        ("tags", "team=a,b", "names and texts"),
        ("subid", "not-a-guid", "an id such as"),
    ],
)
def test_each_key_says_what_it_takes(tmp_path: Path, key: str, value: Any, said: str) -> None:
    assert said in faults(tmp_path, **{key: value})


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("batch.json", '{"subid": "x",', "line 1, column"),
        ("batch.json", '{"batch_vm_min": <minimum nodes>}', "a placeholder still stands"),
        ("batch.json", "[1]", "must hold an object"),
        ("batch.json", '{"region": "eastus", "region": "westus"}', "gives the key region twice"),
        ("batch.yaml", "region: eastus\nregion: westus", "gives the key region twice"),
        ("batch.yaml", "region: [1\nworkspace: x", "line 2, column 10: expected"),
        ("batch.yaml", "region: a\n---\nregion: b", "line 2, column 1: "),
        ("batch.yaml", "region: \x07", "special characters are not allowed"),
        ("batch.yaml", "", "must hold an object"),
    ],
)
def test_unreadable_files_say_where(tmp_path: Path, name: str, text: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said) as caught:
        settings.load(written(tmp_path, text, name))
    assert "\n" not in str(caught.value) or "special" in said


def test_names_as_long_as_azure_takes_them(tmp_path: Path) -> None:
    assert settings.load(written(tmp_path, ORIGINAL | {"batch_compute_name": "a" * 32})).batch_compute_name == "a" * 32


def test_a_missing_file_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read: No such file"):
        settings.load(tmp_path / "none.json")


def test_the_template_is_valid_once_it_is_filled_in(tmp_path: Path) -> None:
    text = settings.template()
    with pytest.raises(ConfigurationError, match=r"subid .* placeholder"):
        settings.load(written(tmp_path, text))
    assert settings.load(written(tmp_path, json.loads(text) | {"subid": SUBID})).schedule_frequency == "Day"


def test_saved_values_make_the_same_settings(tmp_path: Path) -> None:
    loaded = settings.load(written(tmp_path, ORIGINAL | {"tags": {"team": "a"}, "score_arguments": ["{data}", "x y"]}))
    assert settings.from_values(json.loads(json.dumps(loaded.values())), "plan").values() == loaded.values()


@given(st.text(min_size=1, max_size=40))
def test_any_pipeline_name_that_is_allowed_makes_an_endpoint_name_that_is(name: str) -> None:
    try:
        loaded = settings.load(flags={"subid": SUBID, "pipeline_name": name})
    except ConfigurationError:
        return
    endpoint = Place(loaded).endpoint
    assert settings.load(flags={"subid": SUBID, "endpoint_name": endpoint}).endpoint_name == endpoint


@given(st.text("aBz09-_", min_size=3, max_size=33).filter(lambda text: text[0].isalnum()))
def test_names_are_deterministic_legal_and_differ_between_groups(workspace: str) -> None:
    def place(group: str) -> Place:
        return Place(settings.load(flags={"subid": SUBID, "workspace": workspace, "resourceGroup": group}))

    one = place("one")
    names = [each.rpartition("/")[2] for each in (one.storage_account, one.key_vault, one.registry)]
    assert names == [
        each.rpartition("/")[2]
        for each in (place("ONE").storage_account, place("ONE").key_vault, place("ONE").registry)
    ]
    assert all(3 <= len(name) <= 24 and name.isalnum() and name[0].isalpha() for name in names[:2])
    assert names[0] == names[0].lower()
    assert place("two").storage_account.rpartition("/")[2] not in names


class TestAssets:
    @staticmethod
    def load(folder: Path, **keys: Any) -> assets.Assets:
        flags = {"subid": SUBID, "score_script": str(folder / "batch.py"), "data": str(folder / "data"), **keys}
        return assets.read(settings.load(flags=flags))

    @pytest.fixture
    def folder(self, tmp_path: Path) -> Path:
        for name in ("batch.py", "helper.py", "data/a b.txt", "data/é/c.txt", "__pycache__/x.pyc", ".git/config"):
            path = tmp_path / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(name)
        return tmp_path

    def test_code_is_the_scripts_folder_without_data_and_leavings(self, folder: Path) -> None:
        found = self.load(folder)
        assert sorted(found.code.hashes) == ["batch.py", "helper.py"]
        assert sorted(found.data.hashes) == ["data/a b.txt", "data/é/c.txt"]

    def test_content_decides_and_not_time(self, folder: Path) -> None:
        before = self.load(folder)
        (folder / "helper.py").write_text("helper.py")
        assert self.load(folder).code.digest == before.code.digest
        (folder / "helper.py").write_text("changed")
        assert self.load(folder).code.digest != before.code.digest
        assert self.load(folder).data.digest == before.data.digest

    def test_a_folder_without_a_file_is_refused(self, folder: Path) -> None:
        (folder / "empty").mkdir()
        with pytest.raises(ConfigurationError, match="holds no file"):
            self.load(folder, data=str(folder / "empty"))

    def test_a_folder_too_large_for_code_is_refused(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(assets, "SNAPSHOT_LIMIT", 10)
        with pytest.raises(ConfigurationError, match="code alone"):
            self.load(folder)
