"""Where everything lies: deterministic names, and the addresses of resources."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

from azbatchwrap.pipelines.settings import Settings

#: Tag on whatever batchcreate made; without it a resource is somebody else's.
MANAGED_TAG = "azbatchwrap"
MANAGED_VALUE = "batchcreate"

WORKSPACES = "Microsoft.MachineLearningServices/workspaces"
STORAGE_ACCOUNTS = "Microsoft.Storage/storageAccounts"
VAULTS = "Microsoft.KeyVault/vaults"
LOG_WORKSPACES = "Microsoft.OperationalInsights/workspaces"
INSIGHTS = "Microsoft.Insights/components"
REGISTRIES = "Microsoft.ContainerRegistry/registries"

#: Names of the two datastores, and of the input and output of what is deployed.
SOURCE_STORE, RESULT_STORE = "inputdata", "outputdata"
INPUT, OUTPUT = "data", "scores"
STEP = "score"


@dataclass(frozen=True, slots=True)
class Place:
    """Names that follow from the settings alone: the same settings find the same resources again."""

    settings: Settings

    @property
    def group(self) -> str:
        return f"/subscriptions/{self.settings.subid.lower()}/resourceGroups/{self.settings.resource_group}"

    @property
    def workspace(self) -> str:
        return self.of(WORKSPACES, self.settings.workspace)

    def of(self, kind: str, name: str) -> str:
        """The address of a top-level resource of the group."""
        return f"{self.group}/providers/{kind}/{name}"

    def inside(self, *pairs: str) -> str:
        """The address of something in the workspace: ``inside("computes", name)``."""
        return "/".join((self.workspace, *pairs))

    @property
    def _token(self) -> str:
        """Tells workspaces of one name apart: names of storage accounts, vaults and endpoints are shared with strangers."""
        words = (self.settings.subid, self.settings.resource_group, self.settings.workspace)
        return hashlib.sha256("/".join(words).lower().encode()).hexdigest()[:10]

    def _slug(self, length: int) -> str:
        return re.sub(r"[^a-z0-9]", "", self.settings.workspace.lower())[:length]

    @property
    def storage_account(self) -> str:
        return self.of(STORAGE_ACCOUNTS, f"st{self._slug(12)}{self._token}")

    @property
    def key_vault(self) -> str:
        return self.of(VAULTS, f"kv{self._slug(12)}{self._token}")

    @property
    def log_workspace(self) -> str:
        return self.of(LOG_WORKSPACES, f"log-{self._slug(20)}-{self._token}")

    @property
    def insights(self) -> str:
        return self.of(INSIGHTS, f"appi-{self._slug(20)}-{self._token}")

    @property
    def registry(self) -> str:
        return self.of(REGISTRIES, f"cr{self._slug(20)}{self._token}")

    @property
    def location(self) -> str:
        return normal_location(self.settings.region)

    @property
    def endpoint(self) -> str:
        """Endpoints are named like hosts, and share their region with everybody: ``simple_pipeline`` cannot be one."""
        if self.settings.endpoint_name:
            return self.settings.endpoint_name
        slug = re.sub(r"[^a-z0-9]+", "-", self.settings.pipeline_name.lower()).strip("-")[:25].strip("-")
        return f"{slug if slug[:1].isalpha() else 'p-' + slug[:23]}-{self._token[:6]}"

    @property
    def step_component(self) -> str:
        return f"{self.settings.pipeline_name}_{STEP}"

    @property
    def schedule(self) -> str:
        return f"{self.settings.pipeline_name}_sched"


def normal_location(text: str) -> str:
    """``East US`` and ``eastus`` are one region."""
    return text.lower().replace(" ", "")


def last_word(address: str) -> str:
    """The name in an address."""
    return address.rstrip("/").rpartition("/")[2]
