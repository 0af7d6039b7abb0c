"""What would have to be done: every resource is read once, in parallel, and compared with what is wanted."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from typing import Any

from azbatchwrap.errors import AzBatchWrapError, ConfigurationError, ServiceError
from azbatchwrap.pipelines.arm import Document
from azbatchwrap.pipelines.assets import content_hash
from azbatchwrap.pipelines.blobs import HASH
from azbatchwrap.pipelines.compare import Difference, differences
from azbatchwrap.pipelines.context import Context
from azbatchwrap.pipelines.resources.step import BUSY, Step, state_of
from azbatchwrap.pipelines.settings import from_values
from azbatchwrap.pipelines.steps import all_steps

#: Reads at a time.
READERS = 12
#: Version of the form of saved plans.
FORM = 1


class Action(str, enum.Enum):
    """What happens to a resource."""

    CREATE = "create"
    UPDATE = "update"
    REPLACE = "replace"
    DELETE = "delete"
    NONE = "no change"
    UNKNOWN = "unknown"

    @property
    def is_change(self) -> bool:
        return self not in {Action.NONE, Action.UNKNOWN}


@dataclass(frozen=True, slots=True)
class Change:
    """What happens to one resource: ``key`` names the step, ``label`` the resource as it is called in Azure."""

    key: str
    label: str
    action: Action
    differences: tuple[Difference, ...] = ()
    note: str = ""
    is_ours: bool = True

    def record(self) -> dict[str, Any]:
        return {
            "resource": self.key,
            "name": self.label,
            "action": self.action.value,
            "differences": [
                {"path": each.path, "before": each.before, "after": each.after} for each in self.differences
            ],
            "note": self.note,
        }


@dataclass(frozen=True, slots=True)
class Plan:
    """All changes, in the order of the steps."""

    changes: tuple[Change, ...]
    settings: Mapping[str, Any]
    content: str

    @property
    def has_changes(self) -> bool:
        return any(change.action.is_change for change in self.changes)

    def counts(self) -> dict[str, int]:
        """Action -> how many."""
        return {action.value: sum(change.action is action for change in self.changes) for action in Action}

    def record(self) -> dict[str, Any]:
        """As JSON, and as it is saved."""
        return {
            "version": FORM,
            "has_changes": self.has_changes,
            "counts": self.counts(),
            "changes": [change.record() for change in self.changes],
            "settings": dict(self.settings),
            "content": self.content,
        }


def make(context: Context, *, adopt: bool = False) -> Plan:
    """Read everything and compare. Raises ServiceError that names every resource that could not be read."""
    steps = all_steps(context)
    read_all(context, steps)
    with ThreadPoolExecutor(READERS) as pool:
        found = pool.map(lambda step: change_of(context, step, adopt=adopt), steps)
        changes = {change.key: change for change in found if change is not None}
    return _plan(context, tuple(_with_contents(steps, changes)))


def _with_contents(steps: Sequence[Step], changes: Mapping[str, Change]) -> Iterator[Change]:
    """A resource that is replaced takes with it what lies in it: that is made again."""
    replaced: set[str] = set()
    for step in steps:
        change = changes.get(step.key)
        if change is None:
            continue
        if step.inside in replaced and change.action is not Action.CREATE:
            change = replace(change, action=Action.REPLACE, note=f"lies in the {step.inside}, which is replaced")
        if change.action is Action.REPLACE:
            replaced.add(step.key)
        yield change


def make_offline(context: Context) -> Plan:
    """What is wanted, without a look at what is there."""
    changes = []
    for step in all_steps(context):
        wanted = step.wanted(context)
        if wanted is not None:
            changes.append(Change(step.key, step.label(context), Action.UNKNOWN, differences(wanted, None)))
    return _plan(context, tuple(changes))


def _plan(context: Context, changes: tuple[Change, ...]) -> Plan:
    assets = context.assets
    parts = [assets.data.digest, assets.code.digest, assets.conda, assets.model.digest if assets.model else None]
    return Plan(changes, context.settings.values(), content_hash(parts))


def read_all(context: Context, steps: Iterable[Step]) -> None:
    """Fill ``context.found``: in three waves, since where some lie is known only from others."""
    listed = list(steps)
    failures: list[tuple[str, AzBatchWrapError]] = []
    with ThreadPoolExecutor(READERS) as pool:
        for wave in (0, 1, 2):
            reading = {
                step.key: pool.submit(step.read, context)
                for step in listed
                if step.wave == wave and step.kind not in _AFTER
            }
            for key, future in reading.items():
                try:
                    context.found[key] = future.result()
                except AzBatchWrapError as error:
                    failures.append((key, error))
            if failures:
                _raise_failures(failures)
    for step in listed:
        if step.kind in _AFTER:
            context.found[step.key] = step.read(context)


#: Steps whose state is part of another resource, and costs no request.
_AFTER = frozenset({"default deployment"})


def _raise_failures(failures: Sequence[tuple[str, AzBatchWrapError]]) -> None:
    key, first = failures[0]
    if len(failures) == 1:
        text = f"the {key} cannot be read: {first}"
    else:
        text = f"{len(failures)} resources cannot be read:" + "".join(
            f"\n  - {key}: {error}" for key, error in failures
        )
    if isinstance(first, ServiceError):
        raise type(first)(text, code=first.code, status=first.status) from first
    raise type(first)(text) from first


def change_of(context: Context, step: Step, *, adopt: bool = False) -> Change | None:
    """What has to be done about one resource, given what was found; ``None`` for one that is neither there nor wanted."""
    wanted, there = step.wanted(context), context.found.get(step.key)
    label = step.label(context)
    if wanted is None:
        is_leftover = there is not None and step.is_ours(there)
        return Change(step.key, label, Action.DELETE) if is_leftover else None
    if there is None:
        return _creation(context, step, wanted, label)
    found = step.compare(wanted, there) + _surplus(wanted, there)
    if state_of(there) in {"failed", "canceled"}:
        found = (
            *found,
            Difference("properties.provisioningState", there["properties"]["provisioningState"], "Succeeded"),
        )
    if not step.is_ours(there) and not adopt:
        return Change(step.key, label, Action.NONE, note=_foreign_note(found), is_ours=False)
    note = f"the service is at work on it ({state_of(there)})" if state_of(there) in BUSY else ""
    if not found:
        return Change(step.key, label, Action.NONE, note=note)
    replaces = any(each.forces_replacement for each in found)
    return Change(step.key, label, Action.REPLACE if replaces else Action.UPDATE, found, note)


def _creation(context: Context, step: Step, wanted: Document, label: str) -> Change:
    """A version of an asset that has others is an update to a person, though a new version is made."""
    before = step.previous(context) if context.found.get("workspace") else None
    if before is not None:
        return Change(step.key, label, Action.UPDATE, (Difference("version", before, label.rpartition(":")[2]),))
    return Change(step.key, label, Action.CREATE, differences(wanted, None), step.note(context))


def _surplus(wanted: Document, there: Document) -> tuple[Difference, ...]:
    """Blobs of a folder that lie there and have no file any more."""
    if HASH not in wanted:
        return ()
    return tuple(
        Difference(f"{HASH}.{name}", digest, None) for name, digest in there[HASH].items() if name not in wanted[HASH]
    )


def _foreign_note(found: Sequence[Difference]) -> str:
    """What is said of a resource that batchcreate did not make."""
    others = [each.path for each in found if not each.path.startswith("tags") and ".tags" not in each.path]
    differs = f"; differs in {', '.join(others)}" if others else ""
    return f"not made by batchcreate: used as it is{differs}"


def load(record: Mapping[str, Any], source: str) -> Plan:
    """A saved plan. Raises ConfigurationError when it is none."""
    try:
        if record["version"] != FORM:
            raise ConfigurationError(f"{source} is a plan of another version of batchcreate: make it again")
        changes = tuple(
            Change(
                each["resource"],
                each["name"],
                Action(each["action"]),
                tuple(Difference(one["path"], one["before"], one["after"]) for one in each["differences"]),
                each["note"],
            )
            for each in record["changes"]
        )
        plan = Plan(changes, record["settings"], str(record["content"]))
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigurationError(f"{source} is not a plan that `plan --out` wrote: {error!r}") from error
    from_values(plan.settings, f"plan: {source}")
    return plan


def check_still_valid(saved: Plan, now: Plan) -> None:
    """Raises ConfigurationError when what would be done is no longer what the plan says."""
    if saved.content != now.content:
        raise ConfigurationError("the plan is stale: local files changed since it was made. Make it again")
    before = {change.key: change.record() for change in saved.changes}
    changed = [change.key for change in now.changes if before.get(change.key) != change.record()]
    if changed:
        raise ConfigurationError(
            f"the plan is stale: {', '.join(changed)} changed in Azure since it was made. Make it again"
        )
