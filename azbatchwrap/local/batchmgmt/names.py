"""The resource types of `Microsoft.Batch` and where the instance's account lies from the start."""

from __future__ import annotations

NAMESPACE = "Microsoft.Batch"
ACCOUNT = f"{NAMESPACE}/batchAccounts"
APPLICATION = f"{ACCOUNT}/applications"
PACKAGE = f"{APPLICATION}/versions"
#: The group and the region of what is there from the start.
GROUP = "azbatchwrap"
LOCATION = "local"
