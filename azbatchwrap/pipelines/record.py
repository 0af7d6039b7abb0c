"""What the last apply made, kept in the source container: `drift` compares it with what is there now."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from typing import Any

from azbatchwrap.pipelines.compare import differences
from azbatchwrap.pipelines.context import Context
from azbatchwrap.pipelines.plan import Action, Change, read_all
from azbatchwrap.pipelines.resources.step import Step

#: Its blob. Nothing in it is secret: what is wanted never is.
BLOB = ".batchcreate/applied.json"
#: A record is small (bytes).
_LIMIT = 4 * 1024 * 1024


def write(context: Context, steps: Iterable[Step]) -> None:
    """Keep what was wanted, unless just that is kept already. Costs one listing where nothing changed."""
    content = {step.key: step.wanted(context) for step in steps}
    text = json.dumps(content, sort_keys=True, indent=1)
    digest = hashlib.sha256(text.encode()).hexdigest()
    container = context.settings.source_container
    if context.blobs().hashes(container, BLOB).get(BLOB) != digest:
        context.blobs().write(container, BLOB, text, digest)


def read(context: Context) -> Mapping[str, Any] | None:
    """What the last apply wanted; ``None`` where there was none."""
    container = context.settings.source_container
    if context.found.get("storage account") is None or BLOB not in context.blobs().hashes(container, BLOB):
        return None
    found: Mapping[str, Any] = json.loads(context.blobs().read(container, BLOB, _LIMIT))
    return found


def drift(context: Context, steps: list[Step]) -> list[Change] | None:
    """What became different in Azure since the last apply; edits of local files and settings do not count.

    ``None``: nothing was applied here.
    """
    read_all(context, steps)
    applied = read(context)
    if applied is None:
        return None
    return [change for step in steps if (change := _drift_of(context, step, applied.get(step.key))) is not None]


def _drift_of(context: Context, step: Step, wanted: Any) -> Change | None:
    there = context.found.get(step.key)
    label = step.label(context)
    if wanted is None:
        return None
    if there is None:
        return _absent(context, step, wanted, label)
    found = step.compare(wanted, there)
    return Change(step.key, label, Action.UPDATE if found else Action.NONE, found)


def _absent(context: Context, step: Step, wanted: Any, label: str) -> Change | None:
    """A version is looked up by the hash of the local files: the absence of a newer one says nothing about the old."""
    if step.vanishes and step.previous(context) is not None:
        return None
    return Change(step.key, label, Action.CREATE, differences(wanted, None), "is gone")
