"""Compute clusters. They have no machines: jobs run on this one, whatever the size says."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from azbatchwrap.local.aml import names
from azbatchwrap.local.arm.errors import ArmError, bad_request
from azbatchwrap.local.arm.exchange import Answer, Request
from azbatchwrap.local.arm.ids import ResourceId
from azbatchwrap.local.arm.operations import timestamp
from azbatchwrap.local.arm.resources import Document
from azbatchwrap.local.arm.router import Route

if TYPE_CHECKING:
    from azbatchwrap.local.arm.service import Arm

#: Sizes: name -> (family, processors, memory in GB).
SIZES = {
    "Standard_D2_v2": ("standardDv2Family", 2, 7.0),
    "Standard_D2_v3": ("standardDv3Family", 2, 8.0),
    "Standard_DS3_v2": ("standardDSv2Family", 4, 14.0),
    "Standard_D4s_v3": ("standardDSv3Family", 4, 16.0),
    "Standard_F4s_v2": ("standardFSv2Family", 4, 8.0),
    "Standard_NC6s_v3": ("standardNCSv3Family", 6, 112.0),
}
#: Processors that a family may use in one region.
QUOTA = 100
_SIZE = re.compile(r"STANDARD_[A-Z]+\d+\w*\Z", re.IGNORECASE | re.ASCII)


def prepare(_arm: Arm, rid: ResourceId, document: Document, before: Document | None) -> Document:
    names.check(rid)
    properties = document["properties"]
    kept = (before or {}).get("properties", {})
    if not properties.get("computeType"):
        raise bad_request("The computeType is missing.", "BadArgument")
    if properties["computeType"] == "AmlCompute":
        _prepare_cluster(rid, properties, kept.get("properties"))
    properties["createdOn"] = kept.get("createdOn") or timestamp()
    properties["modifiedOn"] = timestamp()
    properties["isAttachedCompute"] = False
    properties["provisioningErrors"] = None
    return document


def _prepare_cluster(rid: ResourceId, properties: dict[str, Any], kept: dict[str, Any] | None) -> None:
    inner = properties.get("properties") or {}
    size = str(inner.get("vmSize") or (kept or {}).get("vmSize") or "")
    if not _SIZE.match(size):
        raise bad_request(f"The VM size '{size}' of the compute {rid.name} is not known.", "BadArgument")
    if kept is not None and kept["vmSize"].lower() != size.lower():
        raise bad_request(f"The vmSize of the compute {rid.name} cannot be changed.", "BadArgument")
    scale = {"minNodeCount": 0, "maxNodeCount": 1, "nodeIdleTimeBeforeScaleDown": "PT120S"}
    scale |= {name: value for name, value in (inner.get("scaleSettings") or {}).items() if value is not None}
    low, high = scale["minNodeCount"], scale["maxNodeCount"]
    if not isinstance(low, int) or not isinstance(high, int) or not 0 <= low <= high:
        raise bad_request(f"The scale settings of {rid.name} are impossible: {low} to {high} nodes.", "BadArgument")
    processors = _processors(size) * high
    if processors > QUOTA:
        raise ArmError(
            400,
            "ClusterCoreQuotaReached",
            f"The compute {rid.name} could need {processors} cores; the subscription has a quota of {QUOTA}.",
        )
    defaults = {"osType": "Linux", "vmPriority": "Dedicated", "remoteLoginPortPublicAccess": "NotSpecified"}
    given = {name: value for name, value in inner.items() if value is not None}
    properties["properties"] = {**defaults, **given, "vmSize": size.upper(), "scaleSettings": scale} | {
        "enableNodePublicIp": given.get("enableNodePublicIp", True),
        "allocationState": "Steady",
        "allocationStateTransitionTime": timestamp(),
        "currentNodeCount": low,
        "targetNodeCount": low,
        "errors": None,
        "nodeStateCounts": {
            "idleNodeCount": low,
            "runningNodeCount": 0,
            "preparingNodeCount": 0,
            "unusableNodeCount": 0,
            "leavingNodeCount": 0,
            "preemptedNodeCount": 0,
        },
    }


def _processors(size: str) -> int:
    digits = re.search(r"\d+", size)
    return int(digits.group()) if digits else 1


def _sizes(_arm: Arm, _request: Request) -> Answer:
    sizes = [
        {
            "name": name,
            "family": family,
            "vCPUs": processors,
            "memoryGB": memory,
            "gpus": 1 if "NC" in name else 0,
            "osVhdSizeMB": 1_047_552,
            "maxResourceVolumeMB": 102_400,
            "lowPriorityCapable": True,
            "premiumIO": True,
            "supportedComputeTypes": ["AmlCompute"],
        }
        for name, (family, processors, memory) in SIZES.items()
    ]
    return Answer(200, {"value": sizes})


def _usages(arm: Arm, request: Request) -> Answer:
    """How many processors each family's clusters could use at their largest."""
    subscription, location = request.names[:2]
    used: dict[str, int] = {}
    families = {name.lower(): family for name, (family, _, _) in SIZES.items()}
    for document in arm.resources.below(f"/subscriptions/{subscription}", f"{names.WORKSPACE}/computes"):
        inner = document["properties"].get("properties") or {}
        if document.get("location") == location and "vmSize" in inner:
            family = families.get(inner["vmSize"].lower(), "otherFamily")
            used[family] = used.get(family, 0) + _processors(inner["vmSize"]) * inner["scaleSettings"]["maxNodeCount"]
    usages = [
        {
            "id": f"{request.path}/{family}",
            "type": f"{names.WORKSPACE}/dedicatedCores/usages",
            "amlWorkspaceLocation": location,
            "unit": "Count",
            "currentValue": used.get(family, 0),
            "limit": QUOTA,
            "name": {"value": family, "localizedValue": family},
        }
        for family in sorted({*families.values(), *used})
    ]
    return Answer(200, {"value": usages})


SUBSCRIPTION_ROUTES: list[Route] = [
    ("GET", "/locations/{}/vmSizes", _sizes),
    ("GET", "/locations/{}/usages", _usages),
]
