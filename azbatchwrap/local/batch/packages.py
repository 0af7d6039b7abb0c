"""Application packages on nodes: fetched once per node and version, unpacked, and named to tasks by a variable."""

from __future__ import annotations

import asyncio
import re
import secrets
import shutil
import zipfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from azbatchwrap.local.batch.model import Node
from azbatchwrap.local.batch.node import Failure, TaskFailure

if TYPE_CHECKING:
    from azbatchwrap.local.batch.service import Service

Reference = Mapping[str, str]


def variable(application: str, version: str | None = None) -> str:
    """``AZ_BATCH_APP_PACKAGE_<id>[_<version>]`` as Linux nodes spell it."""
    words = "_".join(word for word in (application, version) if word)
    return f"AZ_BATCH_APP_PACKAGE_{re.sub(r'[^A-Za-z0-9_]', '_', words)}"


async def deploy(service: Service, node: Node, references: Iterable[Reference] | None = None) -> None:
    """Put the pool's packages and these on the node, unless they are there.

    Raises TaskFailure when a package is gone or is no zip file.
    """
    for reference in _all(node, references):
        application, version = _resolved(service, reference)
        if application is None or version not in application["versions"]:
            raise TaskFailure(_missing(reference))
        await _deployed(service, application["versions"][version], _folder(node, application["id"], version))


def variables(service: Service, node: Node, references: Iterable[Reference] | None = None) -> dict[str, str]:
    """The variables that name the packages' folders; a reference without a version has one without it as well."""
    found: dict[str, str] = {}
    for reference in _all(node, references):
        application, version = _resolved(service, reference)
        if application is None:
            continue
        folder = str(_folder(node, application["id"], version))
        found[variable(application["id"], version)] = folder
        if not reference.get("version"):
            found[variable(application["id"])] = folder
    return found


def _all(node: Node, references: Iterable[Reference] | None) -> list[Reference]:
    return [*(node.pool.spec.get("applicationPackageReferences") or ()), *(references or ())]


def _resolved(service: Service, reference: Reference) -> tuple[dict[str, Any] | None, str]:
    application = service.applications.get(reference["applicationId"].lower())
    return application, reference.get("version") or (application or {}).get("defaultVersion") or ""


def _folder(node: Node, application: str, version: str) -> Path:
    return node.place.root / "applications" / application / version


def _missing(reference: Reference) -> Failure:
    details = (("ApplicationId", reference["applicationId"]), ("Version", reference.get("version") or "(default)"))
    return Failure("UserError", "BlobNotFound", "An application package that the task names does not exist", details)


async def _deployed(service: Service, url: str, folder: Path) -> None:
    """Whoever comes first unpacks the package, the others wait."""
    if _is_there(folder):
        return
    async with service.package_locks.setdefault(str(folder), asyncio.Lock()):
        if not _is_there(folder):
            await _deploy(service, url, folder)
    service.package_locks.pop(str(folder), None)


def _is_there(folder: Path) -> bool:
    return folder.is_dir()


async def _deploy(service: Service, url: str, folder: Path) -> None:
    beside = folder.with_name(f".{folder.name}-{secrets.token_hex(4)}")
    beside.mkdir(parents=True)
    try:
        await service.transfers.download([{"httpUrl": url, "filePath": "package.zip"}], beside)
        await asyncio.to_thread(_unpack, beside / "package.zip", beside / "content")
        (beside / "content").rename(folder)
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        details = (("Message", str(error)),)
        raise TaskFailure(
            Failure("UserError", "ResourceFileCreateFailed", "An application package cannot be unpacked", details)
        ) from error
    finally:
        shutil.rmtree(beside, ignore_errors=True)


def _unpack(package: Path, folder: Path) -> None:
    """Unpack with the files' permissions; names that lead out of the folder are kept inside it by zipfile."""
    folder.mkdir()
    with zipfile.ZipFile(package) as archive:
        for member in archive.infolist():
            target = Path(archive.extract(member, folder))
            mode = member.external_attr >> 16 & 0o777
            if mode and target.is_file():
                target.chmod(mode | 0o600)
