"""The bodies of requests about pools."""

from __future__ import annotations

from typing import Any

from azbatchwrap.local.batch.shapes.checks import (
    HIDDEN,
    Check,
    Shape,
    anything,
    boolean,
    choice,
    duration,
    hidden,
    identifier,
    integer,
    listed,
    lowercase,
    text,
)
from azbatchwrap.local.batch.shapes.parts import (
    AUTO_USER,
    COMMAND_LINE,
    CONTAINER,
    ENVIRONMENT,
    IDENTITY_REFERENCE,
    METADATA,
    MINUTE,
    PACKAGES,
    REGISTRY,
    RESOURCE_FILES,
    RETRIES,
    USER_IDENTITY,
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
