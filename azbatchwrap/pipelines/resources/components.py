"""The scoring step and the pipeline around it, as components. Their definitions are built and written by azure-ai-ml.

ARM knows a component's definition as free-form JSON alone; how it is spelled, the SDK knows.
"""

from __future__ import annotations

import shlex
from typing import Any

from azbatchwrap.pipelines.arm import Document
from azbatchwrap.pipelines.context import Context
from azbatchwrap.pipelines.place import INPUT, OUTPUT, STEP
from azbatchwrap.pipelines.resources.step import managed_tags
from azbatchwrap.pipelines.resources.versions import Code, Environment, VersionStep

#: Placeholders of score_arguments -> what the service puts there.
_HOLES = {"{data}": f"${{{{inputs.{INPUT}}}}}", "{output}": f"${{{{outputs.{OUTPUT}}}}}"}


class StepComponent(VersionStep):
    """The command that scores. It is never taken from the cache: the same path may hold other data tomorrow."""

    kind = "scoring step"
    collection = "components"

    def asset(self, context: Context) -> str:
        return context.place.step_component

    def content(self, context: Context) -> Any:
        return {
            "command": self.command(context),
            "code": Code().asset_version(context),
            "environment": Environment().asset_version(context),
            "input": input_type(context),
        }

    @staticmethod
    def command(context: Context) -> str:
        words = [context.settings.score_script.name, *context.settings.score_arguments]
        return " ".join(["python", *(_quoted(word) for word in words)])

    def write(self, context: Context, wanted: Document, there: Document | None) -> Document:
        from azbatchwrap.pipelines import sdk

        definition = {
            "$schema": "https://azuremlschemas.azureedge.net/latest/commandComponent.schema.json",
            "type": "command",
            "name": self.asset(context),
            "version": self.asset_version(context),
            "display_name": self.asset(context),
            "is_deterministic": False,
            "command": self.command(context),
            "code": f"azureml:{Code().path(context)}",
            "environment": f"azureml:{Environment().path(context)}",
            "inputs": {INPUT: {"type": input_type(context)}},
            "outputs": {OUTPUT: {"type": "uri_folder"}},
            "tags": managed_tags(context),
        }
        sdk.write_component(context, definition)
        return context.arm.get(self.path(context), self.version)


class PipelineComponent(VersionStep):
    """What the endpoint runs, and the schedule: one step on the cluster."""

    kind = "pipeline"
    collection = "components"

    def asset(self, context: Context) -> str:
        return context.settings.pipeline_name

    def content(self, context: Context) -> Any:
        return {
            "step": StepComponent().path(context).lower(),
            "compute": context.settings.batch_compute_name,
            "input": input_type(context),
        }

    def write(self, context: Context, wanted: Document, there: Document | None) -> Document:
        from azbatchwrap.pipelines import sdk

        definition = {
            "$schema": "https://azuremlschemas.azureedge.net/latest/pipelineComponent.schema.json",
            "type": "pipeline",
            "name": self.asset(context),
            "version": self.asset_version(context),
            "display_name": self.asset(context),
            "inputs": {INPUT: {"type": input_type(context)}},
            "outputs": {OUTPUT: {"type": "uri_folder"}},
            "tags": managed_tags(context),
            "jobs": {
                STEP: {
                    "type": "command",
                    "component": f"azureml:{StepComponent().path(context)}",
                    # On the step itself: the default of a deployment's settings is not always heeded.
                    "compute": f"azureml:{context.settings.batch_compute_name}",
                    "inputs": {INPUT: f"${{{{parent.inputs.{INPUT}}}}}"},
                    "outputs": {OUTPUT: f"${{{{parent.outputs.{OUTPUT}}}}}"},
                }
            },
        }
        sdk.write_component(context, definition)
        return context.arm.get(self.path(context), self.version)


def input_type(context: Context) -> str:
    return "uri_folder" if context.settings.data.is_dir() else "uri_file"


def _quoted(word: str) -> str:
    """A word of the command line. Paths take the place of the references as text, so the quotes hold for them too."""
    quoted = shlex.quote(word)
    if not any(hole in word for hole in _HOLES):
        return quoted
    quoted = quoted if quoted.startswith("'") else f"'{quoted}'"
    for hole, reference in _HOLES.items():
        quoted = quoted.replace(hole, reference)
    return quoted
