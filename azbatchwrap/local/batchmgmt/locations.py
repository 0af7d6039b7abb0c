"""What a location offers: quotas, and the sizes of machines. All locations are this machine."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from azbatchwrap.local.arm.errors import bad_request
from azbatchwrap.local.arm.exchange import Answer, Request, page
from azbatchwrap.local.arm.router import Route
from azbatchwrap.local.batch.sizes import SIZES

if TYPE_CHECKING:
    from azbatchwrap.local.arm.service import Arm

_FAMILY = re.compile(r"\s*familyName\s+eq\s+'([^']*)'\s*\Z", re.IGNORECASE)


def quotas(_arm: Arm, _request: Request) -> Answer:
    """An instance has one account."""
    return Answer(200, {"accountQuota": 1})


def sizes(_arm: Arm, request: Request) -> Answer:
    """``$filter`` knows ``familyName eq '…'``."""
    wanted = request.query.get("$filter", "")
    match = _FAMILY.match(wanted)
    if wanted and match is None:
        raise bad_request("$filter knows familyName eq '…' here.", "InvalidFilter")
    family = match.group(1).lower() if match is not None else None
    return page(request, [_size(*each) for each in SIZES if family in {None, each[1].lower()}])


def _size(name: str, family: str, processors: int, memory: float) -> dict[str, Any]:
    capabilities = [{"name": "vCPUs", "value": str(processors)}, {"name": "MemoryGB", "value": f"{memory:g}"}]
    return {"name": name, "familyName": family, "capabilities": capabilities}


ROUTES: list[Route] = [
    ("GET", "/locations/{}/quotas", quotas),
    ("GET", "/locations/{}/virtualMachineSkus", sizes),
]
