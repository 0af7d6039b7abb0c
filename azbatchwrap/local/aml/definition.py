"""What a job runs: its own command, its pipeline, or what the deployment of a batch endpoint says."""

from __future__ import annotations

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from azbatchwrap.local.aml import assets, names, plan, scorer
from azbatchwrap.local.aml.plan import Given, PlanError, Step, Wanted
from azbatchwrap.local.arm import ids
from azbatchwrap.local.arm.resources import Document

if TYPE_CHECKING:
    from azbatchwrap.local.arm.service import Arm


def steps_of(arm: Arm, document: Document) -> list[Step]:
    """The steps of a job, each after those it needs. Raises PlanError, ArmError."""
    properties, definition = document["properties"], document["_definition"]
    if definition["kind"] == "command":
        return [plan.command(properties)]
    workspace = names.workspace_of(ids.parse(document["id"]))

    def lookup(reference: str) -> Mapping[str, Any]:
        found: Mapping[str, Any] = assets.find_version(arm, workspace, reference)["properties"]["componentSpec"]
        return found

    inputs = {name: plan.read_input(name, given) for name, given in (properties.get("inputs") or {}).items()}
    wanted = {name: plan.read_output(given) for name, given in (properties.get("outputs") or {}).items()}
    outputs = {name: Wanted(each.is_file, each.address, name) for name, each in wanted.items()}
    if definition["kind"] == "pipeline":
        compute = (properties.get("settings") or {}).get("default_compute")
        return plan.pipeline(properties.get("jobs") or {}, inputs, outputs, compute, lookup)
    deployment = deployment_of(arm, document)
    if deployment is None:
        raise PlanError("its deployment is gone")
    if not deployment.get("deploymentConfiguration"):
        return [_scoring_step({**deployment, **definition.get("overrides", {})}, inputs, outputs)]
    return _component_steps(deployment["deploymentConfiguration"], inputs, outputs, lookup)


def deployment_of(arm: Arm, document: Document) -> dict[str, Any] | None:
    """The properties of the deployment that a job belongs to, if it does."""
    found = arm.resources.find_key(str(document["_definition"].get("deployment", "")).lower())
    return dict(found["properties"]) if found is not None else None


def goes_on_after_failures(arm: Arm, document: Document) -> bool:
    """Whether what does not need a failed step runs all the same."""
    settings = document["properties"].get("settings") or {}
    deployment = deployment_of(arm, document)
    if deployment is not None:
        settings = (deployment.get("deploymentConfiguration") or {}).get("settings") or {}
    return str(settings.get("continue_on_step_failure", "")).lower() == "true"


def _component_steps(
    configuration: Mapping[str, Any],
    inputs: Mapping[str, Given],
    outputs: Mapping[str, Wanted],
    lookup: plan.Lookup,
) -> list[Step]:
    """A deployed component: a pipeline, or one command."""
    reference = configuration["componentId"]["assetId"]
    specification = lookup(reference)
    declared = specification.get("outputs") or {}
    unknown = sorted(set(outputs) - set(declared))
    if unknown:
        raise PlanError(f"unknown outputs: {', '.join(unknown)}")
    inputs = plan.defaulted(specification.get("inputs") or {}, inputs)
    compute = (configuration.get("settings") or {}).get("default_compute")
    jobs = specification.get("jobs") or {}
    if specification.get("type") != "pipeline":
        node = {
            "componentId": reference,
            "inputs": {name: {"value": f"${{{{parent.inputs.{name}}}}}"} for name in inputs},
            "outputs": {name: {"value": f"${{{{parent.outputs.{name}}}}}"} for name in declared},
        }
        jobs = {"step": node}
    return plan.pipeline(jobs, inputs, outputs, compute, lookup)


def _scoring_step(deployment: Mapping[str, Any], inputs: Mapping[str, Given], outputs: Mapping[str, Wanted]) -> Step:
    """The one step of a model deployment: our scorer runs its script over the one input's files. Raises PlanError."""
    files = [name for name, given in inputs.items() if given.is_file]
    if len(files) != 1:
        raise PlanError(f"a model deployment takes one input of files, not {len(files)}")
    configuration = deployment.get("codeConfiguration") or {}
    model = (deployment.get("model") or {}).get("assetId")
    if not configuration.get("codeId") or not model:
        raise PlanError("its deployment has no scoring script or no model")
    wanted = next(iter(outputs.values()), Wanted())
    words = {
        "script": configuration["scoringScript"],
        "input": "${{inputs.data}}",
        "output": "${{outputs.score}}",
        # An output that is one file has its name already.
        "output-file": "" if wanted.is_file else deployment.get("outputFileName") or "predictions.csv",
        "output-action": deployment.get("outputAction") or "AppendRow",
        "mini-batch-size": _whole(deployment, "miniBatchSize", 10),
        "error-threshold": _whole(deployment, "errorThreshold", -1),
        "max-retries": _whole(deployment.get("retrySettings") or {}, "maxRetries", 0),
    }
    flags = " ".join(
        f"--{name} {value if '{{' in str(value) else shlex.quote(str(value))}" for name, value in words.items()
    )
    return Step(
        name="batchscoring",
        command=f"exec python {shlex.quote(str(Path(scorer.__file__)))} {flags}",
        code=configuration["codeId"],
        environment=deployment.get("environmentId"),
        inputs={"data": inputs[files[0]], "model": Given(f"azureml:{model}", is_file=True)},
        outputs={"score": Wanted(wanted.is_file, wanted.address, parent_output=next(iter(outputs), "score"))},
        variables={
            **(deployment.get("environmentVariables") or {}),
            "AZUREML_MODEL_DIR": "${{inputs.model}}",
            "AZUREML_BI_OUTPUT_PATH": "${{outputs.score}}",
        },
        compute=deployment.get("compute"),
    )


def _whole(given: Mapping[str, Any], name: str, default: int) -> int:
    value = given.get(name)
    try:
        return default if value is None else int(value)
    except (TypeError, ValueError) as error:
        raise PlanError(f"{name} must be a whole number, not {value!r}") from error
