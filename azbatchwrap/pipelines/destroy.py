"""Removes what batchcreate made, what rests on something before that."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from azbatchwrap.errors import ConfigurationError
from azbatchwrap.pipelines import scheduler
from azbatchwrap.pipelines.context import Context
from azbatchwrap.pipelines.plan import read_all
from azbatchwrap.pipelines.resources.group import ResourceGroup
from azbatchwrap.pipelines.resources.step import Step
from azbatchwrap.pipelines.runlog import RunLog
from azbatchwrap.pipelines.steps import all_steps


@dataclass(frozen=True, slots=True)
class Destruction:
    """What goes, and what stays with the reason why; (key, label or reason)."""

    steps: tuple[Step, ...]
    going: tuple[tuple[str, str], ...]
    staying: tuple[tuple[str, str], ...]


def make(context: Context, keep: Iterable[str] = ()) -> Destruction:
    """Look what there is. ``keep`` names kinds or keys that stay, with all that they need."""
    steps = all_steps(context)
    kept = _kept(steps, keep)
    read_all(context, steps)
    going: list[Step] = []
    staying: list[tuple[str, str]] = []
    for step in steps:
        there = context.found.get(step.key)
        if there is None:
            continue
        if step.key in kept:
            staying.append((step.key, "kept as asked"))
        elif not step.is_ours(there):
            staying.append((step.key, "not made by batchcreate"))
        else:
            going.append(step)
    gone = {step.kind for step in going}
    left = [step for step in going if not (step.vanishes and step.inside in gone)]
    return Destruction(tuple(left), tuple((step.key, step.label(context)) for step in going), tuple(staying))


def _kept(steps: Sequence[Step], keep: Iterable[str]) -> set[str]:
    by_key = {step.key: step for step in steps}
    waiting = []
    for word in keep:
        found = [step.key for step in steps if word in {step.key, step.kind}]
        if not found:
            raise ConfigurationError(f"there is no {word!r} to keep; there are {', '.join(by_key)}")
        waiting += found
    kept: set[str] = set()
    while waiting:
        key = waiting.pop()
        if key not in kept:
            kept.add(key)
            waiting += by_key[key].needs
    return kept


def destroy(context: Context, destruction: Destruction, log: RunLog, *, purge: bool = False) -> list[str]:
    """Remove what goes; returns what is left in the resource group where it had to stay for that."""
    left: list[str] = []

    def remove(step: Step) -> None:
        there = context.found[step.key]
        assert there is not None
        with log.step(step.key, step.label(context), "delete"):
            if isinstance(step, ResourceGroup):
                left.extend(step.contents(context))
            step.remove(context, there, purge=purge)

    jobs = {step.key: lambda step=step: remove(step) for step in destruction.steps}
    needs: dict[str, set[str]] = {step.key: set() for step in destruction.steps}
    for step in all_steps(context):
        for key in _above(step, all_steps(context)):
            if key in needs and step.key in needs:
                needs[key].add(step.key)
    scheduler.run(jobs, needs, context.arm.stop)
    return left


def _above(step: Step, steps: Sequence[Step]) -> set[str]:
    """Everything that ``step`` rests on."""
    by_key = {each.key: each for each in steps}
    found: set[str] = set()
    waiting = list(step.needs)
    while waiting:
        key = waiting.pop()
        if key not in found and key in by_key:
            found.add(key)
            waiting += by_key[key].needs
    return found
