"""What is not green, in words: what a client does not offer, where it trips by itself, and what is simpler here."""

from __future__ import annotations

_EXTENSIONS = "the client is older than node extensions"
_LIFETIME = "api-versions from 2023-05 on have no lifetime statistics"
_DEALLOCATION = "the client is older than api-version 2024-07-01, which brought it"
_LATER = {"start_node": _DEALLOCATION, "deallocate_node": _DEALLOCATION}
_NO_LIFETIME = dict.fromkeys(("get_all_jobs_lifetime_statistics", "get_all_pools_lifetime_statistics"), _LIFETIME)
_NO_EXTENSIONS = dict.fromkeys(("list_node_extensions", "get_node_extension"), _EXTENSIONS)
_NO_AGENTS = {"list_node_agent_skus": "api-versions from 2019-06 on list images in place of node agents"}
_NO_IMAGES = {"list_supported_images": "the client is older than api-version 2019-06-01, which brought it"}
_HEAD = (
    "`az batch task|node file show` stumbles over its own transport's answer to HEAD "
    "(`'RestRequestsTransportResponse' object has no attribute 'items'`) after the request has succeeded"
)

#: client -> operation -> why it has no such operation.
NOT_OFFERED: dict[str, dict[str, str]] = {
    "azure-batch 15.1.0 sync": _NO_AGENTS | _NO_LIFETIME,
    "azure-batch 15.1.0 aio": _NO_AGENTS | _NO_LIFETIME,
    "azure-batch 14.2.0": _NO_AGENTS | _LATER | _NO_LIFETIME,
    "azure-batch 12.0.0": _NO_AGENTS | _LATER,
    "azure-batch 9.0.0": _NO_AGENTS | _LATER | _NO_EXTENSIONS,
    "azure-batch 8.0.0": _NO_AGENTS | _LATER | _NO_EXTENSIONS,
    "azure-batch 6.0.1": _NO_IMAGES | _LATER | _NO_EXTENSIONS,
    "@azure/batch 10.2.0": _NO_AGENTS | _LATER,
    "@azure/batch 8.0.0": _NO_AGENTS | _LATER | _NO_EXTENSIONS,
    "azure-cli 2.91.0": _NO_AGENTS
    | _LATER
    | _NO_LIFETIME
    | dict.fromkeys(
        ("list_node_extensions", "get_node_extension", "reimage_node", "pool_exists", "job_schedule_exists"),
        "`az batch` has no command for it",
    ),
}
#: client -> operation -> what goes wrong in the client itself, against any service.
SLIPS: dict[str, dict[str, str]] = {
    "azure-cli 2.91.0": {"get_task_file_properties": _HEAD, "get_node_file_properties": _HEAD},
}
#: Every group of commands that ``az batch`` has, nested ones by their words.
AZ_GROUPS = frozenset(
    {
        *("account", "account autostorage-keys", "account identity", "account keys", "account network-profile"),
        *("account network-profile network-rule", "application", "application package", "application summary"),
        *("job", "job prep-release-status", "job task-counts", "job-schedule", "location", "location quotas"),
        *("node", "node file", "node remote-login-settings", "node scheduling", "node service-logs", "node user"),
        *("pool", "pool autoscale", "pool node-counts", "pool supported-images", "pool usage-metrics"),
        *("private-endpoint-connection", "private-link-resource", "task", "task file", "task subtask"),
    }
)
#: What the local service does more simply than the real one.
SIMPLER = (
    (
        "**Nodes** are folders of this machine, and tasks its processes, with the rights of the user: `userIdentity` and "
        "node users are kept, and change nothing. `get_node_remote_login_settings` names a port behind which nobody is."
    ),
    (
        "**reboot, reimage, deallocate, start** end and begin the node's tasks as asked; no machine restarts. A pre-empted "
        "Spot node comes back after two seconds, with an empty disk."
    ),
    "**upload_node_logs** uploads one file, with what the service knows of the node.",
    "**list_pool_usage_metrics** is always empty.",
    (
        "**Statistics** (`$expand=stats`, lifetime statistics) are worked out from the processes of tasks and the children "
        "they waited for, and show at once what Azure shows after half an hour. 0 are: disk operations, network, average "
        "memory, disk space, and what ran in containers."
    ),
    (
        "**Node extensions** are shown as the pool names them; nothing is installed. **Mounts**, **networks** and "
        "**licenses** are kept and returned; a subnet of another subscription than the instance's is refused."
    ),
    (
        "**Managed identities** of a pool open the instance's own storage to its resource files and output files, and get "
        "tokens that this instance takes; no other account and no other cloud knows them. Every storage account that is "
        "linked to the Batch account is that one storage."
    ),
    (
        "**Certificates**, cloud services and remote desktop files, which the service gave up in 2024, are not there: "
        "those addresses answer 400 or 404."
    ),
    "**Windows** images are listed and their nodes are unusable.",
    (
        "**The management side** has one Batch account, for an account is a running service: it can be changed and its keys "
        "renewed, and no other be made beside it (`SubscriptionQuotaExceeded`). The quotas that it shows are not enforced "
        "(`local chaos` limits nodes and jobs). Network rules and private endpoints are kept, or empty lists."
    ),
    "**Application packages** whose zip file is broken fail the tasks that need them, not the node.",
    (
        "**Container tasks** are run by podman or docker, whichever answers to the service, with the network of this "
        "machine unless `containerRunOptions` name another. Images are fetched with the engine's own logins: registry "
        "passwords in requests are not kept."
    ),
)
