"""The keys of a batchcreate configuration: what each means, may hold, and holds when nothing is given."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Literal

Value = str | int | list[str] | dict[str, str]


@dataclass(frozen=True, slots=True)
class Key:
    """One key. ``pattern`` is for text, with ``rule`` in words; ``lowest`` and ``highest`` are for whole numbers."""

    name: str
    default: Value | None
    help: str
    kind: Literal["text", "whole", "path", "words", "pairs"] = "text"
    #: One of the fourteen keys of the first description.
    is_original: bool = False
    is_required: bool = False
    pattern: str = ""
    rule: str = ""
    choices: tuple[str, ...] = ()
    lowest: int = 0
    highest: int = 2**31 - 1

    @property
    def variable(self) -> str:
        """The environment variable that may hold it."""
        snake = re.sub(r"(?<=[a-z])(?=[A-Z])", "_", self.name).upper()
        return f"AZBATCHWRAP_AML_{snake}"


_GUID = r"[0-9a-fA-F]{8}(-[0-9a-fA-F]{4}){3}-[0-9a-fA-F]{12}"
_CONTAINER = r"(?=.{3,63}\Z)[a-z0-9]+(-[a-z0-9]+)*"
_CONTAINER_RULE = "3 to 63 lower-case letters, digits and single inner hyphens"
#: Batch endpoints and their deployments are named like hosts.
_ENDPOINT = r"(?=.{3,32}\Z)[a-zA-Z]([-a-zA-Z0-9]*[a-zA-Z0-9])?"
_ENDPOINT_RULE = "3 to 32 letters, digits and hyphens; a letter first, no hyphen last"

KEYS: tuple[Key, ...] = (
    Key("subid", None, "subscription id", is_original=True, is_required=True, pattern=_GUID,
        rule="an id such as 01234567-89ab-cdef-0123-456789abcdef"),
    Key("resourceGroup", "batchscoring", "resource group that holds everything", is_original=True,
        pattern=r"[-\w.()]{0,89}[-\w()]", rule="1 to 90 letters, digits, and -_.() without a full stop at the end"),
    Key("region", "eastus", "Azure region, for example eastus or 'West Europe'", is_original=True,
        pattern=r"[A-Za-z][A-Za-z0-9 ]+", rule="letters and digits"),
    Key("workspace", "batchscoring", "Azure Machine Learning workspace", is_original=True,
        pattern=r"[A-Za-z0-9][\w-]{2,32}", rule="3 to 33 letters, digits, - and _"),
    Key("experiment", "simple_experiment", "experiment under which runs are listed", is_original=True,
        pattern=r"[A-Za-z0-9][\w-]{0,254}", rule="letters, digits, - and _"),
    Key("batch_compute_name", "batchscoring", "compute cluster", is_original=True,
        pattern=r"[A-Za-z](?=.{2,31}\Z)[A-Za-z0-9-]*[A-Za-z0-9]",
        rule="3 to 32 letters, digits and hyphens; a letter first, no hyphen last"),
    Key("batch_vm_size", "Standard_DS3_v2", "size of its machines", is_original=True,
        pattern=r"[A-Za-z]+_[A-Za-z0-9_-]+", rule="a size such as Standard_DS3_v2"),
    Key("batch_vm_min", 0, "machines that are always on, and always paid for", "whole", is_original=True,
        highest=10_000),
    Key("batch_vm_max", 2, "machines at most", "whole", is_original=True, lowest=1, highest=10_000),
    Key("source_container", "source", "blob container of the data to score", is_original=True,
        pattern=_CONTAINER, rule=_CONTAINER_RULE),
    Key("result_container", "result", "blob container of the results", is_original=True,
        pattern=_CONTAINER, rule=_CONTAINER_RULE),
    Key("pipeline_name", "simple_pipeline", "name of the pipeline (of the model, where there is one)",
        is_original=True, pattern=r"[A-Za-z0-9][\w-]{0,200}", rule="letters, digits, - and _"),
    Key("schedule_frequency", None, "run every so many of these; none: no schedule", is_original=True,
        choices=("Minute", "Hour", "Day", "Week", "Month")),
    Key("schedule_interval", 1, "how many of schedule_frequency lie between two runs", "whole", is_original=True,
        lowest=1, highest=1000),
    Key("endpoint_name", None, "batch endpoint, unique in its region (default: made from pipeline_name)",
        pattern=_ENDPOINT, rule=_ENDPOINT_RULE),
    Key("deployment_name", "scoring", "deployment on the endpoint", pattern=_ENDPOINT, rule=_ENDPOINT_RULE),
    Key("score_script", None, "script that scores; its folder is uploaded (default: the built-in example)", "path"),
    Key("score_arguments", ["{data}", "{output}"], "its arguments; {data} and {output} stand for folders or files",
        "words"),
    Key("data", None, "file or folder with the data to score (default: the built-in example)", "path"),
    Key("conda_file", None, "conda environment of the script (default: what the image has)", "path"),
    Key("image", "mcr.microsoft.com/azureml/openmpi4.1.0-ubuntu22.04:latest", "base image of the environment",
        pattern=r"[^\s]+", rule="an image without blanks"),
    Key("model", None, "file or folder of a model: makes a model deployment with mini-batches", "path"),
    Key("mini_batch_size", 10, "files that the script's run() gets at a time (with a model)", "whole", lowest=1),
    Key("batch_vm_priority", "Dedicated", "Dedicated, or cheap machines that may be taken away",
        choices=("Dedicated", "LowPriority")),
    Key("batch_vm_idle", 120, "seconds after which an idle machine is given back", "whole", lowest=60,
        highest=86_400),
    Key("container_registry", "auto", "auto: when an image has to be built", choices=("auto", "yes", "no")),
    Key("soft_deleted", "recover", "what to do about a deleted workspace or key vault of the same name",
        choices=("recover", "purge", "refuse")),
    Key("tags", {}, "further tags of everything that is made", "pairs"),
)  # fmt: skip

BY_NAME = {key.name: key for key in KEYS}
