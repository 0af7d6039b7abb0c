"""What the service refuses and how it says so: codes, statuses, messages and the body of an error answer."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from typing import Any

import orjson

from azbatchwrap.local.batch import wire

#: code -> (HTTP status, sentence). Codes and statuses are the service's documented ones, the sentences are ours
#: except where clients are known to show the recorded one.
CODES: dict[str, tuple[int, str]] = {
    "ActiveJobAndScheduleQuotaReached": (409, "The specified account has reached active job and schedule quota."),
    "ApplicationNotFound": (404, "The specified application does not exist."),
    "AuthenticationFailed": (
        403,
        (
            "Server failed to authenticate the request. Make sure the value of Authorization header is formed "
            "correctly including the signature."
        ),
    ),
    "AutoScalingFormulaSyntaxError": (400, "The autoscale formula cannot be read."),
    "AutoScalingFormulaTooLong": (400, "The autoscale formula is longer than 8 KiB."),
    "ConditionNotMet": (412, "The condition specified using HTTP conditional header(s) is not met."),
    "FileNotFound": (404, "The specified file does not exist."),
    "InternalError": (500, "The service met an error of its own; its log says more."),
    "InvalidApplicationPackageReferences": (
        409,
        "One or more of the specified application package references are invalid.",
    ),
    "InvalidAutoScalingSettings": (400, "The autoscale settings contradict each other or the pool."),
    "InvalidHeaderValue": (400, "The value of one of the HTTP headers is not in the expected format."),
    "InvalidPropertyValue": (400, "The value provided for one of the properties in the request body is invalid."),
    "InvalidQueryParameterValue": (400, "The value of a query parameter is not allowed."),
    "InvalidRange": (416, "The range asked for lies outside the file."),
    "InvalidRequestBody": (400, "The request body is not syntactically valid."),
    "InvalidUri": (400, "The requested URI does not name an operation of this service."),
    "JobBeingDeleted": (409, "The specified job has been marked for deletion and is being garbage collected."),
    "JobBeingTerminated": (409, "The specified job is being terminated."),
    "JobCompleted": (409, "The specified job is already completed."),
    "JobDisabled": (409, "The specified job is disabled."),
    "JobExists": (409, "The specified job already exists."),
    "JobNotActive": (409, "The specified job is not active."),
    "JobNotFound": (404, "The specified job does not exist."),
    "JobPreparationTaskNotSpecified": (409, "The specified job has no job preparation task."),
    "JobScheduleBeingDeleted": (
        409,
        "The specified job schedule has been marked for deletion and is being reclaimed.",
    ),
    "JobScheduleBeingTerminated": (409, "The specified job schedule is being terminated."),
    "JobScheduleCompleted": (409, "The specified job schedule is already completed."),
    "JobScheduleDisabled": (409, "The specified job schedule is already disabled."),
    "JobScheduleExists": (409, "The specified job schedule already exists."),
    "JobScheduleNotFound": (404, "The specified job schedule does not exist."),
    "JobScheduleWithSameIdExists": (409, "A job schedule with the same id already exists."),
    "JobWithSameIdExists": (409, "A job with the same id already exists."),
    "MissingContentLengthHeader": (411, "The Content-Length header is missing."),
    "MissingRequiredProperty": (400, "A required property is missing from the request body."),
    "MissingRequiredQueryParameter": (400, "A required query parameter is missing."),
    "MultipleConditionHeadersNotSupported": (400, "These conditional headers cannot be combined."),
    "NodeAlreadyInTargetSchedulingState": (409, "The node's scheduling state is already the one asked for."),
    "NodeBeingRebooted": (409, "The specified node is being rebooted."),
    "NodeNotFound": (404, "The specified node does not exist."),
    "NodeStateUnusable": (409, "The specified node is unusable."),
    "NodeUserExists": (409, "The specified node user already exists."),
    "NodeUserNotFound": (404, "The specified node user does not exist."),
    "OperationInvalidForCurrentState": (409, "The operation is not allowed in the current state."),
    "OperationNotValidOnNode": (409, "The specified operation is not valid on the node."),
    "OperationNotValidOnPool": (409, "The specified operation is not valid on the pool."),
    "OutOfRangeQueryParameterValue": (400, "The value of a query parameter is outside its range."),
    "PoolBeingDeleted": (409, "The specified pool has been marked for deletion."),
    "PoolBeingResized": (409, "The specified pool is being resized."),
    "PoolExists": (409, "The specified pool already exists."),
    "PoolNotFound": (404, "The specified pool does not exist."),
    "PropertyCannotBeUpdated": (409, "One of the properties cannot be changed in the current state."),
    "RequestBodyTooLarge": (413, "The request body is too large and exceeds the maximum permissible limit."),
    "ResourceNotFound": (404, "The specified resource does not exist."),
    "ServerBusy": (503, "The service cannot take the request just now. Please try again."),
    "TaskCompleted": (409, "The specified task is already completed."),
    "TaskDependenciesNotSpecifiedOnJob": (
        400,
        "The task depends on others, but its job was created without usesTaskDependencies.",
    ),
    "TaskDependencyListTooLong": (400, "The list of task dependencies is too long."),
    "TaskExists": (409, "The specified task already exists."),
    "TaskFilesCleanedup": (409, "The files of the task were cleaned up after its retention time."),
    "TaskFilesUnavailable": (409, "The files of the task are unavailable: it has not started on a node."),
    "TaskIdSameAsJobPreparationTask": (409, "The task's id is that of the job preparation task."),
    "TaskNotCompleted": (409, "The specified task is not completed."),
    "TaskNotFound": (404, "The specified task does not exist."),
    "TaskSucceeded": (409, "The specified task has succeeded and cannot run again."),
    "TooManyEnableAutoScaleRequests": (503, "Autoscaling was enabled less than 30 seconds ago."),
    "TooManyRequests": (429, "Request failed as server encountered too many requests. Please try again."),
    "UnsupportedHttpVerb": (405, "The resource does not support this HTTP verb."),
    "UnsupportedQueryParameter": (400, "One of the query parameters of the request is not supported."),
    "UnsupportedRequestVersion": (400, "The api-version of the request is not supported."),
}


class BatchError(Exception):
    """A refusal. ``values`` are the (key, value) details of the answer, ``status`` 0 takes the code's own."""

    def __init__(
        self,
        code: str,
        values: Iterable[tuple[str, str]] = (),
        *,
        status: int = 0,
        message: str = "",
        headers: Sequence[tuple[bytes, bytes]] = (),
    ) -> None:
        own_status, text = CODES[code]
        self.code = code
        self.status = status or own_status
        self.message = message or text
        self.values = tuple(values)
        self.headers = tuple(headers)
        super().__init__(f"{code}: {self.message} {self.values or ''}")

    def body(self, base: str, request_id: str) -> bytes:
        """The JSON answer; ``base`` is the account's address as the client wrote it."""
        text = f"{self.message}\nRequestId:{request_id}\nTime:{wire.format_ticks(wire.now())}"
        answer: dict[str, Any] = {
            "odata.metadata": f"{base}/$metadata#Microsoft.Azure.Batch.Protocol.Entities.Container.errors/@Element",
            "code": self.code,
            "message": {"lang": "en-US", "value": text},
        }
        if self.values:
            answer["values"] = [{"key": key, "value": value} for key, value in self.values]
        return orjson.dumps(answer)


def bad_property(name: str, value: object, reason: str) -> BatchError:
    """400 InvalidPropertyValue that names the property, what was sent (shortened) and why it is refused."""
    shown = value if isinstance(value, str) else json.dumps(value, default=repr)
    return BatchError(
        "InvalidPropertyValue", [("PropertyName", name), ("PropertyValue", shown[:1024]), ("Reason", reason)]
    )


def bad_query(name: str, value: str, reason: str) -> BatchError:
    """400 InvalidQueryParameterValue that names the parameter."""
    return BatchError(
        "InvalidQueryParameterValue",
        [("QueryParameterName", name), ("QueryParameterValue", value[:1024]), ("Reason", reason)],
    )


def bad_header(name: str, value: str) -> BatchError:
    """400 InvalidHeaderValue that names the header."""
    return BatchError("InvalidHeaderValue", [("HeaderName", name), ("HeaderValue", value[:1024])])
