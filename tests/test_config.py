"""Layers, faults and the instance on this machine."""

from __future__ import annotations

import copy
import dataclasses
import json
import pickle
import socket
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from azbatchwrap import config
from azbatchwrap.config import BatchAccount, Secret, Settings
from azbatchwrap.errors import ConfigurationError

BATCH_KEY = "YmF0Y2gga2V5"
STORAGE_KEY = "c3RvcmFnZSBrZXk="
CONNECTION = (
    f"DefaultEndpointsProtocol=https;AccountName=files;AccountKey={STORAGE_KEY};EndpointSuffix=core.windows.net"
)
LOOPBACK_CONNECTION = (
    f"DefaultEndpointsProtocol=http;AccountName=devstoreaccount1;AccountKey={STORAGE_KEY};"
    "BlobEndpoint=http://127.0.0.1:10000/devstoreaccount1;"
)
URL = "https://work.westeurope.batch.azure.com"
NEW_FORM = {
    "BATCH_ACCOUNT_NAME": "work",
    "BATCH_ACCOUNT_KEY": BATCH_KEY,
    "BATCH_ACCOUNT_URL": URL,
    "STORAGE_CONNECTION_STRING": CONNECTION,
}
OLD_FORM = {
    "BATCH_ACCOUNT_NAME": "work",
    "BATCH_ACCOUNT_KEY": BATCH_KEY,
    "BATCH_ACCOUNT_URL": URL,
    "STORAGE_ACCOUNT_NAME": "files",
    "STORAGE_ACCOUNT_KEY": STORAGE_KEY,
}


class Place:
    """A folder below a home folder, with files and variables to load from."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.folder = home / "weird näme" / "project"
        self.folder.mkdir(parents=True)
        self.data = home / "data"

    def write(self, name: str, content: object, folder: Path | None = None) -> Path:
        path = (folder or self.folder) / name
        path.write_text(content if isinstance(content, str) else json.dumps(content), encoding="utf-8")
        return path

    def load(self, overrides: dict[str, object] | None = None, **variables: str) -> Settings:
        environment = {"HOME": str(self.home), "AZBATCHWRAP_HOME": str(self.data), "AZBATCHWRAP_AUTOSTART": "0"}
        return config.load(self.folder, environment=environment | variables, overrides=overrides)

    def fault(self, overrides: dict[str, object] | None = None, **variables: str) -> str:
        with pytest.raises(ConfigurationError) as caught:
            self.load(overrides, **variables)
        return str(caught.value)


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


def connection_string(settings: Settings) -> str:
    assert settings.storage.connection_string is not None
    return settings.storage.connection_string.reveal()


@pytest.fixture
def answering_port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


class TestCredentials:
    def test_form_with_a_connection_string(self, place: Place) -> None:
        place.write("credentials.json", NEW_FORM)
        settings = place.load()
        assert settings.batch == BatchAccount("work", URL, Secret(BATCH_KEY))
        assert settings.storage.name == "files"
        assert connection_string(settings) == CONNECTION
        assert settings.storage.blob_url == "https://files.blob.core.windows.net"
        assert not settings.is_local
        assert settings.warnings == ()

    def test_form_with_account_name_and_key(self, place: Place) -> None:
        place.write("credentials.json", OLD_FORM)
        parts = connection_string(place.load()).split(";")
        assert {"AccountName=files", f"AccountKey={STORAGE_KEY}", "EndpointSuffix=core.windows.net"} <= set(parts)

    def test_both_forms_of_one_account_agree(self, place: Place) -> None:
        place.write("credentials.json", OLD_FORM | NEW_FORM)
        assert connection_string(place.load()) == CONNECTION

    def test_both_forms_of_two_accounts_contradict(self, place: Place) -> None:
        place.write("credentials.json", NEW_FORM | {"STORAGE_ACCOUNT_NAME": "others"})
        fault = place.fault()
        assert "files" in fault
        assert "others" in fault

    @pytest.mark.parametrize("blank", ["", "  ", None])
    def test_keys_may_be_left_out_for_an_identity(self, place: Place, blank: object) -> None:
        keyless = OLD_FORM | {"BATCH_ACCOUNT_KEY": blank, "STORAGE_ACCOUNT_KEY": blank}
        place.write("credentials.json", keyless)
        settings = place.load()
        assert settings.batch.key is None
        assert settings.storage == config.StorageAccount(None, "files", "https://files.blob.core.windows.net")

    def test_the_file_of_a_parent_folder_is_found(self, place: Place) -> None:
        place.write("credentials.json", NEW_FORM, place.home)
        assert place.load().batch.name == "work"

    def test_the_nearest_file_wins(self, place: Place) -> None:
        place.write("credentials.json", NEW_FORM | {"BATCH_ACCOUNT_NAME": "far"}, place.home)
        place.write("credentials.json", NEW_FORM | {"BATCH_ACCOUNT_NAME": "near"})
        assert place.load().batch.name == "near"

    def test_nothing_above_the_home_folder_is_read(self, place: Place) -> None:
        place.write("credentials.json", "{broken", place.home)
        with pytest.raises(ConfigurationError, match="no Azure account is configured"):
            place.load(HOME=str(place.folder))

    def test_a_byte_order_mark_is_no_fault(self, place: Place) -> None:
        place.write("credentials.json", "\ufeff" + json.dumps(NEW_FORM))
        assert place.load().batch.name == "work"

    def test_a_bare_host_is_https(self, place: Place) -> None:
        place.write("credentials.json", NEW_FORM | {"BATCH_ACCOUNT_URL": "work.westeurope.batch.azure.com/"})
        assert place.load().batch.url == URL


class TestLayers:
    def test_each_layer_wins_over_the_one_below(self, place: Place) -> None:
        place.write("credentials.json", NEW_FORM)
        assert place.load().pool.node_count == 1
        path = place.write("batch.json", {"BATCH_NODE_COUNT": 2})
        assert place.load().sources["node_count"] == f"{path}: BATCH_NODE_COUNT"
        assert place.load().pool.node_count == 2
        assert place.load(AZBATCHWRAP_NODE_COUNT="3").pool.node_count == 3
        settings = place.load({"node_count": 4}, AZBATCHWRAP_NODE_COUNT="3")
        assert settings.pool.node_count == 4
        assert settings.sources["node_count"] == "argument: node_count"
        assert settings.sources["vm_size"] == "default"

    def test_arguments_that_are_none_are_not_given(self, place: Place) -> None:
        place.write("credentials.json", NEW_FORM)
        assert place.load({"node_count": None}).pool.node_count == 1

    def test_a_key_alone_may_come_from_the_environment(self, place: Place) -> None:
        place.write("credentials.json", NEW_FORM | {"BATCH_ACCOUNT_KEY": ""})
        assert place.load(AZURE_BATCH_ACCESS_KEY=BATCH_KEY).batch.key == Secret(BATCH_KEY)

    def test_the_key_of_a_file_is_not_used_for_another_account_of_the_environment(self, place: Place) -> None:
        place.write("credentials.json", NEW_FORM)
        settings = place.load(AZURE_BATCH_ACCOUNT="other", AZURE_BATCH_ENDPOINT="https://other.eu.batch.azure.com")
        assert settings.batch == BatchAccount("other", "https://other.eu.batch.azure.com", None)

    def test_a_connection_string_above_replaces_name_and_key_below(self, place: Place) -> None:
        place.write("credentials.json", OLD_FORM)
        other = CONNECTION.replace("files", "others")
        assert place.load(AZURE_STORAGE_CONNECTION_STRING=other).storage.name == "others"

    def test_a_name_and_key_above_replace_the_connection_string_below(self, place: Place) -> None:
        place.write("credentials.json", NEW_FORM)
        settings = place.load(AZURE_STORAGE_ACCOUNT="others", AZURE_STORAGE_KEY=STORAGE_KEY)
        assert "AccountName=others;" in connection_string(settings)

    def test_everything_may_come_from_the_environment(self, place: Place) -> None:
        settings = place.load(
            AZURE_BATCH_ACCOUNT="work",
            AZURE_BATCH_ACCESS_KEY=BATCH_KEY,
            AZURE_BATCH_ENDPOINT=URL,
            AZURE_STORAGE_CONNECTION_STRING=CONNECTION,
            AZBATCHWRAP_PROJECT="risk",
        )
        assert (settings.batch.name, settings.project) == ("work", "risk")
        assert settings.sources["batch_key"] == "environment: AZURE_BATCH_ACCESS_KEY"

    def test_a_number_may_be_written_as_text_and_a_version_as_a_number(self, place: Place) -> None:
        place.write("credentials.json", NEW_FORM)
        place.write("batch.json", {"BATCH_NODE_COUNT": "12", "BATCH_OS_VERSION": 22.04})
        pool = place.load().pool
        assert (pool.node_count, pool.sku) == (12, "22.04")


class TestFaults:
    def test_broken_json_names_file_line_and_column(self, place: Place) -> None:
        path = place.write("credentials.json", '{\n  "BATCH_ACCOUNT_NAME": "a"\n  "x": 1}')
        assert f"{path} is not valid JSON: line 3, column 3" in place.fault()

    @pytest.mark.parametrize(
        ("content", "kind"), [("[1]", "a list"), ("3", "a number"), ('"a"', "text"), ("null", "null")]
    )
    def test_json_that_is_no_object(self, place: Place, content: str, kind: str) -> None:
        place.write("batch.json", content)
        assert f"must hold a JSON object {{…}}, not {kind}" in place.fault()

    def test_a_file_that_is_no_text(self, place: Place) -> None:
        (place.folder / "batch.json").write_bytes(b'{"a": "\xff\xfe"}')
        assert "is not UTF-8 text (byte 7)" in place.fault()

    def test_a_file_that_cannot_be_read(self, place: Place) -> None:
        (place.folder / "credentials.json").mkdir()
        assert "credentials.json cannot be read: Is a directory" in place.fault()

    def test_a_dangling_link_is_not_passed_over(self, place: Place) -> None:
        (place.folder / "credentials.json").symlink_to(place.home / "gone.json")
        assert "credentials.json cannot be read: No such file or directory" in place.fault()

    def test_every_fault_is_named_at_once(self, place: Place) -> None:
        place.write("credentials.json", NEW_FORM | {"BATCH_ACCOUNT_NAME": 7})
        place.write("batch.json", {"BATCH_NODE_COUNT": "many", "BATCH_VM_SIZE": ["a"], "BATCH_SLOTS_PER_NODE": 300})
        fault = place.fault({"colour": "red"}, AZBATCHWRAP_NODE_COUNT="-1")
        assert "6 faults" in fault
        for expected in (
            "BATCH_ACCOUNT_NAME",
            "must be text, not a number",
            "must be a whole number, not 'many'",
            "must be text, not a list",
            "must lie between 1 and 256, not 300",
            "AZBATCHWRAP_NODE_COUNT (environment) must lie between 0 and 100000, not -1",
            "there is no setting 'colour'",
        ):
            assert expected in fault

    @pytest.mark.parametrize("value", [True, 1.5, "1.5", [], {"a": 1}])
    def test_what_is_no_whole_number(self, place: Place, value: object) -> None:
        place.write("batch.json", {"BATCH_NODE_COUNT": value})
        assert "BATCH_NODE_COUNT" in place.fault()

    def test_the_template_s_placeholders_are_named(self, place: Place) -> None:
        template = {
            "BATCH_ACCOUNT_NAME": "batch account name",
            "BATCH_ACCOUNT_KEY": "batch key here",
            "BATCH_ACCOUNT_URL": "https://<account name>.<eastus>.batch.azure.com",
            "STORAGE_ACCOUNT_NAME": "name here",
            "STORAGE_ACCOUNT_KEY": "key here",
        }
        place.write("credentials.json", template)
        fault = place.fault()
        assert all(name in fault for name in template)
        assert "placeholder" in fault

    @pytest.mark.parametrize(
        ("without", "missing"),
        [
            ("BATCH_ACCOUNT_NAME", "BATCH_ACCOUNT_NAME"),
            ("BATCH_ACCOUNT_URL", "BATCH_ACCOUNT_URL"),
            ("STORAGE_ACCOUNT_NAME", "STORAGE_ACCOUNT_NAME"),
        ],
    )
    def test_half_a_pair(self, place: Place, without: str, missing: str) -> None:
        place.write("credentials.json", {name: value for name, value in OLD_FORM.items() if name != without})
        assert missing in place.fault()

    def test_storage_alone_is_half_a_configuration(self, place: Place) -> None:
        fault = place.fault(AZURE_STORAGE_CONNECTION_STRING=CONNECTION)
        assert "environment: AZURE_STORAGE_CONNECTION_STRING is given" in fault
        assert "or nothing to work on this machine" in fault

    def test_a_batch_account_alone_is_half_a_configuration(self, place: Place) -> None:
        assert "no storage account" in place.fault(AZURE_BATCH_ACCOUNT="work", AZURE_BATCH_ENDPOINT=URL)

    @pytest.mark.parametrize("connection", [LOOPBACK_CONNECTION, "UseDevelopmentStorage=true"])
    def test_azure_batch_with_storage_on_this_machine(self, place: Place, connection: str) -> None:
        place.write("credentials.json", NEW_FORM | {"STORAGE_CONNECTION_STRING": connection})
        fault = place.fault()
        assert URL in fault
        assert "127.0.0.1:10000" in fault

    def test_batch_on_this_machine_with_storage_in_azure_is_allowed_and_said(self, place: Place) -> None:
        place.write("credentials.json", NEW_FORM | {"BATCH_ACCOUNT_URL": "http://localhost:1234"})
        settings = place.load()
        assert settings.is_local
        assert "https://files.blob.core.windows.net" in settings.warnings[0]

    def test_batch_on_this_machine_needs_its_key(self, place: Place) -> None:
        place.write("credentials.json", NEW_FORM | {"BATCH_ACCOUNT_URL": "http://[::1]:1", "BATCH_ACCOUNT_KEY": None})
        assert "give its key too" in place.fault()

    @pytest.mark.parametrize(
        ("url", "expected"),
        [
            ("ftp://work", "is not an address"),
            ("http://work.eu.batch.azure.com", "is http to another machine: use https"),
            ("https://me:secret@work.eu.batch.azure.com", "must be a plain address"),
            ("https://", "is not an address"),
            ("https://[::1", "is not an address"),
            ("https://work:port", "is not an address"),
        ],
    )
    def test_addresses(self, place: Place, url: str, expected: str) -> None:
        place.write("credentials.json", NEW_FORM | {"BATCH_ACCOUNT_URL": url})
        fault = place.fault()
        assert expected in fault
        assert "secret" not in fault

    @pytest.mark.parametrize("name", ["BATCH_ACCOUNT_KEY", "STORAGE_ACCOUNT_KEY"])
    def test_a_key_cut_off_when_copied_is_found_and_not_shown(self, place: Place, name: str) -> None:
        place.write("credentials.json", OLD_FORM | {name: "c2VjcmV0LXRleHQ"})
        fault = place.fault()
        assert "is not base64" in fault
        assert "c2VjcmV0" not in fault

    @pytest.mark.parametrize(
        ("connection", "expected"),
        [
            ("nonsense", "AccountName and AccountKey missing"),
            ("AccountName=a", "AccountKey missing"),
            ("AccountName=a;AccountKey=%%%", "not base64"),
            ("AccountName=a;AccountKey=aaaa;BlobEndpoint=https://[", "is not an address"),
            ("BlobEndpoint=https://a.blob.core.windows.net;SharedAccessSignature=sv=1", "shared access signature"),
        ],
    )
    def test_connection_strings(self, place: Place, connection: str, expected: str) -> None:
        place.write("credentials.json", NEW_FORM | {"STORAGE_CONNECTION_STRING": connection})
        assert expected in place.fault()

    @pytest.mark.parametrize(
        ("url", "expected"),
        [
            ("host:6379", "is not an address"),
            ("http://:secret@host", "is not an address"),
            ("redis://:secret@127.0.0.1:6379/0", "no Azure node can reach it"),
        ],
    )
    def test_redis_servers(self, place: Place, url: str, expected: str) -> None:
        place.write("credentials.json", NEW_FORM | {"REDIS_URL": url})
        fault = place.fault()
        assert expected in fault
        assert "secret" not in fault

    def test_a_redis_server_is_masked(self, place: Place) -> None:
        place.write("credentials.json", NEW_FORM)
        settings = place.load(AZBATCHWRAP_REDIS_URL="rediss://:secret@cache.example.com:6380/0")
        assert settings.redis == config.Secret("rediss://:secret@cache.example.com:6380/0")
        assert "secret" not in repr(settings)

    def test_a_project_name_becomes_part_of_ids(self, place: Place) -> None:
        place.write("credentials.json", NEW_FORM)
        assert "environment: AZBATCHWRAP_PROJECT" in place.fault(AZBATCHWRAP_PROJECT="a/b")

    @given(text=st.text(max_size=60))
    def test_no_text_makes_the_connection_string_parser_fail_otherwise(self, text: str) -> None:
        try:
            account = config.parse_storage(text)
        except ConfigurationError:
            return
        assert account.name
        assert account.blob_url


class TestWarnings:
    def test_unknown_keys_are_ignored_with_the_nearest_name(self, place: Place) -> None:
        place.write("credentials.json", NEW_FORM)
        place.write("batch.json", {"BATCH_NODECOUNT": 3, "BATCH_ACCOUNT_KEY": BATCH_KEY, "BATCH_ENGINE_NAME": "x.py"})
        settings = place.load()
        assert settings.pool.node_count == 1
        assert len(settings.warnings) == 2
        assert "Did you mean BATCH_NODE_COUNT?" in settings.warnings[0]
        assert "belongs in credentials.json" in settings.warnings[1]

    def test_the_retired_defaults_of_old_files_get_a_named_substitute(self, place: Place) -> None:
        place.write("credentials.json", NEW_FORM)
        place.write(
            "batch.json",
            {
                "BATCH_NODE_COUNT": 1,
                "BATCH_VM_SIZE": "BASIC_A1",
                "BATCH_OS_PUBLISHER": "OpenLogic",
                "BATCH_OS_TYPE": "CentOS",
                "BATCH_OS_VERSION": "7.7",
                "BATCH_ENGINE_NAME": "azbatchengine.py",
                "BATCH_DEBUG_MODE": "true",
            },
        )
        settings = place.load()
        assert settings.pool == config.PoolSettings()
        image, size = settings.warnings
        assert "OpenLogic CentOS 7.7" in image
        assert "canonical ubuntu-24_04-lts server takes its place" in image
        assert "BASIC_A1" in size
        assert "standard_d2s_v3 takes its place" in size

    @pytest.mark.parametrize("size", ["standard_d2s_v3", "Standard_A2_v2", "standard_nc24ads_a100_v4", "standard_f4"])
    def test_sizes_that_exist_are_kept(self, place: Place, size: str) -> None:
        place.write("credentials.json", NEW_FORM)
        settings = place.load(AZBATCHWRAP_VM_SIZE=size)
        assert settings.pool.vm_size == size
        assert settings.warnings == ()

    @pytest.mark.parametrize("size", ["Standard_A1", "standard_a9", "BASIC_A4", "Standard_NC6", "standard_nv24"])
    def test_sizes_that_are_gone_are_replaced(self, place: Place, size: str) -> None:
        place.write("credentials.json", NEW_FORM)
        assert place.load(AZBATCHWRAP_VM_SIZE=size).pool.vm_size == "standard_d2s_v3"


class TestSecrets:
    def test_settings_show_no_key_anywhere(self, place: Place) -> None:
        place.write("credentials.json", OLD_FORM)
        settings = place.load()
        shown = [
            repr(settings),
            str(settings),
            f"{settings.batch.key}",
            f"{settings.batch.key!r:>30}",
            str(settings.sources),
        ]
        shown += [str(dataclasses.asdict(settings)), repr(copy.deepcopy(settings))]
        for text in shown:
            assert BATCH_KEY not in text
            assert STORAGE_KEY not in text
        assert "***" in shown[0]

    def test_they_do_not_travel(self, place: Place) -> None:
        place.write("credentials.json", OLD_FORM)
        settings = place.load()
        with pytest.raises(TypeError, match="a secret cannot be pickled"):
            pickle.dumps(settings)
        with pytest.raises(TypeError):
            json.dumps(settings.batch.key)

    def test_equal_text_is_an_equal_secret(self) -> None:
        assert Secret("a") == Secret("a")
        assert Secret("a") != Secret("b")
        assert len({Secret("a"), Secret("a")}) == 1


class TestThisMachine:
    def write_endpoint(self, place: Place, port: int, **changes: Any) -> None:
        place.data.mkdir(exist_ok=True)
        connection = LOOPBACK_CONNECTION.replace("10000", str(port))
        content = {
            "version": 1,
            "batch": {"account": "localbatch", "key": BATCH_KEY, "url": f"http://127.0.0.1:{port}", "pid": 1},
            "storage": {"account": "devstoreaccount1", "key": STORAGE_KEY, "connection_string": connection},
        }
        place.write("endpoint.json", content | changes, place.data)

    def test_with_nothing_configured_the_running_instance_is_used_and_said(
        self, place: Place, answering_port: int
    ) -> None:
        self.write_endpoint(place, answering_port)
        settings = place.load()
        assert settings.is_local
        assert settings.batch == BatchAccount("localbatch", f"http://127.0.0.1:{answering_port}", Secret(BATCH_KEY))
        assert f":{answering_port}/devstoreaccount1" in connection_string(settings)
        assert settings.sources["batch_key"] == f"instance on this machine: {place.data / 'endpoint.json'}"
        [said] = settings.warnings
        assert said == (
            "no Azure account is configured: using Azure Batch on this machine "
            f"(http://127.0.0.1:{answering_port}, data in {place.data})"
        )

    def test_batch_json_holds_there_too(self, place: Place, answering_port: int) -> None:
        self.write_endpoint(place, answering_port)
        place.write("batch.json", {"BATCH_NODE_COUNT": 5})
        assert place.load().pool.node_count == 5

    def test_with_nothing_running_the_way_out_is_named(self, place: Place) -> None:
        fault = place.fault()
        assert "azbatchwrap local up" in fault
        assert "credentials.json" in fault
        assert not place.data.exists()

    def test_an_instance_that_died_is_not_taken_for_running(self, place: Place) -> None:
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
        self.write_endpoint(place, port)
        assert "no instance runs" in place.fault()

    def test_a_broken_endpoint_file_is_a_clear_fault(self, place: Place, answering_port: int) -> None:
        self.write_endpoint(place, answering_port, batch={"account": "a"})
        fault = place.fault()
        assert str(place.data / "endpoint.json") in fault
        assert "azbatchwrap local up" in fault

    def test_an_instance_that_cannot_start_says_why(self, place: Place) -> None:
        place.data.mkdir()
        (place.data / "instance.json").write_text("{broken")
        with pytest.raises(
            ConfigurationError, match=r"exit code 2(.|\n)*instance.json is not valid JSON: line 1, column 2"
        ):
            config.start_local(place.data)

    def test_the_data_folder(self, place: Place) -> None:
        assert config.data_folder({"AZBATCHWRAP_HOME": "/somewhere/else"}) == Path("/somewhere/else")
        assert config.data_folder({}).name == "azbatchwrap"

    def test_reading_configuration_imports_no_sdk(self, place: Place) -> None:
        place.write("credentials.json", NEW_FORM)
        import subprocess

        code = "import sys; from azbatchwrap import config; config.load(); print([n for n in sys.modules if 'azure.' in n])"
        said = subprocess.run(
            [sys.executable, "-c", code], cwd=place.folder, capture_output=True, text=True, check=True, timeout=60
        )
        assert said.stdout.strip() == "[]"
