"""The chart and the kind example, rendered by the few rules of Helm that they use, and held to the API's schemas."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import click
import pytest
import yaml

from azbatchwrap.cli.processor import run

DEPLOY = Path(__file__).parents[2] / "deploy" / "processor"
VALUES: dict[str, Any] = yaml.safe_load((DEPLOY / "chart" / "values.yaml").read_text())
SCHEMA: dict[str, Any] = json.loads((DEPLOY / "chart" / "values.schema.json").read_text())


def look_up(path: str, context: dict[str, Any]) -> Any:
    found: Any = context
    for part in path.strip(".").split("."):
        found = found[part]
    return found


def render(text: str, context: dict[str, Any]) -> str:
    """if/else/end and range/end on lines of their own, values, ``quote``, and ``toYaml … | nindent N``."""
    lines: list[str] = []
    stack: list[bool] = []
    rows = iter(text.splitlines())
    for row in rows:
        word = re.match(r"\s*\{\{-? (if|else|end|range)(?: (\S+))? \}\}", row)
        if word is None:
            if all(stack):
                lines.append(re.sub(r"\{\{-? (.+?) \}\}", lambda found: value_of(found[1], context), row))
        elif word[1] == "if":
            stack.append(bool(look_up(word[2], context)))
        elif word[1] == "else":
            stack[-1] = not stack[-1]
        elif word[1] == "end":
            stack.pop()
        else:
            body = []
            while not re.match(r"\s*\{\{-? end", line := next(rows)):
                body.append(line)
            lines += [
                line.replace("{{ . | quote }}", json.dumps(one)) for one in look_up(word[2], context) for line in body
            ]
    return "\n".join(lines)


def value_of(expression: str, context: dict[str, Any]) -> str:
    block = re.match(r"toYaml (\S+) \| nindent (\d+)", expression)
    if block is None:
        return str(look_up(expression, context))
    indented = yaml.safe_dump(look_up(block[1], context)).strip().replace("\n", "\n" + " " * int(block[2]))
    return "\n" + " " * int(block[2]) + indented


def changed_values(**changed: Any) -> dict[str, Any]:
    values: dict[str, Any] = json.loads(json.dumps(VALUES))
    for path, value in changed.items():
        *parents, last = path.split("__")
        place = values
        for parent in parents:
            place = place[parent]
        place[last] = value
    return values


def documents(**changed: Any) -> list[dict[str, Any]]:
    context = {"Values": changed_values(**changed), "Release": {"Name": "dev"}}
    texts = [render(path.read_text(), context) for path in sorted((DEPLOY / "chart" / "templates").glob("*.yaml"))]
    return [one for text in texts for one in yaml.safe_load_all(text) if one]


CASES: list[dict[str, Any]] = [
    {},
    {"redis__enabled": True},
    {"queue__url": "redis://redis:6379/0?queue=batch", "extraArgs": ["--gate", "token-bucket:rate=50"], "replicas": 3},
    {
        "inferenceObjective": "food: review # 1",
        "secretName": "tokens",
        "extraArgs": ["--token-command", "cat /secrets/t"],
    },
]


@pytest.mark.parametrize("changed", CASES)
def test_the_charts_command_is_one_that_the_processor_takes(changed: dict[str, Any]) -> None:
    [deployment] = [one for one in documents(**changed) if one["kind"] == "Deployment"]
    [container] = deployment["spec"]["template"]["spec"]["containers"]
    verb, *words = [str(one) for one in container["args"]]
    assert verb == "run"
    given = run.make_context("run", words, resilient_parsing=False).params
    assert given["endpoints"] == (VALUES["endpoint"],)
    assert given["port"] == container["ports"][0]["containerPort"]
    assert bool(given["urls"]) != bool(given["implementation"])
    spec = deployment["spec"]["template"]["spec"]
    assert spec["terminationGracePeriodSeconds"] > given["drain_timeout"]


@pytest.mark.parametrize("changed", CASES)
def test_everything_fits_the_schemas(changed: dict[str, Any]) -> None:
    validate = pytest.importorskip("kubernetes_validate")
    kind = yaml.safe_load_all((DEPLOY / "kind" / "inference.yaml").read_text())
    for one in [*documents(**changed), *kind]:
        validate.validate(one, "1.30", strict=True)


@pytest.mark.parametrize("changed", CASES)
def test_values_fit_their_schema(changed: dict[str, Any]) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    jsonschema.Draft7Validator.check_schema(SCHEMA)
    jsonschema.validate(changed_values(**changed), SCHEMA)


@pytest.mark.parametrize(
    "changed",
    [
        {"replicas": "three"}, {"concurrency": 0}, {"requestMergePolicy": "best"}, {"endpoint": "inference:8000"},
        {"endpoint": "http://user:password@inference"}, {"queue__url": "sqlite:///q"}, {"redis__enable": True},
        {"image__tag": ""}, {"extraArgs": "--gate"},
    ],
)  # fmt: skip
def test_the_schema_refuses_mistakes(changed: dict[str, Any]) -> None:
    jsonschema = pytest.importorskip("jsonschema")
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(changed_values(**changed), SCHEMA)


def paths(values: dict[str, Any], above: str = ".Values") -> set[str]:
    """Of all values that are no groups of others; resources are one."""
    found: set[str] = set()
    for name, value in values.items():
        path = f"{above}.{name}"
        found |= paths(value, path) if isinstance(value, dict) and name != "resources" else {path}
    return found


def test_every_value_is_used_and_every_used_one_is_there() -> None:
    templates = "".join(path.read_text() for path in (DEPLOY / "chart" / "templates").iterdir())
    assert set(re.findall(r"\.Values[.\w]+", templates)) == paths(VALUES)


def test_services_lead_to_pods() -> None:
    found = documents(redis__enabled=True)
    pods = [
        one["spec"]["template"]["metadata"]["labels"] for one in found if one["kind"] in {"Deployment", "StatefulSet"}
    ]
    for service in (one for one in found if one["kind"] == "Service"):
        assert any(service["spec"]["selector"].items() <= labels.items() for labels in pods)


def test_the_seeds_words_find_redis() -> None:
    """The seed looks for pods with app=redis, and runs redis-cli in them."""
    [redis] = [one for one in documents(redis__enabled=True) if one["kind"] == "StatefulSet"]
    assert redis["spec"]["template"]["metadata"]["labels"]["app"] == "redis"
    assert "BATCH_REDIS_ENABLED" in (DEPLOY / "kind" / "up.sh").read_text()


def test_every_flag_has_a_help_text_or_a_telling_name() -> None:
    silent = [one.name for one in run.params if isinstance(one, click.Option) and not one.help]
    assert set(silent) <= {"redis_url", "retry_base", "retry_cap"}
