"""The bodies of requests as tables of fields: what is allowed, what is filled in, how values are normalised.

A check is a function from the JSON value to the value that is kept; it raises `Refused`. Shapes are built once at
import, so that checking a task costs a few dictionary look-ups.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from azbatchwrap.local.batch import wire
from azbatchwrap.local.batch.errors import BatchError, bad_property

Check = Callable[[Any], Any]

ID = re.compile(r"[A-Za-z0-9_-]{1,64}\Z")
UNLIMITED = wire.format_duration(wire.UNLIMITED)
INT32 = 2**31 - 1
AUTO_USER = {"autoUser": {"scope": "pool", "elevationLevel": "nonadmin"}}
#: A value that is accepted and never shown again: passwords and keys.
HIDDEN = object()


class Refused(Exception):
    """A value that a check turns down; ``path`` grows outward while the exception climbs."""

    def __init__(self, value: object, reason: str, code: str = "InvalidPropertyValue") -> None:
        super().__init__(reason)
        self.value = value
        self.reason = reason
        self.code = code
        self.path: list[str] = []

    def as_error(self) -> BatchError:
        """The answer to the client."""
        name = ".".join(reversed(self.path)) or "body"
        if self.code == "InvalidPropertyValue":
            return bad_property(name, self.value, self.reason)
        return BatchError(self.code, [("PropertyName", name), ("Reason", self.reason)])


def text(longest: int = 0, *, shortest: int = 0) -> Check:
    """A string of so many characters; 0 means any number."""

    def check(value: Any) -> str:
        if not isinstance(value, str):
            raise Refused(value, "The value must be a string.")
        if longest and len(value) > longest:
            raise Refused(value, f"The value has {len(value)} characters; at most {longest} are allowed.")
        if len(value) < shortest:
            raise Refused(value, "The value must not be empty.")
        return value

    return check


def identifier(value: Any) -> str:
    """The id of a pool, job, task or schedule."""
    if isinstance(value, str) and ID.match(value):
        return value
    raise Refused(value, "An id has 1 to 64 characters out of letters, digits, hyphen and underscore.")


def pool_prefix(value: Any) -> str:
    """The beginning of the ids of auto-pools: it must leave room for a GUID."""
    if isinstance(value, str) and ID.match(value) and len(value) <= 20:
        return value
    raise Refused(value, "A prefix has 1 to 20 characters out of letters, digits, hyphen and underscore.")


def integer(low: int = -INT32 - 1, high: int = INT32) -> Check:
    """A whole number, also when written as a string."""

    def check(value: Any) -> int:
        if isinstance(value, str) and re.fullmatch(r"[+-]?\d{1,20}", value):
            value = int(value)
        if isinstance(value, float) and value.is_integer():
            value = int(value)
        if not isinstance(value, int) or isinstance(value, bool):
            raise Refused(value, "The value must be a whole number.")
        if not low <= value <= high:
            raise Refused(value, f"The value must lie between {low} and {high}.")
        return value

    return check


def boolean(value: Any) -> bool:
    """True or false, also when written as a string."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in {"true", "false"}:
        return value.lower() == "true"
    raise Refused(value, "The value must be true or false.")


def duration(least: int = 0, most: int = wire.UNLIMITED) -> Check:
    """An ISO 8601 duration between ``least`` and ``most`` ticks, normalised."""

    def check(value: Any) -> str:
        if not isinstance(value, str):
            raise Refused(value, "The value must be an ISO 8601 duration.")
        try:
            ticks = wire.parse_duration(value)
        except ValueError as error:
            raise Refused(value, f"The value must be an ISO 8601 duration: {error}.") from error
        if not least <= ticks <= most:
            low, high = wire.format_duration(least), wire.format_duration(most)
            raise Refused(value, f"The value must lie between {low} and {high}.")
        return wire.format_duration(ticks)

    return check


def moment(value: Any) -> str:
    """A point in time, normalised to UTC."""
    try:
        return wire.format_ticks(wire.parse_time(value))
    except (ValueError, TypeError, AttributeError, OverflowError) as error:
        raise Refused(value, "The value must be an ISO 8601 time.") from error


def choice(*allowed: str) -> Check:
    """One of these words, whatever its case; kept as written here."""
    words = {word.lower(): word for word in allowed}

    def check(value: Any) -> str:
        word = words.get(value.lower()) if isinstance(value, str) else None
        if word is None:
            raise Refused(value, f"The value must be one of: {', '.join(allowed)}.")
        return word

    return check


def hidden(value: Any) -> Any:
    """A secret: accepted, forgotten."""
    if not isinstance(value, str):
        raise Refused("", "The value must be a string.")
    return HIDDEN


def anything(value: Any) -> Any:
    """Kept as it came."""
    return value


def lowercase(value: Any) -> str:
    """A string that the service shows in lower case."""
    if not isinstance(value, str) or not value:
        raise Refused(value, "The value must be a string.")
    return value.lower()


def listed(check: Check, longest: int = 0) -> Check:
    """A list whose items pass ``check``."""

    def run(value: Any) -> list[Any]:
        if not isinstance(value, list):
            raise Refused(value, "The value must be a list.")
        if longest and len(value) > longest:
            raise Refused(len(value), f"The list has {len(value)} entries; at most {longest} are allowed.")
        kept = []
        for index, item in enumerate(value):
            try:
                kept.append(check(item))
            except Refused as refusal:
                refusal.path.append(f"[{index}]")
                raise
        return kept

    return run


class Shape:
    """An object with these fields. Values keep the order they came in, unless the shape is ``ordered``."""

    __slots__ = ("checks", "defaults", "is_ordered", "required", "rule")

    def __init__(
        self,
        fields: Mapping[str, Check],
        *,
        required: tuple[str, ...] = (),
        defaults: Mapping[str, Any] | None = None,
        rule: Callable[[dict[str, Any]], None] | None = None,
        is_ordered: bool = False,
    ) -> None:
        self.checks = dict(fields)
        self.required = required
        self.defaults = tuple((defaults or {}).items())
        self.rule = rule
        #: Whether the result has the order of the fields, which is that of the service's answers.
        self.is_ordered = is_ordered

    def __call__(self, value: Any) -> dict[str, Any]:
        if not isinstance(value, dict):
            raise Refused(value, "The value must be an object.")
        kept: dict[str, Any] = {}
        checks = self.checks
        for name, item in value.items():
            if name not in checks:
                self._refuse_unknown(name)
            elif item is not None:
                try:
                    checked = checks[name](item)
                except Refused as refusal:
                    refusal.path.append(name)
                    raise
                if checked is not HIDDEN:
                    kept[name] = checked
        return self._completed(value, kept)

    def _completed(self, value: dict[str, Any], kept: dict[str, Any]) -> dict[str, Any]:
        """Defaults, required fields, the shape's own rule, and the order."""
        for name, default in self.defaults:
            if name not in kept:
                kept[name] = default
        for name in self.required:
            if value.get(name) is None:
                self._refuse_missing(name)
        if self.rule is not None:
            self.rule(kept)
        return {name: kept[name] for name in self.checks if name in kept} if self.is_ordered else kept

    @staticmethod
    def _refuse_missing(name: str) -> None:
        missing = Refused(None, "The property is required.", "MissingRequiredProperty")
        missing.path.append(name)
        raise missing

    @staticmethod
    def _refuse_unknown(name: str) -> None:
        """Annotations are let through and forgotten."""
        if not name.startswith(("odata.", "@odata")):
            unknown = Refused(None, f"The property '{name}' does not exist on this type.", "InvalidRequestBody")
            unknown.path.append(name)
            raise unknown

    def read(self, value: Any) -> dict[str, Any]:
        """The checked body; raises BatchError."""
        try:
            return self(value)
        except Refused as refusal:
            raise refusal.as_error() from None


def _one_source(kept: dict[str, Any]) -> None:
    if "blobSource" in kept:
        kept["httpUrl"] = kept.pop("blobSource")
    sources = [name for name in ("autoStorageContainerName", "storageContainerUrl", "httpUrl") if name in kept]
    if len(sources) != 1:
        raise Refused(sources, "Exactly one of autoStorageContainerName, storageContainerUrl and httpUrl is needed.")
    if "httpUrl" in kept and not kept.get("filePath"):
        missing = Refused(None, "The property is required with httpUrl.", "MissingRequiredProperty")
        missing.path.append("filePath")
        raise missing


def _one_identity(kept: dict[str, Any]) -> None:
    if ("autoUser" in kept) == ("username" in kept):
        raise Refused(kept, "Exactly one of username and autoUser is needed.")


def _range(kept: dict[str, Any]) -> None:
    if kept["end"] < kept["start"]:
        raise Refused(kept, "The end lies before the start.")


IDENTITY_REFERENCE = Shape({"resourceId": text()})
METADATA = listed(Shape({"name": text(), "value": text()}, required=("name", "value")))
PACKAGES = listed(Shape({"applicationId": text(), "version": text()}, required=("applicationId",)), 10)
ENVIRONMENT = listed(Shape({"name": text(shortest=1), "value": text()}, required=("name",)))
RESOURCE_FILES = listed(
    Shape(
        {
            "autoStorageContainerName": text(),
            "storageContainerUrl": text(),
            "httpUrl": text(),
            "blobSource": text(),  # its name up to 2018
            "blobPrefix": text(),
            "filePath": text(),
            "fileMode": text(),
            "identityReference": IDENTITY_REFERENCE,
        },
        rule=_one_source,
    )
)
UPLOAD_CONDITION = choice("tasksuccess", "taskfailure", "taskcompletion")
OUTPUT_FILES = listed(
    Shape(
        {
            "filePattern": text(shortest=1),
            "destination": Shape(
                {
                    "container": Shape(
                        {
                            "path": text(),
                            "containerUrl": text(shortest=1),
                            "identityReference": IDENTITY_REFERENCE,
                            "uploadHeaders": listed(Shape({"name": text(), "value": text()}, required=("name",))),
                        },
                        required=("containerUrl",),
                    )
                },
                required=("container",),
            ),
            "uploadOptions": Shape({"uploadCondition": UPLOAD_CONDITION}, required=("uploadCondition",)),
        },
        required=("filePattern", "destination", "uploadOptions"),
    )
)
USER_IDENTITY = Shape(
    {
        "username": text(),
        "autoUser": Shape(
            {"scope": choice("task", "pool"), "elevationLevel": choice("nonadmin", "admin")},
            defaults={"scope": "pool", "elevationLevel": "nonadmin"},
        ),
    },
    rule=_one_identity,
)
REGISTRY = Shape(
    {"username": text(), "password": hidden, "registryServer": text(), "identityReference": IDENTITY_REFERENCE}
)
CONTAINER = Shape(
    {
        "containerRunOptions": text(),
        "imageName": text(shortest=1),
        "registry": REGISTRY,
        "workingDirectory": choice("taskWorkingDirectory", "containerImageDefault"),
        "containerHostBatchBindMounts": listed(
            Shape(
                {
                    "source": choice("Shared", "Startup", "VfsMounts", "Task", "JobPrep", "Applications"),
                    "isReadOnly": boolean,
                }
            )
        ),
    },
    required=("imageName",),
)
RETRIES = integer(-1)
CONSTRAINTS = Shape(
    {"maxWallClockTime": duration(), "retentionTime": duration(), "maxTaskRetryCount": RETRIES},
    defaults={"maxWallClockTime": UNLIMITED, "retentionTime": "P7D"},
)
JOB_ACTION = choice("none", "disable", "terminate")
EXIT_OPTIONS = Shape({"jobAction": JOB_ACTION, "dependencyAction": choice("satisfy", "block")})
EXIT_CONDITIONS = Shape(
    {
        "exitCodes": listed(Shape({"code": integer(), "exitOptions": EXIT_OPTIONS}, required=("code", "exitOptions"))),
        "exitCodeRanges": listed(
            Shape(
                {"start": integer(), "end": integer(), "exitOptions": EXIT_OPTIONS},
                required=("start", "end", "exitOptions"),
                rule=_range,
            )
        ),
        "preProcessingError": EXIT_OPTIONS,
        "fileUploadError": EXIT_OPTIONS,
        "default": EXIT_OPTIONS,
    }
)
DEPENDS_ON = Shape(
    {
        "taskIds": listed(identifier),
        "taskIdRanges": listed(Shape({"start": integer(0), "end": integer(0)}, required=("start", "end"), rule=_range)),
    }
)
TOKEN_SETTINGS = Shape({"access": listed(choice("job"))})
COMMAND_LINE = text(shortest=1)
TASK = Shape(
    {
        "id": identifier,
        "displayName": text(1024),
        "commandLine": COMMAND_LINE,
        "containerSettings": CONTAINER,
        "exitConditions": EXIT_CONDITIONS,
        "resourceFiles": RESOURCE_FILES,
        "outputFiles": OUTPUT_FILES,
        "environmentSettings": ENVIRONMENT,
        "affinityInfo": Shape({"affinityId": text()}, required=("affinityId",)),
        "applicationPackageReferences": PACKAGES,
        "userIdentity": USER_IDENTITY,
        "multiInstanceSettings": Shape(
            {
                "numberOfInstances": integer(1),
                "coordinationCommandLine": COMMAND_LINE,
                "commonResourceFiles": RESOURCE_FILES,
            },
            required=("coordinationCommandLine",),
            defaults={"numberOfInstances": 1},
        ),
        "dependsOn": DEPENDS_ON,
        "authenticationTokenSettings": TOKEN_SETTINGS,
        "constraints": CONSTRAINTS,
        "requiredSlots": integer(1, 256),
    },
    required=("id", "commandLine"),
    defaults={"userIdentity": AUTO_USER, "requiredSlots": 1},
    is_ordered=True,
)
TASK_COLLECTION = Shape({"value": anything}, required=("value",))
_SHOWN_ONLY: dict[str, Check] = dict.fromkeys(
    (
        *("id", "displayName", "url", "eTag", "lastModified", "creationTime", "state", "stateTransitionTime"),
        *("previousState", "previousStateTransitionTime", "executionInfo", "stats"),
    ),
    anything,
)
#: PUT may carry the whole thing as GET showed it; what cannot change is read and left alone.
TASK_UPDATE = Shape(
    {
        **_SHOWN_ONLY,
        **dict.fromkeys(TASK.checks, anything),
        "nodeInfo": anything,
        "constraints": CONSTRAINTS,
    }
)

JOB_CONSTRAINTS = Shape(
    {"maxWallClockTime": duration(), "maxTaskRetryCount": RETRIES},
    defaults={"maxWallClockTime": UNLIMITED, "maxTaskRetryCount": 0},
)
JOB_MANAGER = Shape(
    {
        "id": identifier,
        "displayName": text(1024),
        "commandLine": COMMAND_LINE,
        "containerSettings": CONTAINER,
        "resourceFiles": RESOURCE_FILES,
        "outputFiles": OUTPUT_FILES,
        "environmentSettings": ENVIRONMENT,
        "constraints": CONSTRAINTS,
        "requiredSlots": integer(1, 256),
        "killJobOnCompletion": boolean,
        "userIdentity": USER_IDENTITY,
        "runExclusive": boolean,
        "applicationPackageReferences": PACKAGES,
        "authenticationTokenSettings": TOKEN_SETTINGS,
        "allowLowPriorityNode": boolean,
    },
    required=("id", "commandLine"),
    defaults={
        "constraints": {"maxWallClockTime": UNLIMITED, "retentionTime": "P7D"},
        "requiredSlots": 1,
        "killJobOnCompletion": True,
        "userIdentity": AUTO_USER,
        "runExclusive": True,
        "allowLowPriorityNode": True,
    },
)
JOB_PREPARATION = Shape(
    {
        "id": identifier,
        "commandLine": COMMAND_LINE,
        "containerSettings": CONTAINER,
        "resourceFiles": RESOURCE_FILES,
        "environmentSettings": ENVIRONMENT,
        "constraints": Shape(
            {"maxWallClockTime": duration(), "retentionTime": duration(), "maxTaskRetryCount": RETRIES},
            defaults={"maxWallClockTime": UNLIMITED, "retentionTime": "P7D", "maxTaskRetryCount": 0},
        ),
        "waitForSuccess": boolean,
        "userIdentity": USER_IDENTITY,
        "rerunOnNodeRebootAfterSuccess": boolean,
    },
    required=("commandLine",),
    defaults={
        "id": "jobpreparation",
        "constraints": {"maxWallClockTime": UNLIMITED, "retentionTime": "P7D", "maxTaskRetryCount": 0},
        "waitForSuccess": True,
        "userIdentity": AUTO_USER,
        "rerunOnNodeRebootAfterSuccess": True,
    },
)
JOB_RELEASE = Shape(
    {
        "id": identifier,
        "commandLine": COMMAND_LINE,
        "containerSettings": CONTAINER,
        "resourceFiles": RESOURCE_FILES,
        "environmentSettings": ENVIRONMENT,
        "maxWallClockTime": duration(0, 15 * 60 * wire.TICKS_PER_SECOND),
        "retentionTime": duration(),
        "userIdentity": USER_IDENTITY,
    },
    required=("commandLine",),
    defaults={"id": "jobrelease", "maxWallClockTime": "PT15M", "retentionTime": "P7D", "userIdentity": AUTO_USER},
)
START_TASK = Shape(
    {
        "commandLine": COMMAND_LINE,
        "containerSettings": CONTAINER,
        "resourceFiles": RESOURCE_FILES,
        "environmentSettings": ENVIRONMENT,
        "userIdentity": USER_IDENTITY,
        "maxTaskRetryCount": RETRIES,
        "waitForSuccess": boolean,
    },
    required=("commandLine",),
    defaults={"userIdentity": AUTO_USER, "maxTaskRetryCount": 0, "waitForSuccess": True},
)
DISK_TYPE = choice("standard_lrs", "premium_lrs", "standardssd_lrs")
MANAGED_DISK = Shape(
    {
        "diskEncryptionSet": Shape({"id": text()}),
        "storageAccountType": DISK_TYPE,
        "securityProfile": Shape({"securityEncryptionType": text(), "diskEncryptionSet": Shape({"id": text()})}),
    }
)
CACHING = choice("none", "readonly", "readwrite")
OS_DISK = Shape(
    {
        "ephemeralOSDiskSettings": Shape({"placement": choice("cachedisk")}),
        "caching": CACHING,
        "diskSizeGB": integer(1),
        "managedDisk": MANAGED_DISK,
        "writeAcceleratorEnabled": boolean,
    }
)
DISK_ENCRYPTION = Shape(
    {
        "customerManagedKey": Shape(
            {"identityReference": IDENTITY_REFERENCE, "keyUrl": text(), "rotationToLatestKeyVersionEnabled": boolean}
        ),
        "targets": listed(choice("osdisk", "temporarydisk")),
    }
)
HOST_ENDPOINT = Shape({"inVMAccessControlProfileReferenceId": text(), "mode": choice("Audit", "Enforce")})
SECURITY_PROFILE = Shape(
    {
        "encryptionAtHost": boolean,
        "proxyAgentSettings": Shape({"enabled": boolean, "imds": HOST_ENDPOINT, "wireServer": HOST_ENDPOINT}),
        "securityType": choice("trustedLaunch", "confidentialvm"),
        "uefiSettings": Shape({"secureBootEnabled": boolean, "vTpmEnabled": boolean}),
    }
)
IMAGE = Shape(
    {
        "publisher": text(),
        "offer": text(),
        "sku": text(),
        "version": text(),
        "virtualMachineImageId": text(),
        "exactVersion": text(),
        "sharedGalleryImageId": text(),
        "communityGalleryImageId": text(),
    }
)
VIRTUAL_MACHINE = Shape(
    {
        "imageReference": IMAGE,
        "nodeAgentSKUId": text(shortest=1),
        "windowsConfiguration": Shape({"enableAutomaticUpdates": boolean}),
        "dataDisks": listed(
            Shape(
                {
                    "lun": integer(0, 63),
                    "caching": CACHING,
                    "diskSizeGB": integer(1),
                    "storageAccountType": DISK_TYPE,
                    "managedDisk": MANAGED_DISK,
                },
                required=("lun", "diskSizeGB"),
                defaults={"caching": "none", "storageAccountType": "standard_lrs"},
            )
        ),
        "licenseType": text(),
        "containerConfiguration": Shape(
            {
                "type": choice("dockerCompatible", "criCompatible"),
                "containerImageNames": listed(text()),
                "containerRegistries": listed(REGISTRY),
            },
            required=("type",),
        ),
        "diskEncryptionConfiguration": DISK_ENCRYPTION,
        "nodePlacementConfiguration": Shape({"policy": choice("Regional", "Zonal")}),
        "extensions": listed(
            Shape(
                {
                    "name": text(shortest=1),
                    "publisher": text(shortest=1),
                    "type": text(shortest=1),
                    "typeHandlerVersion": text(),
                    "autoUpgradeMinorVersion": boolean,
                    "enableAutomaticUpgrade": boolean,
                    "settings": anything,
                    "protectedSettings": lambda _: HIDDEN,
                    "provisionAfterExtensions": listed(text()),
                },
                required=("name", "publisher", "type"),
            )
        ),
        "osDisk": OS_DISK,
        "securityProfile": SECURITY_PROFILE,
        "serviceArtifactReference": Shape({"id": text()}, required=("id",)),
    },
    required=("imageReference", "nodeAgentSKUId"),
)
NAT_POOL = Shape(
    {
        "name": text(77, shortest=1),
        "protocol": choice("tcp", "udp"),
        "backendPort": integer(1, 65535),
        "frontendPortRangeStart": integer(1, 65534),
        "frontendPortRangeEnd": integer(1, 65534),
        "networkSecurityGroupRules": listed(
            Shape(
                {
                    "priority": integer(150, 4096),
                    "access": choice("allow", "deny"),
                    "sourceAddressPrefix": text(),
                    "sourcePortRanges": listed(text()),
                },
                required=("priority", "access", "sourceAddressPrefix"),
                defaults={"sourcePortRanges": ["*"]},
            )
        ),
    },
    required=("name", "protocol", "backendPort", "frontendPortRangeStart", "frontendPortRangeEnd"),
)
PUBLIC_ADDRESSES = Shape(
    {
        "provision": choice("batchmanaged", "usermanaged", "nopublicipaddresses"),
        "ipAddressIds": listed(text(shortest=1)),
        "ipFamilies": listed(choice("IPv4", "IPv6")),
        "ipTags": listed(Shape({"ipTagType": text(), "tag": text()})),
    }
)
NETWORK = Shape(
    {
        "subnetId": text(),
        "dynamicVNetAssignmentScope": choice("none", "job"),
        "endpointConfiguration": Shape({"inboundNATPools": listed(NAT_POOL, 5)}, required=("inboundNATPools",)),
        "publicIPAddressConfiguration": PUBLIC_ADDRESSES,
        "publicIPs": listed(text(shortest=1)),  # in 2019, before there was a configuration around them
        "enableAcceleratedNetworking": boolean,
    },
    defaults={"dynamicVNetAssignmentScope": "none", "enableAcceleratedNetworking": False},
)
USER_ACCOUNTS = listed(
    Shape(
        {
            "name": text(20, shortest=1),
            "password": hidden,
            "elevationLevel": choice("nonadmin", "admin"),
            "linuxUserConfiguration": Shape({"uid": integer(0), "gid": integer(0), "sshPrivateKey": hidden}),
            "windowsUserConfiguration": Shape({"loginMode": choice("batch", "interactive")}),
        },
        required=("name", "password"),
        defaults={"elevationLevel": "nonadmin"},
    ),
    100,
)
MOUNTS = listed(
    Shape(
        {
            "azureBlobFileSystemConfiguration": Shape(
                {
                    "accountName": text(),
                    "containerName": text(),
                    "accountKey": hidden,
                    "sasKey": hidden,
                    "blobfuseOptions": text(),
                    "relativeMountPath": text(),
                    "identityReference": IDENTITY_REFERENCE,
                },
                required=("accountName", "containerName", "relativeMountPath"),
            ),
            "nfsMountConfiguration": Shape(
                {"source": text(), "relativeMountPath": text(), "mountOptions": text()},
                required=("source", "relativeMountPath"),
            ),
            "cifsMountConfiguration": Shape(
                {
                    "username": text(),
                    "source": text(),
                    "relativeMountPath": text(),
                    "mountOptions": text(),
                    "password": hidden,
                },
                required=("username", "source", "relativeMountPath", "password"),
            ),
            "azureFileShareConfiguration": Shape(
                {
                    "accountName": text(),
                    "accountKey": hidden,
                    "azureFileUrl": text(),
                    "relativeMountPath": text(),
                    "mountOptions": text(),
                },
                required=("accountName", "accountKey", "azureFileUrl", "relativeMountPath"),
            ),
        }
    )
)
UPGRADE_POLICY = Shape(
    {
        "mode": choice("automatic", "manual", "rolling"),
        "automaticOSUpgradePolicy": Shape(
            {
                "disableAutomaticRollback": boolean,
                "enableAutomaticOSUpgrade": boolean,
                "useRollingUpgradePolicy": boolean,
                "osRollingUpgradeDeferral": boolean,
            }
        ),
        "rollingUpgradePolicy": Shape(
            {
                "enableCrossZoneUpgrade": boolean,
                "maxBatchInstancePercent": integer(5, 100),
                "maxUnhealthyInstancePercent": integer(5, 100),
                "maxUnhealthyUpgradedInstancePercent": integer(0, 100),
                "pauseTimeBetweenBatches": text(),
                "prioritizeUnhealthyInstances": boolean,
                "rollbackFailedInstancesOnPolicyBreach": boolean,
            }
        ),
    },
    required=("mode",),
)
MINUTE = 60 * wire.TICKS_PER_SECOND
FORMULA = text(8192)
INTERVAL = duration(5 * MINUTE, 168 * 60 * MINUTE)
COMMUNICATION = choice("default", "classic", "simplified")
FILL_TYPE = choice("Spread", "Pack")
SCHEDULING_POLICY = Shape(
    {"nodeFillType": FILL_TYPE, "jobDefaultOrder": choice("none", "creationtime")}, defaults={"nodeFillType": "Spread"}
)
_POOL_FIELDS: dict[str, Check] = {
    "displayName": text(1024),
    "vmSize": lowercase,
    "resizeTimeout": duration(5 * MINUTE),
    "targetDedicatedNodes": integer(0),
    "targetLowPriorityNodes": integer(0),
    "enableAutoScale": boolean,
    "autoScaleFormula": FORMULA,
    "autoScaleEvaluationInterval": INTERVAL,
    "enableInterNodeCommunication": boolean,
    "startTask": START_TASK,
    "certificateReferences": anything,
    "applicationPackageReferences": PACKAGES,
    "applicationLicenses": listed(text()),
    "metadata": METADATA,
    "userAccounts": USER_ACCOUNTS,
    "taskSlotsPerNode": integer(1, 256),
    "maxTasksPerNode": integer(1, 256),
    "taskSchedulingPolicy": SCHEDULING_POLICY,
    "virtualMachineConfiguration": VIRTUAL_MACHINE,
    "cloudServiceConfiguration": anything,
    "networkConfiguration": NETWORK,
    "mountConfiguration": MOUNTS,
    "resourceTags": anything,
    "upgradePolicy": UPGRADE_POLICY,
    "targetNodeCommunicationMode": COMMUNICATION,
}
_POOL_DEFAULTS: dict[str, Any] = {
    "resizeTimeout": "PT15M",
    "targetDedicatedNodes": 0,
    "targetLowPriorityNodes": 0,
    "enableAutoScale": False,
    "enableInterNodeCommunication": False,
    "taskSlotsPerNode": 1,
    "taskSchedulingPolicy": {"nodeFillType": "Spread"},
}
POOL_SPECIFICATION = Shape(_POOL_FIELDS, required=("vmSize",), defaults=_POOL_DEFAULTS)
POOL = Shape({"id": identifier, **_POOL_FIELDS}, required=("id", "vmSize"), defaults=_POOL_DEFAULTS)
#: What PATCH may carry; all but the first group needs a pool without nodes.
POOL_UPDATE = Shape(
    {
        name: _POOL_FIELDS[name]
        for name in (
            "displayName",
            "vmSize",
            "enableInterNodeCommunication",
            "startTask",
            "certificateReferences",
            "applicationPackageReferences",
            "metadata",
            "virtualMachineConfiguration",
            "targetNodeCommunicationMode",
            "taskSlotsPerNode",
            "taskSchedulingPolicy",
            "networkConfiguration",
            "resourceTags",
            "userAccounts",
            "mountConfiguration",
            "upgradePolicy",
        )
    }
)
POOL_PROPERTIES = Shape(
    {
        "startTask": START_TASK,
        "certificateReferences": anything,
        "applicationPackageReferences": PACKAGES,
        "metadata": METADATA,
        "targetNodeCommunicationMode": COMMUNICATION,
    }
)
AUTOSCALE_ENABLE = Shape({"autoScaleFormula": FORMULA, "autoScaleEvaluationInterval": INTERVAL})
AUTOSCALE_EVALUATE = Shape({"autoScaleFormula": FORMULA}, required=("autoScaleFormula",))
DEALLOCATION = choice("requeue", "terminate", "taskcompletion", "retaineddata")
RESIZE = Shape(
    {
        "targetDedicatedNodes": integer(0),
        "targetLowPriorityNodes": integer(0),
        "resizeTimeout": duration(5 * MINUTE),
        "nodeDeallocationOption": DEALLOCATION,
    }
)
REMOVE_NODES = Shape(
    {
        "nodeList": listed(text(), 100),
        "resizeTimeout": duration(5 * MINUTE),
        "nodeDeallocationOption": DEALLOCATION,
    },
    required=("nodeList",),
)

POOL_INFO = Shape(
    {
        "poolId": text(64),
        "autoPoolSpecification": Shape(
            {
                "autoPoolIdPrefix": pool_prefix,
                "poolLifetimeOption": choice("jobschedule", "job"),
                "keepAlive": boolean,
                "pool": POOL_SPECIFICATION,
            },
            required=("poolLifetimeOption", "pool"),
            defaults={"keepAlive": False},
        ),
    }
)
PRIORITY = integer(-1000, 1000)
PARALLEL = integer(-1)
COMPLETE_MODE = choice("noaction", "terminatejob")
FAILURE_MODE = choice("noaction", "performexitoptionsjobaction")
JOB_NETWORK = Shape({"subnetId": text(), "skipWithdrawFromVNet": boolean}, required=("subnetId",))
_JOB_FIELDS: dict[str, Check] = {
    "displayName": text(1024),
    "priority": PRIORITY,
    "maxParallelTasks": PARALLEL,
    "usesTaskDependencies": boolean,
    "allowTaskPreemption": boolean,
    "constraints": JOB_CONSTRAINTS,
    "jobManagerTask": JOB_MANAGER,
    "jobPreparationTask": JOB_PREPARATION,
    "jobReleaseTask": JOB_RELEASE,
    "commonEnvironmentSettings": ENVIRONMENT,
    "poolInfo": POOL_INFO,
    "metadata": METADATA,
    "onAllTasksComplete": COMPLETE_MODE,
    "onTaskFailure": FAILURE_MODE,
    "networkConfiguration": JOB_NETWORK,
}
_JOB_DEFAULTS: dict[str, Any] = {
    "priority": 0,
    "maxParallelTasks": -1,
    "usesTaskDependencies": False,
    "allowTaskPreemption": False,
    "constraints": {"maxWallClockTime": UNLIMITED, "maxTaskRetryCount": 0},
    "onAllTasksComplete": "noaction",
    "onTaskFailure": "noaction",
}
JOB_SPECIFICATION = Shape(_JOB_FIELDS, required=("poolInfo",), defaults=_JOB_DEFAULTS)
JOB = Shape({"id": identifier, **_JOB_FIELDS}, required=("id", "poolInfo"), defaults=_JOB_DEFAULTS)
_JOB_CHANGES = (
    "priority",
    "maxParallelTasks",
    "allowTaskPreemption",
    "constraints",
    "poolInfo",
    "onAllTasksComplete",
    "metadata",
    "networkConfiguration",
)
JOB_UPDATE = Shape({name: _JOB_FIELDS[name] for name in _JOB_CHANGES})
JOB_REPLACE = Shape(
    {
        **_SHOWN_ONLY,
        **{name: anything for name in _JOB_FIELDS if name not in _JOB_CHANGES},
        **{name: _JOB_FIELDS[name] for name in _JOB_CHANGES},
    },
    required=("poolInfo",),
)
JOB_DISABLE = Shape({"disableTasks": choice("requeue", "terminate", "wait")}, required=("disableTasks",))
JOB_TERMINATE = Shape({"terminateReason": text()})

SCHEDULE_TIMES = Shape(
    {
        "doNotRunUntil": moment,
        "doNotRunAfter": moment,
        "startWindow": duration(MINUTE),
        "recurrenceInterval": duration(MINUTE),
    }
)
SCHEDULE = Shape(
    {
        "id": identifier,
        "displayName": text(1024),
        "schedule": SCHEDULE_TIMES,
        "jobSpecification": JOB_SPECIFICATION,
        "metadata": METADATA,
    },
    required=("id", "schedule", "jobSpecification"),
)
SCHEDULE_UPDATE = Shape({"schedule": SCHEDULE_TIMES, "jobSpecification": JOB_SPECIFICATION, "metadata": METADATA})
SCHEDULE_REPLACE = Shape(
    {**_SHOWN_ONLY, "schedule": SCHEDULE_TIMES, "jobSpecification": JOB_SPECIFICATION, "metadata": METADATA},
    required=("jobSpecification",),
)

NODE_USER = Shape(
    {
        "name": text(20, shortest=1),
        "isAdmin": boolean,
        "expiryTime": moment,
        "password": hidden,
        "sshPublicKey": text(),
    },
    required=("name",),
)
NODE_USER_UPDATE = Shape({"password": hidden, "expiryTime": moment, "sshPublicKey": text()})
NODE_REBOOT = Shape({"nodeRebootOption": DEALLOCATION})
NODE_REIMAGE = Shape({"nodeReimageOption": DEALLOCATION})
NODE_DEALLOCATE = Shape({"nodeDeallocateOption": DEALLOCATION})
NODE_DISABLE = Shape({"nodeDisableSchedulingOption": choice("requeue", "terminate", "taskcompletion")})
LOGS_UPLOAD = Shape(
    {"containerUrl": text(shortest=1), "startTime": moment, "endTime": moment, "identityReference": IDENTITY_REFERENCE},
    required=("containerUrl", "startTime"),
)
