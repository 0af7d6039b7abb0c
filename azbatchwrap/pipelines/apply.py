"""Does what a plan says: every change after those it needs, some at a time."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from dataclasses import replace

from azbatchwrap.errors import ConfigurationError
from azbatchwrap.pipelines import record, scheduler, sdk
from azbatchwrap.pipelines.context import Context
from azbatchwrap.pipelines.plan import Action, Change, Plan, change_of
from azbatchwrap.pipelines.resources.components import PipelineComponent, StepComponent
from azbatchwrap.pipelines.resources.step import ArmStep, Step, is_busy
from azbatchwrap.pipelines.runlog import RunLog
from azbatchwrap.pipelines.steps import all_steps

PROVIDER_VERSION = "2021-04-01"


def apply(context: Context, plan: Plan, log: RunLog, *, allow_replace: bool = False) -> None:
    """Make what is there as ``plan`` (of this very context) wants it, and remember what was made.

    Raises ConfigurationError for replacements that nobody allowed, and the first error of a step. Whatever happened, a
    further run goes on from what is there.
    """
    _check_replacements(plan, allow_replace=allow_replace)
    Apply(context, plan, log).run()


def _check_replacements(plan: Plan, *, allow_replace: bool) -> None:
    replaced = [change for change in plan.changes if change.action is Action.REPLACE]
    if replaced and not allow_replace:
        listed = ", ".join(f"{change.key} ({change.label})" for change in replaced)
        raise ConfigurationError(
            f"these would be removed and made again: {listed}. Allow it (--allow-replace), or take the change back"
        )


class Apply:
    """One run of a plan."""

    def __init__(self, context: Context, plan: Plan, log: RunLog) -> None:
        self._context = context
        self._log = log
        self._steps = {step.key: step for step in all_steps(context)}
        self._changes: Mapping[str, Change] = {change.key: change for change in plan.changes}
        self._registered: set[str] = set()
        self._registering = threading.Lock()

    def run(self) -> None:
        work = {key: change for key, change in self._changes.items() if self._has_work(change)}
        jobs = {key: lambda change=change: self._do(self._steps[change.key], change) for key, change in work.items()}
        needs = {key: self._all_needs(key) for key in work}
        writes_components = any(isinstance(self._steps[key], StepComponent | PipelineComponent) for key in work)
        if writes_components:
            sdk.check_installed()
        with sdk.importing(wanted=writes_components):
            scheduler.run(jobs, needs, self._context.arm.stop)
        record.write(self._context, self._steps.values())

    def _has_work(self, change: Change) -> bool:
        there = self._context.found.get(change.key)
        return change.action.is_change or (there is not None and is_busy(there))

    def _all_needs(self, key: str) -> set[str]:
        """Everything that a step rests on, whether or not there is work on it."""
        found: set[str] = set()
        waiting = [key]
        while waiting:
            step = self._steps[waiting.pop()]
            new = set(step.needs) - found
            found |= new
            waiting += [each for each in new if each in self._steps]
        return found

    def _do(self, step: Step, change: Change) -> None:
        with self._log.step(step.key, change.label, change.action.value):
            change = self._settled(step, change)
            there = self._context.found.get(step.key)
            if change.action is Action.DELETE:
                if there is not None:
                    step.remove(self._context, there)
                self._context.found[step.key] = None
            elif change.action.is_change:
                self._write(step, change)

    def _settled(self, step: Step, change: Change) -> Change:
        """What a run that was killed left at work is waited for, and looked at again."""
        there = self._context.found.get(step.key)
        if there is None or not is_busy(there):
            return change
        self._context.found[step.key] = step.settle(self._context)
        again = change_of(self._context, step)
        return again or replace(change, action=Action.NONE)

    def _write(self, step: Step, change: Change) -> None:
        context = self._context
        there = context.found.get(step.key)
        if change.action is Action.REPLACE and there is not None:
            step.remove(context, there, purge=True)
            there = None
            self._forget_contents(step)
        wanted = step.wanted(context)
        assert wanted is not None
        if there is None and isinstance(step, ArmStep) and step.provider:
            self._register(step.provider)
        context.found[step.key] = step.write(context, wanted, there)

    def _forget_contents(self, step: Step) -> None:
        """What lay in a resource that was removed is gone with it."""
        gone = {step.key}
        for each in self._steps.values():
            if each.inside in gone:
                gone.add(each.key)
                self._context.found[each.key] = None
        if step.kind == "storage account":
            self._context.forget_blobs()

    def _register(self, provider: str) -> None:
        """A subscription has to be registered with a provider before the first resource of its kind."""
        with self._registering:
            if provider in self._registered:
                return
            arm = self._context.arm
            path = f"/subscriptions/{self._context.settings.subid}/providers/{provider}"
            state = arm.get(path, PROVIDER_VERSION).get("registrationState")
            if state == "NotRegistered":
                arm.post(f"{path}/register", PROVIDER_VERSION)
            while state not in {"Registered", None}:
                arm.sleep(1.0)
                state = arm.get(path, PROVIDER_VERSION).get("registrationState")
            self._registered.add(provider)
