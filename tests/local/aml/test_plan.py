"""What becomes of a job's definition, and of the references in its command."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest

from azbatchwrap.local.aml.plan import Given, PlanError, Wanted, command, fill, pipeline, read_input

COMMAND = {
    "type": "command",
    "command": "run",
    "inputs": {"data": {"type": "uri_folder"}, "n": {"type": "integer", "default": 3}},
    "outputs": {"out": {"type": "uri_folder"}},
}


def lookup(reference: str) -> Mapping[str, Any]:
    if reference != "command":
        raise PlanError(f"no component {reference}")
    return COMMAND


def node(**inputs: object) -> dict[str, Any]:
    return {"componentId": "command", "inputs": inputs}


def planned(**jobs: Any) -> list[str]:
    return [step.name for step in pipeline(jobs, {"data": Given("here", True)}, {}, None, lookup)]


PARENT = {"value": "${{parent.inputs.data}}"}


def of(job: str) -> dict[str, str]:
    return {"value": f"${{{{parent.jobs.{job}.outputs.out}}}}"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a ${{inputs.x}} ${{ outputs.y }}", "a 1 /out"),
        ("a $[[--x ${{inputs.x}}]] b", "a --x 1 b"),
        ("a $[[--z ${{inputs.z}}]] b", "a  b"),
        ("a $[[--z ${{inputs.z}} ${{inputs.x}}]]", "a "),
        ("echo $HOME ${x} $(date)", "echo $HOME ${x} $(date)"),
    ],
)
def test_references_are_filled(text: str, expected: str) -> None:
    assert fill(text, {"inputs.x": "1", "outputs.y": "/out"}) == expected


def test_a_reference_to_nothing() -> None:
    with pytest.raises(PlanError, match=r"refers to inputs\.z"):
        fill("a ${{inputs.z}}", {})


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ("plain", Given("plain")),
        ({"jobInputType": "literal", "value": 5}, Given("5")),
        ({"job_input_type": "uri_folder", "uri": "x"}, Given("x", True)),
        ({"jobInputType": "UriFile", "uri": "x", "mode": "Direct"}, Given("x", True, None, "Direct")),
    ],
)
def test_inputs_in_every_spelling(given: object, expected: Given) -> None:
    assert read_input("x", given) == expected


def test_steps_come_after_those_they_need() -> None:
    assert planned(c=node(data=of("b")), b=node(data=of("a")), a=node(data=PARENT)) == ["a", "b", "c"]


def test_defaults_are_taken_and_outputs_bound() -> None:
    jobs = {"a": node(data=PARENT) | {"outputs": {"out": {"value": "${{parent.outputs.final}}"}}}}
    wanted = {"final": Wanted(address="azureml://datastores/d/paths/p", parent_output="final")}
    (step,) = pipeline(jobs, {"data": Given("here", True)}, wanted, "cpu", lookup)
    assert step.inputs == {"data": Given("here", True), "n": Given("3")}
    assert step.outputs["out"] == wanted["final"]
    assert step.compute == "cpu"


@pytest.mark.parametrize(
    ("jobs", "words"),
    [
        ({"a": node(data=of("b")), "b": node(data=of("a"))}, "need each other"),
        ({"a": node(data=of("absent"))}, "needs absent, which does not exist"),
        ({"a": node()}, "the input data is missing"),
        ({"a": node(data=PARENT, colour="red")}, "unknown inputs: colour"),
        ({"a": {"componentId": "other"}}, "no component other"),
        ({"a": {"type": "sweep"}}, "of type sweep"),
        ({"a": node(data={"value": "${{parent.jobs.b}}"}), "b": node(data=PARENT)}, "is no output of a job"),
    ],
)
def test_pipelines_that_cannot_run(jobs: dict[str, Any], words: str) -> None:
    with pytest.raises(PlanError, match=words):
        planned(**jobs)


@pytest.mark.parametrize("name", ["../../etc", "a/b", "", "a b", "1st"])
def test_names_that_would_lead_astray(name: str) -> None:
    with pytest.raises(PlanError, match="is not a valid name"):
        command({"command": "true", "outputs": {name: {"jobOutputType": "uri_folder"}}})
