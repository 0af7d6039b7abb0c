"""The management plane as a part of an instance: on only when asked for, and kept."""

from __future__ import annotations

import json
import os
from dataclasses import replace
from pathlib import Path

import pytest
import requests

from azbatchwrap.config import Secret
from azbatchwrap.errors import ConfigurationError
from azbatchwrap.local.instance import Instance
from azbatchwrap.local.stack import Options, Stack
from tests.fixtures_aml import AdminRoutes, AmlStack
from tests.fixtures_stack import LocalStack, RunningAzurite, clean_environment, ended_stack, run_cli


def test_it_is_off_unless_asked_for(local_stack: LocalStack) -> None:
    assert [part.name for part in Stack(local_stack.folder).status().parts] == ["batch", "storage"]
    variables = json.loads(local_stack.run("local", "env", "--format", "json").stdout)
    assert "ARM_CLOUD_METADATA_URL" not in variables
    assert not (local_stack.folder / "tls").exists()


def test_what_the_environment_says(aml_stack: AmlStack) -> None:
    variables = json.loads(aml_stack.run("local", "env", "--format", "json").stdout)
    assert variables["ARM_CLOUD_METADATA_URL"] == f"{aml_stack.url}/metadata/endpoints?api-version=2019-05-01"
    assert variables["AZURE_AUTHORITY_HOST"] == aml_stack.url
    assert variables["AZURE_TENANT_ID"] == "adfs"
    assert {name: aml_stack.environment[name] for name in variables} == variables
    bundle = Path(variables["REQUESTS_CA_BUNDLE"]).read_text()
    assert bundle.endswith((aml_stack.folder / "tls" / "ca.pem").read_text())


def test_the_bundle_is_that_of_the_shell_that_asks(aml_stack: AmlStack, tmp_path: Path) -> None:
    (tmp_path / "company.pem").write_text("# the company's authority\n")
    bundle = Path(aml_stack.bundle)
    before = bundle.read_text()
    aml_stack.run("local", "env", REQUESTS_CA_BUNDLE=str(tmp_path / "company.pem"))
    assert bundle.read_text().startswith("# the company's authority")
    aml_stack.run("local", "env", REQUESTS_CA_BUNDLE=os.environ.get("REQUESTS_CA_BUNDLE", ""))
    assert bundle.read_text() == before


def test_it_shows_in_the_status(aml_stack: AmlStack) -> None:
    facts = json.loads(aml_stack.run("local", "status", "--json").stdout)
    assert (facts["aml"]["state"], facts["aml"]["url"]) == ("up", aml_stack.url)
    assert "aml      up" in aml_stack.run("local", "status").stdout
    assert "Started server process" in aml_stack.run("local", "logs", "--service", "aml").stdout


def test_secrets_are_the_owners_alone(aml_stack: AmlStack) -> None:
    for name in ("instance.json", "endpoint.json", "arm/service.json", "tls/server.key"):
        assert (aml_stack.folder / name).stat().st_mode & 0o077 == 0
    assert (aml_stack.folder / "arm").stat().st_mode & 0o077 == 0


def test_a_life(tmp_path: Path, azurite: RunningAzurite) -> None:
    """On with a fault, emptied, down, and up again without a word about it; then off."""
    folder = tmp_path / "data"
    environment = clean_environment(folder)
    fault = '{"kind": "forbidden", "path": "resourcegroups", "methods": "*"}'
    words = ("up", "--aml", "--json", "--aml-fault", fault, "--storage", azurite.connection_string)
    with ended_stack(folder):
        up = run_cli("local", *words, folder=tmp_path, environment=environment)
        assert up.returncode == 0, up.stderr
        stack = Stack(folder)
        first = stack.endpoint()["aml"]
        admin = AdminRoutes(first["url"], first["client_secret"], first["ca_bundle"])
        assert [each["kind"] for each in admin.faults()] == ["forbidden"]
        with pytest.raises(ConfigurationError, match="--aml cannot change"):
            stack.up(Options(aml=False))
        with pytest.raises(ConfigurationError, match="--aml-fault cannot change"):
            stack.up(Options(aml=True, aml_faults=({"kind": "forbidden"},)))
        authority = (folder / "tls" / "ca.pem").read_bytes()
        assert [part.state for part in stack.reset().parts] == ["up", "up", "up"]
        assert admin.faults() == []
        assert stack.endpoint()["aml"] | {"pid": 0} == first | {"pid": 0}
        assert (folder / "tls" / "ca.pem").read_bytes() == authority
        stack.down()
        kept = Instance.read(folder / "instance.json")
        assert kept is not None
        assert kept.aml is not None
        assert kept.aml.is_on
        assert [part.name for part in stack.up(Options(aml=False)).parts] == ["batch", "storage"]
        assert "aml" not in stack.endpoint()
        off = Instance.read(folder / "instance.json")
        assert off is not None
        assert off.aml == replace(kept.aml, is_on=False)


@pytest.mark.parametrize("fault", ["nonsense", "[]", '{"kind": "earthquake", "path": ""}'])
def test_a_fault_that_makes_no_sense(tmp_path: Path, fault: str) -> None:
    said = run_cli(
        "local", "up", "--aml", "--aml-fault", fault, folder=tmp_path, environment=clean_environment(tmp_path / "data")
    )
    assert said.returncode == 2
    assert "is not a fault" in said.stderr
    assert not (tmp_path / "data" / "instance.json").exists()


def test_a_port_that_is_taken(tmp_path: Path, azurite: RunningAzurite) -> None:
    stack = Stack(tmp_path / "data")
    with pytest.raises(ConfigurationError, match=r"of the management service is used .* --aml-port"):
        stack.up(Options(aml=True, aml_port=azurite.process.blob_port))


def test_turned_on_later_the_batch_service_answers_on_tls_too(tmp_path: Path, azurite: RunningAzurite) -> None:
    folder = tmp_path / "data"
    with ended_stack(folder):
        stack = Stack(folder)
        stack.up(Options(storage=Secret(azurite.connection_string), chaos={"counts_lag": 5}))
        first = stack.endpoint()["batch"]
        assert "tls_url" not in first
        stack.up(Options(aml=True))
        second = stack.endpoint()["batch"]
        assert second["pid"] != first["pid"]
        assert (second["url"], second["key"]) == (first["url"], first["key"])
        answer = requests.get(second["tls_url"], verify=str(folder / "tls" / "ca.pem"), timeout=30)
        assert answer.status_code == 403
        assert stack.chaos()["counts_lag"] == 5
        stack.up(Options(chaos={"counts_lag": 0}))
        assert stack.endpoint()["batch"]["pid"] == second["pid"]
        assert stack.chaos()["counts_lag"] == 0
