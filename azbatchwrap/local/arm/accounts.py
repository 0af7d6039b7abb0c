"""What a workspace rests on: storage accounts, key vaults, Log Analytics, Application Insights, container registries.

Every storage account is the instance's one Azurite account: its address and key, whatever the account's name.
"""

from __future__ import annotations

import re
import uuid
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from azbatchwrap.config import parse_storage
from azbatchwrap.local.arm import ids
from azbatchwrap.local.arm.errors import ArmError, bad_request, conflict
from azbatchwrap.local.arm.exchange import Answer, Request, page
from azbatchwrap.local.arm.ids import ResourceId
from azbatchwrap.local.arm.names import TENANT_ID
from azbatchwrap.local.arm.operations import timestamp
from azbatchwrap.local.arm.resources import Document, ResourceType

if TYPE_CHECKING:
    from azbatchwrap.local.arm.service import Arm

STORAGE = "Microsoft.Storage/storageAccounts"
VAULT = "Microsoft.KeyVault/vaults"
REGISTRY = "Microsoft.ContainerRegistry/registries"
LOGS = "Microsoft.OperationalInsights/workspaces"
INSIGHTS = "Microsoft.Insights/components"

#: kind -> (names that are allowed, what is said of a name that another group has).
_GLOBAL_NAMES = {
    STORAGE: (re.compile(r"[a-z0-9]{3,24}\Z"), "StorageAccountAlreadyTaken"),
    VAULT: (re.compile(r"(?=.{3,24}\Z)[A-Za-z](-?[A-Za-z0-9])*\Z"), "VaultAlreadyExists"),
    REGISTRY: (re.compile(r"[A-Za-z0-9]{5,50}\Z"), "AlreadyInUse"),
}


def register(arm: Arm) -> None:
    arm.register(
        "Microsoft.Storage",
        [
            ResourceType(STORAGE, prepare=_storage_account, removed=_storage_removed),
            ResourceType(f"{STORAGE}/blobServices", is_slow=False, is_tracked=False),
            ResourceType(f"{STORAGE}/blobServices/containers", is_slow=False, is_tracked=False, makes_parent=True),
        ],
        [("POST", "/storageAccounts/{}/listKeys", _storage_keys)],
        [("POST", "/checkNameAvailability", _check_name)],
    )
    arm.register(
        "Microsoft.KeyVault",
        [ResourceType(VAULT, prepare=_vault, removed=_vault_removed)],
        [],
        [
            ("GET", "/deletedVaults", _deleted_vaults),
            ("GET", "/locations/{}/deletedVaults/{}", _deleted_vault),
            ("POST", "/locations/{}/deletedVaults/{}/purge", _purge_vault),
        ],
    )
    arm.register("Microsoft.OperationalInsights", [ResourceType(LOGS, prepare=_logs)])
    arm.register("Microsoft.Insights", [ResourceType(INSIGHTS, is_slow=False, prepare=_insights)])
    arm.register("Microsoft.ContainerRegistry", [ResourceType(REGISTRY, prepare=_registry)])


def check_global_name(arm: Arm, rid: ResourceId, before: Document | None) -> None:
    """Raises ArmError for a name that is not allowed, or that a resource of another group or subscription has."""
    pattern, code = _GLOBAL_NAMES[rid.kind]
    if before is not None:
        return
    if not pattern.match(rid.name):
        raise bad_request(f"{rid.name} is not a valid name of {rid.kind}.", "AccountNameInvalid")
    if _is_taken(arm, rid.kind, rid.name):
        raise conflict(f"The name {rid.name} of {rid.kind} is already taken.", code)


def _is_taken(arm: Arm, kind: str, name: str) -> bool:
    return any(str(each["name"]).lower() == name.lower() for each in arm.resources.below("/subscriptions", kind))


# Storage accounts


def _storage_account(arm: Arm, rid: ResourceId, document: Document, before: Document | None) -> Document:
    check_global_name(arm, rid, before)
    if not isinstance(document.get("sku"), dict) or not document["sku"].get("name"):
        raise bad_request("The value for sku is missing.", "ValueMissing")
    document.setdefault("kind", "StorageV2")
    address = (parse_storage(arm.settings.storage).blob_url or "") + "/"
    document["properties"] |= {
        "primaryEndpoints": {"blob": address},
        "primaryLocation": document["location"],
        "statusOfPrimary": "available",
        "creationTime": (before or {}).get("properties", {}).get("creationTime") or timestamp(),
    }
    return document


def storage_key(arm: Arm) -> str:
    """The one account key, base64."""
    fields = dict(part.partition("=")[::2] for part in arm.settings.storage.split(";") if part)
    return fields["AccountKey"]


def note_container(arm: Arm, account: str, container: str) -> None:
    """Remember that a container belongs to a storage account: it goes with it."""
    arm.store.save("container", f"{account.lower()}/{container}", {"container": container})


def want_container(arm: Arm, account: str, container: str) -> None:
    """As `note_container`, for one that is to be there without anybody asking for it."""
    note_container(arm, account, container)
    arm.store.save("wanted-container", container, {})


def _storage_removed(arm: Arm, rid: ResourceId, _document: Document) -> None:
    """All accounts being one, a container stays as long as another account has one of its name."""
    own = dict(arm.store.below("container", f"{rid.name.lower()}/"))
    for key in own:
        arm.store.drop("container", key)
    kept = {document["container"] for _, document in arm.store.below("container", "")}
    for document in own.values():
        if document["container"] not in kept:
            arm.store.save("doomed-container", document["container"], {})


def _storage_keys(arm: Arm, request: Request) -> Answer:
    arm.resources.require(ids.parse(request.path.rpartition("/")[0]))
    keys = [{"keyName": name, "value": storage_key(arm), "permissions": "FULL"} for name in ("key1", "key2")]
    return Answer(200, {"keys": keys})


def _check_name(arm: Arm, request: Request) -> Answer:
    name = str(request.json().get("name", ""))
    if not _GLOBAL_NAMES[STORAGE][0].match(name):
        return Answer(200, {"nameAvailable": False, "reason": "AccountNameInvalid", "message": f"{name} is not valid."})
    if _is_taken(arm, STORAGE, name):
        return Answer(200, {"nameAvailable": False, "reason": "AlreadyExists", "message": f"{name} is already taken."})
    return Answer(200, {"nameAvailable": True})


# Key vaults: a deleted one keeps its name until it is recovered or purged


def _deleted_key(subscription: str, location: str, name: str) -> str:
    return f"{subscription}/{location}/{name}".lower()


def _deleted_of_name(arm: Arm, name: str) -> tuple[str, Document] | None:
    return next((pair for pair in arm.store.below("deleted-vault", "") if pair[0].endswith(f"/{name.lower()}")), None)


def _vault(arm: Arm, rid: ResourceId, document: Document, before: Document | None) -> Document:
    check_global_name(arm, rid, before)
    properties = document["properties"]
    recovers = str(properties.pop("createMode", "default") or "default").lower() == "recover"
    deleted = _deleted_of_name(arm, rid.name)
    if before is None and recovers:
        if deleted is None:
            raise ArmError(404, "DeletedVaultNotFound", f"There is no deleted vault {rid.name} to recover.")
        arm.store.drop("deleted-vault", deleted[0])
        document["properties"] = properties = dict(deleted[1]["_vault"]["properties"])
        document["tags"] = document["tags"] or deleted[1]["_vault"].get("tags", {})
    elif before is None and deleted is not None:
        raise conflict(
            f"A vault with the same name '{rid.name}' already exists in deleted state. You need to either recover or "
            f"purge existing key vault.",
            "ConflictError",
        )
    elif not properties.get("tenantId") or not properties.get("sku"):
        raise bad_request("The parameters tenantId and sku are required.", "BadRequest")
    properties.setdefault("vaultUri", f"https://{rid.name}.vault.azure.net/")
    properties.setdefault("tenantId", TENANT_ID)
    properties["enableSoftDelete"] = True
    return document


def _vault_removed(arm: Arm, rid: ResourceId, document: Document) -> None:
    place = f"/subscriptions/{rid.subscription}/providers/Microsoft.KeyVault/locations/{document['location']}"
    deleted = {
        "id": f"{place}/deletedVaults/{rid.name}",
        "name": rid.name,
        "type": "Microsoft.KeyVault/deletedVaults",
        "properties": {
            "vaultId": rid.text,
            "location": document["location"],
            "deletionDate": timestamp(),
            "tags": document.get("tags", {}),
        },
        "_vault": document,
    }
    arm.store.save("deleted-vault", _deleted_key(rid.subscription, document["location"], rid.name), deleted)


def _without_vault(document: Document) -> dict[str, Any]:
    return {name: value for name, value in document.items() if name != "_vault"}


def _deleted_vaults(arm: Arm, request: Request) -> Answer:
    found = arm.store.below("deleted-vault", f"{request.names[0].lower()}/")
    return page(request, [_without_vault(document) for _, document in found])


def _require_deleted_vault(arm: Arm, request: Request) -> tuple[str, Document]:
    key = _deleted_key(*request.names[:3])
    document = arm.store.load("deleted-vault", key)
    if document is None:
        raise ArmError(404, "DeletedVaultNotFound", f"The deleted vault '{request.names[2]}' could not be found.")
    return key, document


def _deleted_vault(arm: Arm, request: Request) -> Answer:
    return Answer(200, _without_vault(_require_deleted_vault(arm, request)[1]))


def _purge_vault(arm: Arm, request: Request) -> Answer:
    arm.store.drop("deleted-vault", _require_deleted_vault(arm, request)[0])
    return Answer(200)


# The others


def _logs(_arm: Arm, _rid: ResourceId, document: Document, before: Document | None) -> Document:
    kept = (before or {}).get("properties", {})
    document["properties"].setdefault("customerId", kept.get("customerId") or str(uuid.uuid4()))
    document["properties"].setdefault("sku", {"name": "PerGB2018"})
    document["properties"].setdefault("retentionInDays", 30)
    return document


def _insights(arm: Arm, rid: ResourceId, document: Document, before: Document | None) -> Document:
    """Classic Application Insights is retired: a Log Analytics workspace is a must."""
    logs = document["properties"].get("WorkspaceResourceId")
    if not logs:
        raise bad_request(
            "Application Insights needs a WorkspaceResourceId: classic components are retired.", "BadRequest"
        )
    if arm.resources.find(ids.parse(str(logs))) is None:
        raise bad_request(f"The Log Analytics workspace '{logs}' of '{rid.name}' does not exist.", "BadRequest")
    kept = (before or {}).get("properties", {})
    key = kept.get("InstrumentationKey") or str(uuid.uuid4())
    document["properties"] |= {"InstrumentationKey": key, "AppId": kept.get("AppId") or str(uuid.uuid4())}
    document["properties"]["ConnectionString"] = f"InstrumentationKey={key}"
    return document


def _registry(arm: Arm, rid: ResourceId, document: Document, before: Document | None) -> Document:
    check_global_name(arm, rid, before)
    if not isinstance(document.get("sku"), dict):
        raise bad_request("The value for sku is missing.", "ValueMissing")
    document["properties"]["loginServer"] = f"{rid.name.lower()}.azurecr.io"
    return document


def storage_host(arm: Arm) -> str:
    """Where the one storage account answers, such as ``127.0.0.1:10000``."""
    return urlsplit(parse_storage(arm.settings.storage).blob_url or "").netloc
