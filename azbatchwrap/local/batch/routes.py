"""The address of every operation, and how a request finds its handler."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeAlias
from urllib.parse import unquote

from azbatchwrap.local.batch import applications, autoscaling, files, images, jobs, nodes, pools, schedules, tasks
from azbatchwrap.local.batch.errors import BatchError
from azbatchwrap.local.batch.exchange import Request, Response
from azbatchwrap.local.batch.service import Service

Handler: TypeAlias = "Callable[[Service, Request], Response | Awaitable[Response]]"

POOL = "/pools/{}"
JOB = "/jobs/{}"
SCHEDULE = "/jobschedules/{}"
TASK = "/jobs/{}/tasks/{}"
NODE = "/pools/{}/nodes/{}"

#: (operation, verb, address, handler): the 72 operations of api-version 2025-06-01. ``{*}`` takes the whole rest.
OPERATIONS: tuple[tuple[str, str, str, Handler], ...] = (
    ("list_applications", "GET", "/applications", applications.list_all),
    ("get_application", "GET", "/applications/{}", applications.find),
    ("list_pool_usage_metrics", "GET", "/poolusagemetrics", pools.usage_metrics),
    ("create_pool", "POST", "/pools", pools.create),
    ("list_pools", "GET", "/pools", pools.list_all),
    ("delete_pool", "DELETE", POOL, pools.delete),
    ("pool_exists", "HEAD", POOL, pools.exists),
    ("get_pool", "GET", POOL, pools.find),
    ("update_pool", "PATCH", POOL, pools.update),
    ("disable_pool_auto_scale", "POST", f"{POOL}/disableautoscale", autoscaling.disable),
    ("enable_pool_auto_scale", "POST", f"{POOL}/enableautoscale", autoscaling.enable),
    ("evaluate_pool_auto_scale", "POST", f"{POOL}/evaluateautoscale", autoscaling.evaluate),
    ("resize_pool", "POST", f"{POOL}/resize", pools.resize),
    ("stop_pool_resize", "POST", f"{POOL}/stopresize", pools.stop),
    ("replace_pool_properties", "POST", f"{POOL}/updateproperties", pools.replace_properties),
    ("remove_nodes", "POST", f"{POOL}/removenodes", pools.remove),
    ("list_supported_images", "GET", "/supportedimages", images.list_supported),
    ("list_pool_node_counts", "GET", "/nodecounts", pools.counts),
    ("delete_job", "DELETE", JOB, jobs.delete),
    ("get_job", "GET", JOB, jobs.find),
    ("update_job", "PATCH", JOB, jobs.update),
    ("replace_job", "PUT", JOB, jobs.replace),
    ("disable_job", "POST", f"{JOB}/disable", jobs.disable),
    ("enable_job", "POST", f"{JOB}/enable", jobs.enable),
    ("terminate_job", "POST", f"{JOB}/terminate", jobs.terminate),
    ("create_job", "POST", "/jobs", jobs.create),
    ("list_jobs", "GET", "/jobs", jobs.list_all),
    ("list_jobs_from_schedule", "GET", f"{SCHEDULE}/jobs", jobs.list_of_schedule),
    (
        "list_job_preparation_and_release_task_status",
        "GET",
        f"{JOB}/jobpreparationandreleasetaskstatus",
        jobs.preparation_status,
    ),
    ("get_job_task_counts", "GET", f"{JOB}/taskcounts", jobs.task_counts),
    ("job_schedule_exists", "HEAD", SCHEDULE, schedules.exists),
    ("delete_job_schedule", "DELETE", SCHEDULE, schedules.delete),
    ("get_job_schedule", "GET", SCHEDULE, schedules.find),
    ("update_job_schedule", "PATCH", SCHEDULE, schedules.update),
    ("replace_job_schedule", "PUT", SCHEDULE, schedules.replace),
    ("disable_job_schedule", "POST", f"{SCHEDULE}/disable", schedules.disable),
    ("enable_job_schedule", "POST", f"{SCHEDULE}/enable", schedules.enable),
    ("terminate_job_schedule", "POST", f"{SCHEDULE}/terminate", schedules.terminate),
    ("create_job_schedule", "POST", "/jobschedules", schedules.create),
    ("list_job_schedules", "GET", "/jobschedules", schedules.list_all),
    ("create_task", "POST", f"{JOB}/tasks", tasks.create),
    ("list_tasks", "GET", f"{JOB}/tasks", tasks.list_all),
    ("create_task_collection", "POST", f"{JOB}/addtaskcollection", tasks.create_collection),
    ("delete_task", "DELETE", TASK, tasks.delete),
    ("get_task", "GET", TASK, tasks.find),
    ("replace_task", "PUT", TASK, tasks.replace),
    ("list_subtasks", "GET", f"{TASK}/subtasksinfo", tasks.list_subtasks),
    ("terminate_task", "POST", f"{TASK}/terminate", tasks.terminate),
    ("reactivate_task", "POST", f"{TASK}/reactivate", tasks.reactivate),
    ("delete_task_file", "DELETE", f"{TASK}/files/{{*}}", files.delete_task_file),
    ("download_task_file", "GET", f"{TASK}/files/{{*}}", files.download_task_file),
    ("get_task_file_properties", "HEAD", f"{TASK}/files/{{*}}", files.task_file_properties),
    ("list_task_files", "GET", f"{TASK}/files", files.list_task_files),
    ("create_node_user", "POST", f"{NODE}/users", nodes.create_user),
    ("delete_node_user", "DELETE", f"{NODE}/users/{{}}", nodes.delete_user),
    ("replace_node_user", "PUT", f"{NODE}/users/{{}}", nodes.replace_user),
    ("get_node", "GET", NODE, nodes.find),
    ("reboot_node", "POST", f"{NODE}/reboot", nodes.reboot),
    ("start_node", "POST", f"{NODE}/start", nodes.start),
    ("reimage_node", "POST", f"{NODE}/reimage", nodes.reimage),
    ("deallocate_node", "POST", f"{NODE}/deallocate", nodes.deallocate),
    ("disable_node_scheduling", "POST", f"{NODE}/disablescheduling", nodes.disable_scheduling),
    ("enable_node_scheduling", "POST", f"{NODE}/enablescheduling", nodes.enable_scheduling),
    ("get_node_remote_login_settings", "GET", f"{NODE}/remoteloginsettings", nodes.remote_login),
    ("upload_node_logs", "POST", f"{NODE}/uploadbatchservicelogs", nodes.upload_logs),
    ("list_nodes", "GET", f"{POOL}/nodes", nodes.list_all),
    ("get_node_extension", "GET", f"{NODE}/extensions/{{}}", nodes.find_extension),
    ("list_node_extensions", "GET", f"{NODE}/extensions", nodes.list_extensions),
    ("delete_node_file", "DELETE", f"{NODE}/files/{{*}}", files.delete_node_file),
    ("download_node_file", "GET", f"{NODE}/files/{{*}}", files.download_node_file),
    ("get_node_file_properties", "HEAD", f"{NODE}/files/{{*}}", files.node_file_properties),
    ("list_node_files", "GET", f"{NODE}/files", files.list_node_files),
)

#: As above, of older api-versions.
FORMER_OPERATIONS: tuple[tuple[str, str, str, Handler], ...] = (
    ("get_all_jobs_lifetime_statistics", "GET", "/lifetimejobstats", jobs.lifetime_statistics),
    ("get_all_pools_lifetime_statistics", "GET", "/lifetimepoolstats", pools.lifetime_statistics),
    ("list_node_agent_skus", "GET", "/nodeagentskus", images.list_node_agents),
)
#: Handler -> the first api-version without its operation.
_ENDED = {jobs.lifetime_statistics: "2023-05", pools.lifetime_statistics: "2023-05", images.list_node_agents: "2019-06"}

_ONE, _MANY = frozenset({"$select", "$expand"}), frozenset({"$filter", "$select", "$expand", "$skiptoken"})
_FILTERED, _PAGED = frozenset({"$filter", "$skiptoken"}), frozenset({"$skiptoken"})
_SELECTED = frozenset({"$select"})
#: Which options of OData a reading operation knows.
_OPTIONS: dict[str, frozenset[str]] = {
    **dict.fromkeys(("get_pool", "get_job", "get_job_schedule", "get_task"), _ONE),
    **dict.fromkeys(("list_pools", "list_jobs", "list_jobs_from_schedule", "list_job_schedules", "list_tasks"), _MANY),
    **dict.fromkeys(("list_nodes", "list_job_preparation_and_release_task_status"), _FILTERED | _SELECTED),
    **dict.fromkeys(("list_pool_usage_metrics", "list_supported_images", "list_pool_node_counts"), _FILTERED),
    "list_node_agent_skus": _FILTERED,
    **dict.fromkeys(("list_task_files", "list_node_files"), _FILTERED),
    **dict.fromkeys(("get_node", "get_node_extension"), _SELECTED),
    **dict.fromkeys(("list_subtasks", "list_node_extensions"), _PAGED | _SELECTED),
    "list_applications": _PAGED,
}


@dataclass(slots=True)
class _Step:
    """One level of the address: fixed words, a parameter, the whole rest, and the verbs that end here."""

    words: dict[str, _Step] = field(default_factory=dict)
    parameter: _Step | None = None
    rest: dict[str, Handler] = field(default_factory=dict)
    verbs: dict[str, Handler] = field(default_factory=dict)


def _tree() -> _Step:
    root = _Step()
    for _operation, verb, address, handler in (*OPERATIONS, *FORMER_OPERATIONS):
        step = root
        *parts, last = address.removeprefix("/").split("/")
        for part in parts:
            step = _descend(step, part)
        if last == "{*}":
            step.rest[verb] = handler
        else:
            _descend(step, last).verbs[verb] = handler
    return root


def _descend(step: _Step, part: str) -> _Step:
    if part != "{}":
        return step.words.setdefault(part, _Step())
    if step.parameter is None:
        step.parameter = _Step()
    return step.parameter


_ROOT = _tree()
_OPTIONS_OF = {
    handler: _OPTIONS.get(operation, frozenset()) for operation, _, _, handler in (*OPERATIONS, *FORMER_OPERATIONS)
}


def check(request: Request, handler: Handler) -> None:
    """Raises BatchError for an operation that the api-version has no more, and for options that it never had.

    Words without a dollar that nobody knows are passed over.
    """
    if handler in _ENDED and request.version >= _ENDED[handler]:
        raise BatchError("InvalidUri", status=404)
    unknown = [name for name in request.query if name[:1] == "$" and name not in _OPTIONS_OF.get(handler, ())]
    if unknown:
        raise BatchError("UnsupportedQueryParameter", [("QueryParameterName", unknown[0][:64])])


def find(verb: str, raw_path: str) -> tuple[Handler, tuple[str, ...]]:
    """The handler and the parameters, percent-decoded but for the rest of a file's address.

    Raises BatchError InvalidUri or UnsupportedHttpVerb.
    """
    step = _ROOT
    found: list[str] = []
    parts = raw_path.split("/")[1:]
    for index, part in enumerate(parts):
        if step.rest and (part or index < len(parts) - 1):
            found.append("/".join(parts[index:]))
            return _by_verb(step.rest, verb), tuple(found)
        following = step.words.get(part) or step.words.get(part.lower())
        if following is None:
            following = step.parameter
            if following is None or not part:
                break
            found.append(unquote(part) if "%" in part else part)
        step = following
    else:
        if step.verbs:
            return _by_verb(step.verbs, verb), tuple(found)
    if parts[-1] == "" and len(parts) > 1 and step.verbs:
        return _by_verb(step.verbs, verb), tuple(found)
    raise BatchError("InvalidUri", status=404 if step is not _ROOT else 400)


def _by_verb(verbs: dict[str, Handler], verb: str) -> Handler:
    handler = verbs.get(verb)
    if handler is None:
        allowed = ", ".join(sorted(verbs)).encode()
        raise BatchError("UnsupportedHttpVerb", headers=((b"allow", allowed),))
    return handler
