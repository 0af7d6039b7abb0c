"""A job's definition -> the steps that run: pure. Pipelines in pipelines become steps with longer names."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeAlias

#: ``${{inputs.name}}`` and the like, and ``$[[ … ]]``: what is left out when an optional input within is not given.
_REFERENCE = re.compile(r"\$\{\{\s*([\w.]+)\s*\}\}")
_OPTIONAL = re.compile(r"\$\[\[(.*?)\]\]", re.DOTALL)
_PARENT = re.compile(r"\$\{\{\s*parent\.(inputs|outputs|jobs)\.([\w.]+)\s*\}\}\Z")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,254}\Z")
#: Types of inputs and outputs that are files; all others are values.
FILES = {"urifile", "urifolder", "mltable", "mlflowmodel", "custommodel", "tritonmodel"}


class PlanError(Exception):
    """The job cannot run as it is defined: a sentence for who sent it."""


@dataclass(frozen=True, slots=True)
class Given:
    """Where an input comes from: a ``text`` (a value, or the address of files), or the output of another step."""

    text: str = ""
    is_file: bool = False
    #: (step, output).
    step_output: tuple[str, str] | None = None
    mode: str = ""


@dataclass(frozen=True, slots=True)
class Wanted:
    """An output: whether it is one file, and where it goes (``None``: where the workspace keeps results)."""

    is_file: bool = False
    address: str | None = None
    #: The job's own output that this is, if it is one.
    parent_output: str | None = None


@dataclass(frozen=True, slots=True)
class Step:
    """One command to run."""

    name: str
    command: str
    code: str | None
    environment: str | None
    inputs: Mapping[str, Given]
    outputs: Mapping[str, Wanted]
    variables: Mapping[str, str]
    compute: str | None

    def __post_init__(self) -> None:
        for name in (*self.inputs, *self.outputs):
            if not _NAME.match(name):  # folders are called so
                raise PlanError(f"{name!r} is not a valid name of an input or output")

    @property
    def needs(self) -> set[str]:
        """The steps before it."""
        return {given.step_output[0] for given in self.inputs.values() if given.step_output is not None}


Specification: TypeAlias = "Mapping[str, Any]"
#: What a component id stands for (its ``componentSpec``). Raises PlanError.
Lookup: TypeAlias = "Callable[[str], Specification]"


@dataclass(slots=True)
class _Level:
    """One pipeline: what its inputs are, and where its outputs go."""

    prefix: str
    inputs: Mapping[str, Given]
    outputs: Mapping[str, Wanted]
    compute: str | None
    #: Outputs of inner pipelines: (step, output) as the level above writes it -> the step that makes it.
    made: dict[tuple[str, str], tuple[str, str]] = field(default_factory=dict)


def pipeline(
    jobs: Mapping[str, Any],
    inputs: Mapping[str, Given],
    outputs: Mapping[str, Wanted],
    compute: str | None,
    lookup: Lookup,
) -> list[Step]:
    """The steps of a pipeline, each after those it needs. Raises PlanError."""
    steps: list[Step] = []
    _expand(jobs, _Level("", inputs, outputs, compute), lookup, steps)
    names = {step.name for step in steps}
    for step in steps:
        missing = step.needs - names
        if missing:
            raise PlanError(f"the job {step.name} needs {', '.join(sorted(missing))}, which does not exist")
    return steps


def command(properties: Mapping[str, Any]) -> Step:
    """The one step of a command job (its wire properties)."""
    inputs = {name: read_input(name, given) for name, given in (properties.get("inputs") or {}).items()}
    outputs = {name: read_output(given) for name, given in (properties.get("outputs") or {}).items()}
    return Step(
        name="command",
        command=properties["command"],
        code=properties.get("codeId"),
        environment=properties.get("environmentId"),
        inputs=inputs,
        outputs={name: Wanted(wanted.is_file, wanted.address, name) for name, wanted in outputs.items()},
        variables=properties.get("environmentVariables") or {},
        compute=properties.get("computeId"),
    )


def read_input(name: str, given: Any) -> Given:
    """One input as jobs and invocations write it (``jobInputType`` or ``job_input_type``). Raises PlanError."""
    if not isinstance(given, Mapping):
        return Given(str(given))
    kind = _kind(given, "input")
    mode = str(given.get("mode") or "")
    if kind in FILES:
        address = given.get("uri") or given.get("path")
        if not address:
            raise PlanError(f"the input {name} names no files (uri)")
        return Given(str(address), True, None, mode)
    if given.get("value") is None:
        raise PlanError(f"the input {name} has no value")
    return Given(_text(given["value"]))


def read_output(given: Any) -> Wanted:
    given = given or {}
    return Wanted(_kind(given, "output") == "urifile", given.get("uri") or given.get("path"))


def defaulted(declared: Mapping[str, Any], given: Mapping[str, Given]) -> dict[str, Given]:
    """What is given, and the declared defaults. Raises PlanError for what is unknown, and for what is missing."""
    unknown = sorted(set(given) - set(declared))
    if unknown:
        raise PlanError(f"unknown inputs: {', '.join(unknown)} (there are: {', '.join(sorted(declared)) or 'none'})")
    found = dict(given)
    for name, declaration in declared.items():
        if name in found:
            continue
        if declaration.get("default") is not None:
            found[name] = Given(_text(declaration["default"]), _simple(declaration.get("type")) in FILES)
        elif not declaration.get("optional"):
            raise PlanError(f"the input {name} is missing")
    return found


def fill(command_line: str, values: Mapping[str, str]) -> str:
    """``values`` (``inputs.data`` -> text) put in place of the references to them. Raises PlanError."""

    def optional(match: re.Match[str]) -> str:
        references = _REFERENCE.findall(match.group(1))
        return match.group(1) if all(name in values for name in references) else ""

    def value(match: re.Match[str]) -> str:
        if match.group(1) not in values:
            raise PlanError(f"the command refers to {match.group(1)}, which is not given")
        return values[match.group(1)]

    return _REFERENCE.sub(value, _OPTIONAL.sub(optional, command_line))


def _expand(jobs: Mapping[str, Any], level: _Level, lookup: Lookup, steps: list[Step]) -> None:
    waiting = dict(jobs)
    while waiting:
        ready = [name for name, node in waiting.items() if not _needed(node) & set(waiting)]
        if not ready:
            raise PlanError(f"the jobs {', '.join(sorted(waiting))} need each other")
        for name in ready:
            _expand_one(name, waiting.pop(name), level, lookup, steps)


def _needed(node: Mapping[str, Any]) -> set[str]:
    found = set()
    for given in (node.get("inputs") or {}).values():
        match = _PARENT.match(_reference(given))
        if match and match.group(1) == "jobs":
            found.add(match.group(2).split(".")[0])
    return found


def _expand_one(name: str, node: Mapping[str, Any], level: _Level, lookup: Lookup, steps: list[Step]) -> None:
    reference = node.get("componentId") or node.get("component")
    specification = lookup(str(reference)) if reference else node
    kind = specification.get("type") or node.get("type")
    full = f"{level.prefix}{name}"
    inputs = _bind_inputs(full, node, specification, level)
    given = node.get("outputs") or {}
    declared = specification.get("outputs") or {}
    outputs = {key: _bind_output(given.get(key), declaration, level) for key, declaration in declared.items()}
    compute = node.get("computeId") or node.get("compute") or level.compute
    if kind == "pipeline":
        inner = _Level(f"{full}.", inputs, outputs, compute)
        _expand(specification.get("jobs") or {}, inner, lookup, steps)
        level.made.update({(full, key): source for key, source in _makers(inner, specification, full).items()})
        return
    if kind != "command":
        raise PlanError(f"the job {full} is of type {kind}; this service runs command and pipeline components")
    own = node.get("environment_variables") or node.get("environmentVariables") or {}
    variables = {**(specification.get("environment_variables") or {}), **own}
    code, environment = specification.get("code"), specification.get("environment")
    steps.append(Step(full, str(specification["command"]), code, environment, inputs, outputs, variables, compute))


def _bind_inputs(full: str, node: Mapping[str, Any], specification: Specification, level: _Level) -> dict[str, Given]:
    bound = {key: _bind(full, key, given, level) for key, given in (node.get("inputs") or {}).items()}
    try:
        given = {key: found for key, found in bound.items() if found is not None}
        return defaulted(specification.get("inputs") or {}, given)
    except PlanError as error:
        raise PlanError(f"the job {full}: {error}") from None


def _makers(inner: _Level, specification: Specification, full: str) -> dict[str, tuple[str, str]]:
    """Which inner step makes each output of an inner pipeline."""
    found: dict[str, tuple[str, str]] = {}
    for name, node in (specification.get("jobs") or {}).items():
        for output, given in (node.get("outputs") or {}).items():
            match = _PARENT.match(_reference(given))
            if match and match.group(1) == "outputs":
                step = (f"{full}.{name}", output)
                found[match.group(2)] = inner.made.get(step, step)
    return found


def _bind(step: str, name: str, given: Any, level: _Level) -> Given | None:
    """An input of a node, its reference to the pipeline followed; ``None``: an optional one that was not given."""
    match = _PARENT.match(_reference(given))
    if match is None:
        return read_input(f"{step}.{name}", given)
    kind, target = match.groups()
    if kind == "inputs":
        return level.inputs.get(target)
    source, _, output = target.partition(".outputs.")
    if kind != "jobs" or not output:
        raise PlanError(f"the input {step}.{name} refers to {target}, which is no output of a job")
    made = (f"{level.prefix}{source}", output)
    return Given(is_file=True, step_output=level.made.get(made, made))


def _bind_output(given: Any, declaration: Mapping[str, Any], level: _Level) -> Wanted:
    is_file = _simple(declaration.get("type")) == "urifile"
    match = _PARENT.match(_reference(given))
    if match is None:
        return Wanted(is_file, read_output(given).address if isinstance(given, Mapping) else None)
    parent = level.outputs.get(match.group(2), Wanted())
    return Wanted(is_file, parent.address, parent.parent_output or match.group(2))


def _reference(given: Any) -> str:
    if isinstance(given, Mapping):
        given = given.get("value") or given.get("path") or given.get("uri") or ""
    return str(given)


def _kind(given: Mapping[str, Any], which: str) -> str:
    kind = given.get(f"job{which.capitalize()}Type") or given.get(f"job_{which}_type") or given.get("type") or ""
    return _simple(kind)


def _simple(kind: Any) -> str:
    return str(kind or "").replace("_", "").lower()


def _text(value: Any) -> str:
    return str(value)
