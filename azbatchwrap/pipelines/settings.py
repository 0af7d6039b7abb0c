"""Configuration files, environment and flags become one frozen `Settings`; every fault is named at once.

Layers, lowest to highest: built-in defaults, the file (JSON or YAML), the environment, flags. Below the file lies what
other programs call the subscription: it must not redirect a file that names its own.
"""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from azbatchwrap.errors import ConfigurationError
from azbatchwrap.pipelines.keys import BY_NAME, KEYS, Key

#: The example that is scored when nothing else is named.
SCORING_FOLDER = Path(__file__).parent / "scoring"
_BUILT_IN = {"score_script": "batch.py", "data": "data.txt"}
#: What templates and sample files say before they are filled in.
_PLACEHOLDER = re.compile(
    r"<[^>]*>|^\[[^\]]*\]$|^your[ _-]|\bhere$|^(xxx+|changeme|todo|subscription ?id)$", re.IGNORECASE
)
#: Where other programs of Azure look for the subscription.
SUBSCRIPTION_VARIABLE = "AZURE_SUBSCRIPTION_ID"
#: Tags: Azure's limits for all kinds of resources.
_TAG_NAME = re.compile(r"[^<>%&\\?/]{1,512}\Z")
_OWN_TAGS = "azbatchwrap"


@dataclass(frozen=True, slots=True)
class Given:
    """A value and the layer that it came from; paths are relative to ``folder``."""

    value: Any
    layer: str
    folder: Path


@dataclass(frozen=True, slots=True)
class Settings:
    """What is to exist. Fields are named after the keys; ``sources`` says where each value came from."""

    subid: str
    resource_group: str
    region: str
    workspace: str
    experiment: str
    batch_compute_name: str
    batch_vm_size: str
    batch_vm_min: int
    batch_vm_max: int
    source_container: str
    result_container: str
    pipeline_name: str
    schedule_frequency: str | None
    schedule_interval: int
    endpoint_name: str | None
    deployment_name: str
    score_script: Path
    score_arguments: tuple[str, ...]
    data: Path
    conda_file: Path | None
    image: str
    model: Path | None
    mini_batch_size: int
    batch_vm_priority: str
    #: Seconds.
    batch_vm_idle: int
    container_registry: str
    soft_deleted: str
    tags: Mapping[str, str]
    sources: Mapping[str, str]

    def values(self) -> dict[str, Any]:
        """The keys and values that make these settings again."""
        found: dict[str, Any] = {}
        for key in KEYS:
            value = getattr(self, _field(key))
            if value is not None:
                found[key.name] = _plain(value)
        return found


def _field(key: Key) -> str:
    return "resource_group" if key.name == "resourceGroup" else key.name


def _plain(value: Any) -> Any:
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, tuple):
        return list(value)
    return dict(value) if isinstance(value, Mapping) else value


def load(
    file: Path | None = None,
    *,
    flags: Mapping[str, object] | None = None,
    environment: Mapping[str, str] | None = None,
    directory: Path | None = None,
) -> Settings:
    """The settings of all layers. Paths in the file are relative to it, others to ``directory`` (default: where we are).

    Raises ConfigurationError with every fault.
    """
    faults: list[str] = []
    values, sources = _merge(_layers(file, flags or {}, environment or {}, directory or Path.cwd(), faults), faults)
    _check_together(values, faults)
    _raise(faults)
    return Settings(**values, sources=sources)


def from_values(values: Mapping[str, Any], layer: str) -> Settings:
    """Settings out of `Settings.values`, as saved in a plan."""
    faults: list[str] = []
    given = {name: Given(value, layer, Path.cwd()) for name, value in values.items()}
    checked, sources = _merge([given], faults)
    _check_together(checked, faults)
    _raise(faults)
    return Settings(**checked, sources=sources)


def _raise(faults: list[str]) -> None:
    if len(faults) == 1:
        raise ConfigurationError(faults[0])
    if faults:
        listed = "".join(f"\n  - {fault}" for fault in faults)
        raise ConfigurationError(f"the configuration has {len(faults)} faults:{listed}")


def _layers(
    file: Path | None, flags: Mapping[str, object], environment: Mapping[str, str], directory: Path, faults: list[str]
) -> list[dict[str, Given]]:
    def variable(name: str) -> Given:
        return Given(environment.get(name), f"environment: {name}", directory)

    layers = [{"subid": variable(SUBSCRIPTION_VARIABLE)}]
    if file is not None:
        layers.append(_from_file(file, faults))
    layers.append({key.name: variable(key.variable) for key in KEYS})
    layers.append({name: Given(value, f"flag: -{name}", directory) for name, value in flags.items()})
    return layers


def _from_file(path: Path, faults: list[str]) -> dict[str, Given]:
    content = read_file(path)
    layer = f"file: {path}"
    found: dict[str, Given] = {}
    for name, value in content.items():
        if name not in BY_NAME:
            near = difflib.get_close_matches(name, BY_NAME, n=1)
            hint = f"; did you mean {near[0]}?" if near else f"; keys are {', '.join(BY_NAME)}"
            faults.append(f"{name} ({layer}) is not a key{hint}")
        else:
            found[name] = Given(value, layer, path.absolute().parent)
    return found


def read_file(path: Path) -> dict[str, Any]:
    """The JSON or YAML object in ``path``. Raises ConfigurationError with line and column."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise ConfigurationError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path} is not UTF-8 text (byte {error.start})") from error
    content = _parse_yaml(path, text) if path.suffix.lower() in {".yml", ".yaml"} else _parse_json(path, text)
    if not isinstance(content, dict):
        raise ConfigurationError(f"{path} must hold an object with keys and values")
    return {str(name): value for name, value in content.items()}


def _parse_json(path: Path, text: str) -> Any:
    try:
        return json.loads(text, object_pairs_hook=lambda pairs: _once(path, pairs))
    except json.JSONDecodeError as error:
        line = "".join(text.splitlines()[error.lineno - 1 : error.lineno])
        hint = ": a placeholder still stands where a value belongs" if "<" in line else ""
        raise ConfigurationError(
            f"{path} is not valid JSON: line {error.lineno}, column {error.colno}: {error.msg}{hint}"
        ) from error


def _parse_yaml(path: Path, text: str) -> Any:
    import yaml

    try:
        node = yaml.compose(text, Loader=yaml.SafeLoader)
        if isinstance(node, yaml.MappingNode):
            _once(path, [(key.value, value) for key, value in node.value])
        return yaml.safe_load(text)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}: " if mark else ""
        raise ConfigurationError(f"{path} is not valid YAML: {place}{error.problem or error.context}") from error
    except yaml.YAMLError as error:
        raise ConfigurationError(f"{path} is not valid YAML: {error}") from error


def _once(path: Path, pairs: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """``pairs`` as a dictionary. Of a key that is given twice nobody knows which one is meant."""
    found: dict[str, Any] = {}
    for name, value in pairs:
        if name in found:
            raise ConfigurationError(f"{path} gives the key {name} twice")
        found[name] = value
    return found


def _merge(layers: list[dict[str, Given]], faults: list[str]) -> tuple[dict[str, Any], dict[str, str]]:
    """The value of each field, and of each key where it came from."""
    values: dict[str, Any] = {}
    sources: dict[str, str] = {}
    for key in KEYS:
        given = next((layer[key.name] for layer in reversed(layers) if _is_given(layer.get(key.name))), None)
        if given is None:
            sources[key.name] = "default"
            values[_field(key)] = _default(key)
            if key.is_required:
                faults.append(
                    f"{key.name} is missing: give it in the file, as -{key.name}, or in {key.variable} or {SUBSCRIPTION_VARIABLE} "
                    f"(there is no default {key.help})"
                )
        else:
            sources[key.name] = given.layer
            values[_field(key)] = _checked(key, given, faults)
    return values, sources


def _is_given(given: Given | None) -> bool:
    """JSON's null and the text None count as not given, as in the first batchcreate."""
    return given is not None and given.value is not None and str(given.value).strip() not in {"", "None"}


def _default(key: Key) -> Any:
    if key.name in _BUILT_IN:
        return SCORING_FOLDER / _BUILT_IN[key.name]
    return tuple(key.default) if isinstance(key.default, list) else key.default


def _checked(key: Key, given: Given, faults: list[str]) -> Any:
    """The value in its type; ``None`` after a fault was noted."""
    where = f"{key.name} ({given.layer})"
    value = given.value
    if isinstance(value, str) and _PLACEHOLDER.search(value.strip()):
        faults.append(f"{where} still holds the placeholder {value!r}: put the {key.help} there")
        return None
    checks = {"whole": _whole, "path": _path, "words": _words, "pairs": _pairs, "text": _text}
    try:
        return checks[key.kind](key, given)
    except _Wrong as error:
        faults.append(f"{where} {error}")
        return None


class _Wrong(Exception):
    """The rest of the sentence that begins with the key."""


def _whole(key: Key, given: Given) -> int:
    value = given.value
    if isinstance(value, str) and re.fullmatch(r"\s*[+-]?\d{1,18}\s*", value):
        value = int(value)
    if not isinstance(value, int) or isinstance(value, bool):
        raise _Wrong(f"must be a whole number, not {value!r}")
    if not key.lowest <= value <= key.highest:
        raise _Wrong(f"must lie between {key.lowest} and {key.highest}, not {value}")
    return value


def _text(key: Key, given: Given) -> str:
    value = given.value
    if not isinstance(value, str):
        raise _Wrong(f"must be text, not {value!r}")
    value = value.strip()
    if key.choices:
        chosen = next((choice for choice in key.choices if choice.lower() == value.lower()), None)
        if chosen is None:
            raise _Wrong(f"must be one of {', '.join(key.choices)}, not {value!r}")
        return chosen
    if key.pattern and not re.fullmatch(key.pattern, value, re.ASCII):
        raise _Wrong(f"must be {key.rule}, not {value!r}")
    return value


def _path(key: Key, given: Given) -> Path:
    path = Path(_text(key, given)).expanduser()
    path = path if path.is_absolute() else given.folder / path
    if not path.exists():
        raise _Wrong(f"names {path}, which does not exist")
    if key.name in {"score_script", "conda_file"} and not path.is_file():
        raise _Wrong(f"names {path}, which is not a file")
    return path


def _words(_key: Key, given: Given) -> tuple[str, ...]:
    import shlex

    try:
        value = shlex.split(given.value) if isinstance(given.value, str) else given.value
    except ValueError as error:
        raise _Wrong(f"has an unbalanced quote or backslash: {given.value!r}") from error
    if not isinstance(value, list | tuple) or not all(isinstance(word, str) for word in value):
        raise _Wrong(f"must be a list of words, not {given.value!r}")
    foreign = [word for word in value for hole in re.findall(r"\{(\w*)\}", word) if hole not in {"data", "output"}]
    if foreign:
        raise _Wrong(f"knows {{data}} and {{output}} alone, not {foreign[0]!r}")
    return tuple(value)


def _pairs(_key: Key, given: Given) -> dict[str, str]:
    value = given.value
    if isinstance(value, str):
        pairs = [pair.partition("=") for pair in value.split(",")]
        value = {name.strip(): text.strip() for name, equals, text in pairs} if all(pair[1] for pair in pairs) else None
    if not isinstance(value, Mapping) or not all(isinstance(text, str) for text in value.values()):
        raise _Wrong(f"must be names and texts (name=text,…), not {given.value!r}")
    wrong = [name for name in value if not _TAG_NAME.match(name) or name.lower().startswith(_OWN_TAGS)]
    if wrong:
        raise _Wrong(f"has the tag {wrong[0]!r}, which Azure or batchcreate does not allow")
    return dict(value)


def _check_together(values: Mapping[str, Any], faults: list[str]) -> None:
    """What no key can be asked alone."""
    low, high = values.get("batch_vm_min"), values.get("batch_vm_max")
    if low is not None and high is not None and low > high:
        faults.append(f"batch_vm_min ({low}) is larger than batch_vm_max ({high})")
    if values.get("source_container") and values["source_container"] == values.get("result_container"):
        faults.append(f"source_container and result_container are both {values['source_container']!r}")


def template() -> str:
    """A configuration file to fill in."""
    lines = {key.name: f"<{key.help}>" if key.is_required else key.default for key in KEYS if key.is_original}
    lines["schedule_frequency"] = "Day"
    return json.dumps(lines, indent=4) + "\n"


_NAMED = {field.name for field in fields(Settings)} - {"sources"}
assert {_field(key) for key in KEYS} == _NAMED, "every key has its field"
