"""A call of a function as a task: what identifies it, and the bytes that the service gets."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

import orjson

from azbatchwrap import names
from azbatchwrap.batch.access import Access, identity_reference
from azbatchwrap.batch.jobs import JobFacts
from azbatchwrap.batch.tasks import (
    ARGS_FILE,
    AUTO_USER,
    LIMIT_GRACE,
    LONGEST_ARGS,
    ascii_json,
    engine_command,
    in_container,
    iso_duration,
    output_files,
)
from azbatchwrap.errors import ConfigurationError
from azbatchwrap.manifest import parse_duration

from .functions import SCRIPT, Target, target_of
from .future import Future, as_future
from .sources import script_order
from .values import MARK, packed

#: Characters that the ids a task depends on may have together (Azure Batch, "Task dependencies": 64,000), with room.
LONGEST_LISTED = 60_000
#: Hexadecimal digits of a call's hash in its task's id: two of 100,000 calls share them once in a billion sessions.
HASH_DIGITS = 20

#: Numbered tasks: each array has a slot of this many numbers, below what a range of the service may name (2**31 - 1).
ARRAY_SLOT = 100_000
ARRAY_SLOTS = 20_000

OnFailure = Literal["fail", "ignore", "retry"]


@dataclass(frozen=True, slots=True)
class Options:
    """How tasks run. ``timeout`` is in seconds; ``retry_on`` names exceptions and ``retry_exit_codes`` codes (all if None).

    ``on_failure`` says what becomes of the task when one before it fails: it fails too, or runs all the same (with
    None where it would get that result), or the one before is run again, ``upstream_retries`` times at most.
    """

    retries: int = 0
    retry_on: tuple[str, ...] | None = None
    retry_exit_codes: tuple[int, ...] | None = None
    timeout: float | None = None
    inputs: tuple[str, ...] | None = None
    slots: int = 1
    on_failure: OnFailure = "fail"
    upstream_retries: int = 1

    @classmethod
    def of(cls, given: Mapping[str, Any]) -> Options:
        """From what a user writes: durations as text, exceptions as classes. Raises ConfigurationError."""
        unknown = set(given) - set(cls.__slots__)
        if unknown:
            raise ConfigurationError(f"tasks have no option {', '.join(sorted(unknown))}; {', '.join(cls.__slots__)}")
        wanted = dict(given)
        if wanted.get("timeout") is not None:
            wanted["timeout"] = parse_duration(wanted["timeout"])
        if wanted.get("retry_on") is not None:
            classes = wanted["retry_on"] if isinstance(wanted["retry_on"], Sequence) else (wanted["retry_on"],)
            wanted["retry_on"] = tuple(_exception_name(one) for one in classes)
        for name in ("retry_exit_codes", "inputs"):
            if wanted.get(name) is not None:
                wanted[name] = tuple(wanted[name])
        options = cls(**wanted)
        counts = (options.retries, options.upstream_retries - 1, options.slots - 1)
        if options.on_failure not in get_args(OnFailure) or min(counts) < 0:
            raise ConfigurationError(f"these options of a task contradict each other or are out of range: {options}")
        return options


def _exception_name(given: type[BaseException] | str) -> str:
    return given if isinstance(given, str) else f"{given.__module__}.{given.__qualname__}"


@dataclass(slots=True)
class Call:
    """A call that waits to be sent. ``args`` is ASCII JSON of ``[args, kwargs]``; ``parents`` end before it starts."""

    future: Future
    target: Target
    args: str
    marked: bool
    parents: tuple[Future, ...]
    options: Options
    index: int = 0
    #: What an array's tasks have in common, shown in their names: a number alone does not say what it is.
    array: str = ""

    @property
    def is_held(self) -> bool:
        """Whether it is sent only when its parents have ended: the service cannot wait for these by itself."""
        listed = sum(len(parent.task_id) for parent in self.parents if not parent.task_id.isdecimal())
        return bool(self.parents) and (self.options.on_failure == "ignore" or listed > LONGEST_LISTED)


class Caller:
    """Makes calls: finds the function, packs the arguments, and chooses the id, the same one in every run."""

    def __init__(self, *, by_pickle: bool) -> None:
        self._by_pickle = by_pickle
        self._targets: dict[Callable[..., Any], Target] = {}
        self._seen: dict[str, int] = {}
        self._slots: dict[int, str] = {}

    def target(self, function: Callable[..., Any]) -> Target:
        """Where a node finds ``function``. Raises ConfigurationError."""
        known = self._targets.get(function)
        if known is None:
            known = self._targets[function] = target_of(function)
        return known

    def make(
        self,
        owner: Any,
        function: Callable[..., Any],
        args: Sequence[Any],
        kwargs: Mapping[str, Any],
        *,
        after: Iterable[Future],
        options: Options,
    ) -> Call:
        """The call, with a future that ``owner`` answers for. Raises ConfigurationError naming what cannot travel."""
        target = self.target(function)
        parents: dict[Future, None] = dict.fromkeys(after)

        def reference(value: Any) -> Any:
            future = as_future(value)
            if future is None:
                return None
            parents[future] = None
            return {MARK: "result", "task": future.task_id}

        values: dict[str | int, Any] = dict(enumerate(args, 1))
        values.update(kwargs)
        travelling = {
            key: packed(value, reference, by_pickle=self._by_pickle, where=f"argument {key} of {target.name}")
            for key, value in values.items()
        }
        positional = [travelling[at][0] for at in range(1, len(args) + 1)]
        text = ascii_json([positional, {key: travelling[key][0] for key in kwargs}])
        marked = any(is_marked for _, is_marked in travelling.values())
        task_id = self._task_id(target, text, tuple(parents), options)
        return Call(Future(owner, task_id), target, text, marked, tuple(parents), options)

    def make_array(
        self,
        owner: Any,
        function: Callable[..., Any],
        count: int,
        args: Sequence[Any],
        *,
        after: Iterable[Future],
        options: Options,
    ) -> list[Call]:
        """Calls with 0 to ``count`` - 1 before ``args``, whose tasks have numbers in a row. Raises ConfigurationError."""
        if not 0 < count <= ARRAY_SLOT:
            raise ConfigurationError(f"an array has 1 to {ARRAY_SLOT} tasks, not {count}: use several, or map")
        first = self.make(owner, function, (0, *args), {}, after=after, options=options)
        digest = hashlib.sha256(f"{first.future.task_id}/{count}".encode()).hexdigest()[:HASH_DIGITS]
        slot = int(digest, 16) % ARRAY_SLOTS
        while self._slots.setdefault(slot, digest) != digest:
            slot = (slot + 1) % ARRAY_SLOTS
        begin, rest = slot * ARRAY_SLOT, first.args.removeprefix("[[0")
        return [
            Call(
                Future(owner, str(begin + number)),
                first.target,
                f"[[{number}{rest}",
                first.marked,
                first.parents,
                options,
                array=digest,
            )
            for number in range(count)
        ]

    def _task_id(self, target: Target, args: str, parents: tuple[Future, ...], options: Options) -> str:
        """From what is called with what: equal calls are told apart by their order."""
        listed = [str(target), args, [parent.task_id for parent in parents], options]
        digest = hashlib.sha256(orjson.dumps(listed)).hexdigest()[:HASH_DIGITS]
        number = self._seen[digest] = self._seen.get(digest, 0) + 1
        name = re.sub(r"[^A-Za-z0-9_-]+", "-", target.name)[:24].strip("-") or "call"
        return f"{name}-{digest}" + (f"-{number}" if number > 1 else "")


class CallWriter:
    """Writes calls as tasks of one job."""

    def __init__(
        self,
        facts: JobFacts,
        access: Access,
        store_args: Callable[[bytes], dict[str, Any]],
        *,
        by_pickle: bool,
    ) -> None:
        self._facts = facts
        outputs = facts.output_container
        self._results = access.container(outputs, "r")
        self._store_args = store_args
        self._by_pickle = by_pickle
        self._command = engine_command(facts.deployment)
        self._files = output_files(access.container(outputs, "cw"), "PATH", identity=facts.identity, empty_logs=False)

    def write(self, call: Call) -> bytes:
        """The JSON of one task."""
        task_id, options = call.future.task_id, call.options
        args, resource_files = self._args(call.args)
        settings = {
            names.TASK_VARIABLE: ascii_json(self._orders(call)),
            names.ARGS_VARIABLE: args,
            names.INDEX_VARIABLE: str(call.index),
            names.CALL_SETTING: task_id,
        }
        if call.marked and call.parents and not self._facts.identity:
            settings[names.RESULTS_URL_VARIABLE] = self._results
        elif call.marked:
            resource_files += [self._result_file(parent) for parent in call.parents]
        constraints: dict[str, Any] = {"maxTaskRetryCount": 0}
        if options.timeout is not None:
            constraints["maxWallClockTime"] = iso_duration(options.timeout + LIMIT_GRACE)
        body: dict[str, Any] = {
            "id": task_id,
            "displayName": f"#{call.index} {call.target} {call.array}".rstrip()[:1024],
            "commandLine": self._command,
            "userIdentity": AUTO_USER,
            "constraints": constraints,
            "environmentSettings": [{"name": name, "value": value} for name, value in settings.items()],
            "outputFiles": self._files,
            **in_container(self._facts.container),
        }
        if options.slots != 1:
            body["requiredSlots"] = options.slots
        if resource_files:
            body["resourceFiles"] = resource_files
        if waits_for := self._waits_for(call):
            body["dependsOn"] = depends_on(waits_for)
        path = names.task_output_prefix(self._facts.job_id, task_id)
        return orjson.dumps(body).replace(b'"path":"PATH', b'"path":"' + path.encode())

    def _orders(self, call: Call) -> dict[str, Any]:
        options, target = call.options, call.target
        function: dict[str, Any] = {"module": target.module, "name": target.name}
        if target.module == SCRIPT:
            function |= script_order()
        if call.marked:
            function["marked"] = True
            jobs = {parent.task_id: parent.job_id for parent in call.parents if self._is_elsewhere(parent)}
            function |= {"jobs": jobs} if jobs else {}
        if self._by_pickle:
            function["pickle"] = True
        if options.on_failure == "ignore":
            function["forgiving"] = True
        return {
            "module": target.module,
            "function": function,
            "retries": options.retries,
            "retry_exceptions": options.retry_on,
            "retry_exit_codes": options.retry_exit_codes,
            "timeout": options.timeout,
            "inputs": options.inputs,
        }

    def _is_elsewhere(self, parent: Future) -> bool:
        return bool(parent.job_id) and parent.job_id != self._facts.job_id

    def _waits_for(self, call: Call) -> list[str]:
        if call.is_held:
            return []
        return [parent.task_id for parent in call.parents if not self._is_elsewhere(parent)]

    def _result_file(self, parent: Future) -> dict[str, Any]:
        """The result of another task, brought by the node's agent; none where that task left none."""
        return {
            "storageContainerUrl": self._results,
            "blobPrefix": f"{names.task_output_prefix(parent.job_id or self._facts.job_id, parent.task_id)}/result.json",
            "filePath": names.RESULTS_FOLDER,
            **identity_reference(self._facts.identity),
        }

    def _args(self, text: str) -> tuple[str, list[dict[str, Any]]]:
        if len(text) <= LONGEST_ARGS:
            return text, []
        return f"@{ARGS_FILE}", [self._store_args(text.encode())]


def depends_on(task_ids: Iterable[str]) -> dict[str, Any]:
    """The tasks one depends on, as the service takes them: numbers in a row as ranges, which match numbers only."""
    listed: list[str] = []
    ranges: list[dict[str, int]] = []
    for task_id in task_ids:
        number = int(task_id) if task_id.isdecimal() else None
        if number is None:
            listed.append(task_id)
        elif ranges and ranges[-1]["end"] == number - 1:
            ranges[-1]["end"] = number
        else:
            ranges.append({"start": number, "end": number})
    return {name: value for name, value in (("taskIds", listed), ("taskIdRanges", ranges)) if value}
