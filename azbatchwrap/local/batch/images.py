"""The images that pools may ask for, as the service lists them today; Linux ones run on this machine."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from azbatchwrap.local.batch import odata
from azbatchwrap.local.batch.errors import bad_property
from azbatchwrap.local.batch.exchange import Request, Response
from azbatchwrap.local.batch.lists import answer

if TYPE_CHECKING:
    from azbatchwrap.local.batch.service import Service

_GEN2 = ("Generation2VMImage",)
_DOCKER = ("DockerCompatible", "NvidiaTeslaDriverInstalled")
_HPC = (*_DOCKER, "SupportsRDMAOnly", "IntelMPIRuntimeInstalled", *_GEN2)

#: publisher, offer, sku, node agent, capabilities, is verified, end of support
_IMAGES: tuple[tuple[str, str, str, str, tuple[str, ...], bool, str], ...] = (
    ("almalinux", "almalinux-x86_64", "8-gen2", "batch.node.el 8", _GEN2, False, "2029-03-01T00:00:00Z"),
    ("almalinux", "almalinux-x86_64", "9-gen2", "batch.node.el 9", _GEN2, False, "2032-05-31T00:00:00Z"),
    ("canonical", "0001-com-ubuntu-server-jammy", "22_04-lts", "batch.node.ubuntu 22.04", (), True, ""),
    ("canonical", "0001-com-ubuntu-server-jammy", "22_04-lts-gen2", "batch.node.ubuntu 22.04", _GEN2, True, ""),
    ("canonical", "ubuntu-24_04-lts", "server", "batch.node.ubuntu 24.04", _GEN2, True, ""),
    ("canonical", "ubuntu-24_04-lts", "server-gen1", "batch.node.ubuntu 24.04", (), True, ""),
    ("debian", "debian-11", "11", "batch.node.debian 11", (), True, "2026-08-31T00:00:00Z"),
    ("debian", "debian-11", "11-gen2", "batch.node.debian 11", _GEN2, True, "2026-08-31T00:00:00Z"),
    ("debian", "debian-12", "12", "batch.node.debian 12", (), True, "2028-06-30T00:00:00Z"),
    ("debian", "debian-12", "12-gen2", "batch.node.debian 12", _GEN2, True, "2028-06-30T00:00:00Z"),
    ("microsoft-dsvm", "ubuntu-hpc", "2204", "batch.node.ubuntu 22.04", _HPC, True, ""),
    ("microsoft-dsvm", "ubuntu-hpc", "2404", "batch.node.ubuntu 24.04", _HPC, True, ""),
    ("microsoftwindowsserver", "windowsserver", "2019-datacenter", "batch.node.windows amd64", (), True, ""),
    ("microsoftwindowsserver", "windowsserver", "2022-datacenter", "batch.node.windows amd64", (), True, ""),
    ("microsoftwindowsserver", "windowsserver", "2022-datacenter-g2", "batch.node.windows amd64", _GEN2, True, ""),
    ("microsoftwindowsserver", "windowsserver", "2025-datacenter", "batch.node.windows amd64", _GEN2, True, ""),
    ("resf", "rockylinux-x86_64", "8-base", "batch.node.el 8", _GEN2, False, "2029-05-31T00:00:00Z"),
    ("resf", "rockylinux-x86_64", "9-base", "batch.node.el 9", _GEN2, False, "2032-05-31T00:00:00Z"),
)


_GALLERY = "/images/{image}/versions/{version}"
_COMPUTE = "/subscriptions/{subscription}/resourceGroups/{group}/providers/Microsoft.Compute"
#: Where images of one's own lie.
_FORMATS = {
    "virtualMachineImageId": f"{_COMPUTE}/galleries/{{gallery}}{_GALLERY}",
    "sharedGalleryImageId": f"/sharedGalleries/{{gallery}}{_GALLERY}",
    "communityGalleryImageId": f"/communityGalleries/{{gallery}}{_GALLERY}",
}


def _pattern(form: str) -> re.Pattern[str]:
    """The version may be left out, and a managed image of former times lies in no gallery."""
    text = re.sub(r"{\w+}", "[^/]+", form)
    for optional in ("/versions/[^/]+", "/galleries/[^/]+"):
        text = text.replace(optional, f"({optional})?")
    return re.compile(rf"{text}\Z", re.IGNORECASE)


_OWN_IMAGES = {name: _pattern(form) for name, form in _FORMATS.items()}


def _entry(row: tuple[str, str, str, str, tuple[str, ...], bool, str]) -> dict[str, Any]:
    publisher, offer, sku, agent, capabilities, is_verified, end = row
    entry: dict[str, Any] = {
        "imageReference": {"publisher": publisher, "offer": offer, "sku": sku, "version": "latest"},
        "verificationType": "verified" if is_verified else "unverified",
        "nodeAgentSKUId": agent,
    }
    if capabilities:
        entry["capabilities"] = list(capabilities)
    if end:
        entry["batchSupportEndOfLife"] = end
    entry["osType"] = "windows" if "windows" in agent else "linux"
    return entry


SUPPORTED = tuple(_entry(row) for row in _IMAGES)
_AGENTS = {tuple(row[:3]): row[3] for row in _IMAGES}


def list_supported(_service: Service, request: Request) -> Response:
    return answer(
        request,
        "supportedimages",
        SUPPORTED,
        lambda entry: [entry["imageReference"][name] for name in ("publisher", "offer", "sku")],
        view=lambda entry: entry,
        fields=odata.SUPPORTED_IMAGES,
    )


def list_node_agents(_service: Service, request: Request) -> Response:
    """The same the other way round, as api-versions up to 2018 have it: node agents with the images verified for them."""
    agents: dict[str, dict[str, Any]] = {}
    for entry in SUPPORTED:
        empty = {"id": entry["nodeAgentSKUId"], "verifiedImageReferences": [], "osType": entry["osType"]}
        agent = agents.setdefault(entry["nodeAgentSKUId"], empty)
        if entry["verificationType"] == "verified":
            agent["verifiedImageReferences"].append(entry["imageReference"])
    return answer(
        request,
        "accountlistnodeagentskus",
        agents.values(),
        lambda agent: agent["id"],
        view=lambda agent: agent,
        fields=odata.NODE_AGENTS,
    )


def check(machine: dict[str, Any]) -> None:
    """Raises InvalidPropertyValue for an image that is not offered or does not fit its node agent; fills defaults."""
    image = machine["imageReference"]
    agent = machine["nodeAgentSKUId"].lower()
    own = next((name for name in _OWN_IMAGES if name in image), None)
    if own is not None:
        if _OWN_IMAGES[own].match(image[own]) is None:
            raise bad_property(own, image[own], f"The specified resource id must be of the format {_FORMATS[own]}.")
        return
    image.setdefault("version", "latest")
    key = tuple(str(image.get(name, "")).lower() for name in ("publisher", "offer", "sku"))
    expected = _AGENTS.get(key)
    if expected is None:
        publisher, offer, sku = key
        reason = f"The specified imageReference with publisher {publisher} offer {offer} sku {sku} is not supported."
        raise bad_property("imageReference", image, reason)
    if agent != expected:
        reason = f"The image needs the node agent '{expected}'."
        raise bad_property("nodeAgentSKUId", machine["nodeAgentSKUId"], reason)


def is_windows(machine: dict[str, Any] | None) -> bool:
    """Whether the nodes would run Windows, which this machine cannot offer."""
    return machine is not None and "windows" in machine["nodeAgentSKUId"].lower()
