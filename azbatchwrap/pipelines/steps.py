"""All steps of a configuration, each after those it needs."""

from __future__ import annotations

from azbatchwrap.pipelines.context import Context
from azbatchwrap.pipelines.place import RESULT_STORE, SOURCE_STORE
from azbatchwrap.pipelines.resources.components import PipelineComponent, StepComponent
from azbatchwrap.pipelines.resources.compute import Compute
from azbatchwrap.pipelines.resources.containers import Container, DataFile, ModelFiles
from azbatchwrap.pipelines.resources.datastore import Datastore
from azbatchwrap.pipelines.resources.dependents import (
    Insights,
    KeyVault,
    LogWorkspace,
    Registry,
    StorageAccount,
    needs_registry,
)
from azbatchwrap.pipelines.resources.endpoint import (
    DefaultDeployment,
    Endpoint,
    ModelDeployment,
    PipelineDeployment,
)
from azbatchwrap.pipelines.resources.group import ResourceGroup
from azbatchwrap.pipelines.resources.schedule import Schedule
from azbatchwrap.pipelines.resources.step import Step
from azbatchwrap.pipelines.resources.versions import Code, Environment, Model
from azbatchwrap.pipelines.resources.workspace import Workspace

_WORKSPACE = ("workspace",)


def all_steps(context: Context) -> list[Step]:
    """In the order in which they can be made."""
    return [*_foundation(context), *_data(context), *_scoring(context)]


def _foundation(context: Context) -> list[Step]:
    group = ("resource group",)
    dependents: list[Step] = [
        StorageAccount(needs=group),
        KeyVault(needs=group),
        LogWorkspace(needs=group),
        Insights(needs=("log analytics",)),
    ]
    if needs_registry(context):
        dependents.append(Registry(needs=group))
    needs = tuple(step.key for step in dependents if step.kind != "log analytics")
    return [ResourceGroup(), *dependents, Workspace(needs=needs), Compute(needs=_WORKSPACE)]


def _data(context: Context) -> list[Step]:
    settings = context.settings
    account = ("storage account",)
    source = Container(settings.source_container, account)
    result = Container(settings.result_container, account)
    return [
        source,
        result,
        DataFile(needs=(source.key,)),
        Datastore(SOURCE_STORE, settings.source_container, (*_WORKSPACE, source.key)),
        Datastore(RESULT_STORE, settings.result_container, (*_WORKSPACE, result.key)),
    ]


def _scoring(context: Context) -> list[Step]:
    code, environment = Code(needs=_WORKSPACE), Environment(needs=_WORKSPACE)
    stores = (f"datastore {SOURCE_STORE}", f"datastore {RESULT_STORE}")
    endpoint = Endpoint(needs=_WORKSPACE)
    steps: list[Step] = [code, environment]
    if context.settings.model is None:
        steps += [
            StepComponent(needs=("code", "environment")),
            PipelineComponent(needs=("scoring step", "compute")),
            endpoint,
            PipelineDeployment(needs=("endpoint", "pipeline", *stores)),
        ]
    else:
        steps += [
            ModelFiles(needs=(f"container {context.settings.source_container}",)),
            Model(needs=("model files", stores[0])),
            endpoint,
            ModelDeployment(needs=("endpoint", "model", "code", "environment", "compute", stores[1])),
        ]
    return [*steps, DefaultDeployment(needs=("deployment",)), Schedule(needs=("default deployment", "data"))]
