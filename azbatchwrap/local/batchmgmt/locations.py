"""What a location offers: quotas, and the sizes of machines. All locations are this machine."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

from azbatchwrap.local.arm.errors import bad_request
from azbatchwrap.local.arm.exchange import Answer, Request, page
from azbatchwrap.local.arm.router import Route

if TYPE_CHECKING:
    from azbatchwrap.local.arm.service import Arm

#: (size, family, processors, memory in GB): a selection. The service takes any name, and no node is any larger for it.
SIZES: tuple[tuple[str, str, int, float], ...] = (
    ("Standard_A1_v2", "standardAv2Family", 1, 2),
    ("Standard_A2_v2", "standardAv2Family", 2, 4),
    ("Standard_A4_v2", "standardAv2Family", 4, 8),
    ("Standard_D1_v2", "standardDv2Family", 1, 3.5),
    ("Standard_D2_v2", "standardDv2Family", 2, 7),
    ("Standard_D2s_v3", "standardDSv3Family", 2, 8),
    ("Standard_D4s_v3", "standardDSv3Family", 4, 16),
    ("Standard_D8s_v3", "standardDSv3Family", 8, 32),
    ("Standard_D16s_v3", "standardDSv3Family", 16, 64),
    ("Standard_D2s_v5", "standardDSv5Family", 2, 8),
    ("Standard_D4s_v5", "standardDSv5Family", 4, 16),
    ("Standard_E2s_v5", "standardESv5Family", 2, 16),
    ("Standard_E4s_v5", "standardESv5Family", 4, 32),
    ("Standard_F2s_v2", "standardFSv2Family", 2, 4),
    ("Standard_F4s_v2", "standardFSv2Family", 4, 8),
    ("Standard_F8s_v2", "standardFSv2Family", 8, 16),
    ("Standard_NC4as_T4_v3", "Standard NCASv3_T4 Family", 4, 28),
    ("Standard_HB120rs_v3", "standardHBrsv3Family", 120, 448),
)
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
