"""The management plane of an instance (Azure Resource Manager and Azure Machine Learning) as a process of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from azbatchwrap.config import Secret
from azbatchwrap.local import processes
from azbatchwrap.local.arm.certificate import Certificate, trusting
from azbatchwrap.local.arm.names import CLIENT_ID, SUBSCRIPTION, TENANT
from azbatchwrap.local.instance import write_private

#: It answers within a second, on a busy machine within a few (seconds).
START_TIMEOUT = 60.0
#: Jobs that run are killed, and run again after the next start (seconds).
STOP_GRACE = 10.0


@dataclass(frozen=True, slots=True)
class ManagementService:
    """Its data lie in ``folder``, its certificate beside them; ``storage`` is the account behind all storage accounts."""

    folder: Path
    log: Path
    secret: Secret
    port: int
    storage: Secret
    #: The Batch service whose management side is here: account, key, url, tls_port.
    batch: Mapping[str, Any] = field(repr=False)
    max_processes: int | None = None
    #: Faults to set at the start, in place of those of the last run; ``None`` keeps those (see arm/faults.py).
    faults: tuple[Mapping[str, Any], ...] | None = None

    @property
    def service(self) -> processes.Service:
        mark = str(self.folder / "service.json")
        return processes.Service("the management service", self.folder / "listening.json", self.log, mark)

    @property
    def url(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    @property
    def certificate(self) -> Certificate:
        return Certificate(self.folder.with_name("tls"))

    def start(self) -> subprocess.Popen[bytes]:
        self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        settings = Path(self.service.mark)
        content = {
            "data_dir": str(self.folder),
            "certificates": str(self.certificate.folder),
            "client_secret": self.secret.reveal(),
            "storage": self.storage.reveal(),
            "port": self.port,
            "max_processes": self.max_processes or os.cpu_count() or 1,
            "batch": dict(self.batch),
            "faults": None if self.faults is None else list(self.faults),
        }
        write_private(settings, content)
        command = [sys.executable, "-m", "azbatchwrap.local.arm", "--config", str(settings)]
        return processes.spawn(self.service, command, folder=self.folder)

    def stop(self) -> bool:
        return processes.stop(self.service, STOP_GRACE)

    def facts(self) -> dict[str, Any]:
        """What ``endpoint.json`` says of it."""
        return {
            "url": self.url,
            "subscription_id": SUBSCRIPTION,
            "tenant_id": TENANT,
            "client_id": CLIENT_ID,
            "client_secret": self.secret.reveal(),
            "ca_bundle": str(self.certificate.write_bundle(os.environ)),
            "pid": (self.service.listens() or {}).get("pid"),
        }


def variables(facts: Mapping[str, Any]) -> dict[str, str]:
    """What lets azure-ai-ml, azure-mgmt-* and azure-identity find the service; ``facts`` as in ``endpoint.json``."""
    return {
        "ARM_CLOUD_METADATA_URL": f"{facts['url']}/metadata/endpoints?api-version=2019-05-01",
        **trusting(facts["ca_bundle"]),
        "AZURE_AUTHORITY_HOST": facts["url"],
        "AZURE_TENANT_ID": facts["tenant_id"],
        "AZURE_CLIENT_ID": facts["client_id"],
        "AZURE_CLIENT_SECRET": facts["client_secret"],
        "AZURE_SUBSCRIPTION_ID": facts["subscription_id"],
    }
