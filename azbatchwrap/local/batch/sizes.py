"""Sizes of machines. The service takes any name, and no node is any larger for it."""

from __future__ import annotations

import re

#: (size, family, processors, memory in GB): a selection.
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
#: Names of sizes tell the processors: the first number after the family's letters.
_PROCESSORS = re.compile(r"(?:standard_|basic_)?[a-z]+(\d+)", re.IGNORECASE)


def processors(size: str) -> int:
    """How many processors a size has by its name; 1 where the name does not tell."""
    found = _PROCESSORS.match(size)
    return int(found.group(1)) if found else 1
