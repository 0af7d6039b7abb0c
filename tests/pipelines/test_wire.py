"""Answers of management.azure.com itself, for what a stand-in cannot be made to show: each step's branches, operations."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import responses
from azure.core.credentials import AccessToken

from azbatchwrap.errors import AccessDenied, NotFound, ServiceError, Throttled, Unreachable, WaitTimeout
from azbatchwrap.pipelines import context as contexts
from azbatchwrap.pipelines import plan, settings
from azbatchwrap.pipelines.blobs import Blobs
from azbatchwrap.pipelines.context import Context
from azbatchwrap.pipelines.resources.compute import Compute
from azbatchwrap.pipelines.resources.endpoint import DefaultDeployment
from azbatchwrap.pipelines.resources.schedule import Schedule
from azbatchwrap.pipelines.resources.step import ArmStep, Step
from azbatchwrap.pipelines.resources.workspace import Workspace
from azbatchwrap.pipelines.steps import all_steps

SUBSCRIPTION = "01234567-89ab-cdef-0123-456789abcdef"
AZURE = "https://management.azure.com"


class Token:
    """Signs in, and counts how often it was asked to."""

    def __init__(self) -> None:
        self.scopes: list[str] = []

    def get_token(self, *scopes: str, **_options: Any) -> AccessToken:
        self.scopes += scopes
        return AccessToken("a token", 4_000_000_000)


class Pauses(list[float]):
    """Pauses instead of waiting."""

    def __call__(self, seconds: float) -> None:
        self.append(seconds)


@pytest.fixture
def answers() -> Iterator[responses.RequestsMock]:
    with responses.RequestsMock(assert_all_requests_are_fired=False) as mock:
        yield mock


def connect(pauses: Callable[[float], object] | None = None, **keys: Any) -> Context:
    values = {"subid": SUBSCRIPTION, "schedule_frequency": "Day", "container_registry": "yes", **keys}
    return contexts.connect(
        settings.load(flags=values), {}, credential=Token(), pause=Pauses() if pauses is None else pauses
    )


def keyed(context: Context) -> dict[str, Step]:
    return {step.key: step for step in all_steps(context)}


def model_file() -> str:
    return str(Path(__file__))


ARM_STEPS = sorted(
    {
        (key, model)
        for model in (False, True)
        for key, step in keyed(connect(**({"model": model_file()} if model else {}))).items()
        if isinstance(step, ArmStep) and key != "default deployment"
    }
)


def step_of(key: str, *, model: bool) -> tuple[Context, ArmStep]:
    context = connect(**({"model": model_file()} if model else {}))
    step = keyed(context)[key]
    assert isinstance(step, ArmStep)
    return context, step


def refused(code: str) -> dict[str, Any]:
    return {"error": {"code": code, "message": f"{code} was said"}}


@pytest.mark.parametrize(("key", "model"), ARM_STEPS)
class TestEachStep:
    """What is there, what is absent, and what nobody may know."""

    def test_is_found(self, answers: responses.RequestsMock, key: str, model: bool) -> None:
        context, step = step_of(key, model=model)
        document = {"id": step.path(context), "name": "there", "properties": {"provisioningState": "Succeeded"}}
        answers.get(f"{AZURE}{step.path(context)}", json=document)
        assert step.read(context) == document
        assert [call.request.method for call in answers.calls] == ["GET"]
        assert f"api-version={step.version}" in str(answers.calls[0].request.url)

    def test_is_absent_after_a_404(self, answers: responses.RequestsMock, key: str, model: bool) -> None:
        context, step = step_of(key, model=model)
        answers.get(f"{AZURE}{step.path(context)}", json=refused("ResourceNotFound"), status=404)
        assert step.read(context) is None

    @pytest.mark.parametrize(("status", "code"), [(403, "AuthorizationFailed"), (404, "SubscriptionNotFound")])
    def test_is_not_absent_after_a_refusal(
        self, answers: responses.RequestsMock, key: str, model: bool, status: int, code: str
    ) -> None:
        context, step = step_of(key, model=model)
        answers.get(f"{AZURE}{step.path(context)}", json=refused(code), status=status)
        with pytest.raises(ServiceError) as caught:
            step.read(context)
        assert (caught.value.status, caught.value.code) == (status, code)
        assert isinstance(caught.value, AccessDenied if status == 403 else NotFound)

    def test_is_put_where_it_is_read(self, answers: responses.RequestsMock, key: str, model: bool) -> None:
        context, step = step_of(key, model=model)
        assert step.wanted(context) is not None
        assert step.path(context).startswith(f"/subscriptions/{SUBSCRIPTION}/resourceGroups/batchscoring")


STORAGE = {
    "id": "the account",
    "location": "eastus",
    "properties": {"primaryEndpoints": {"blob": "https://account.blob.core.windows.net/"}},
}
BLOB_ERROR = "<?xml version='1.0'?><Error><Code>{code}</Code><Message>said</Message></Error>"


def with_account(answers: responses.RequestsMock) -> Context:
    context = connect()
    context.found["storage account"] = STORAGE
    keys = {"keys": [{"keyName": "key1", "value": "c2VjcmV0"}]}
    answers.post(f"{AZURE}{context.place.storage_account}/listKeys", json=keys)
    return context


class TestContainer:
    @staticmethod
    def read(context: Context) -> Any:
        return keyed(context)["container source"].read(context)

    URL = "https://account.blob.core.windows.net/source"

    def test_is_found(self, answers: responses.RequestsMock) -> None:
        context = with_account(answers)
        headers = {
            "x-ms-meta-azbatchwrap": "batchcreate",
            "Last-Modified": "Fri, 20 Nov 2026 07:00:00 GMT",
            "ETag": "1",
        }
        answers.get(self.URL, headers=headers)
        assert self.read(context) == {"tags": {"azbatchwrap": "batchcreate"}}

    def test_is_absent_after_a_404(self, answers: responses.RequestsMock) -> None:
        context = with_account(answers)
        answers.get(self.URL, status=404, headers={"x-ms-error-code": "ContainerNotFound"})
        assert self.read(context) is None

    def test_is_not_absent_after_a_refusal(self, answers: responses.RequestsMock) -> None:
        context = with_account(answers)
        answers.get(self.URL, status=403, headers={"x-ms-error-code": "AuthenticationFailed"})
        with pytest.raises(AccessDenied, match="container source"):
            self.read(context)

    def test_is_not_asked_for_without_an_account(self, answers: responses.RequestsMock) -> None:
        context = connect()
        context.found["storage account"] = None
        assert self.read(context) is None
        assert len(answers.calls) == 0

    def test_waits_for_the_end_of_its_deletion(self, answers: responses.RequestsMock) -> None:
        context = with_account(answers)
        busy = BLOB_ERROR.format(code="ContainerBeingDeleted")
        answers.put(self.URL, status=409, body=busy, headers={"x-ms-error-code": "ContainerBeingDeleted"})
        answers.put(self.URL, status=201, headers={"Last-Modified": "Fri, 20 Nov 2026 07:00:00 GMT", "ETag": "1"})
        blobs = context.blobs()
        blobs.make_container("source")
        assert context.arm.pause == [5.0]


class TestData:
    URL = TestContainer.URL

    @staticmethod
    def read(context: Context) -> Any:
        return keyed(context)["data"].read(context)

    def test_is_found_by_the_hash_in_its_metadata(self, answers: responses.RequestsMock) -> None:
        context = with_account(answers)
        listing = (
            "<?xml version='1.0'?><EnumerationResults ServiceEndpoint='https://account.blob.core.windows.net/' "
            "ContainerName='source'><Blobs><Blob><Name>data.txt</Name><Properties><BlobType>BlockBlob</BlobType></Properties><Metadata><sha256>abc</sha256></Metadata></Blob>"
            "<Blob><Name>data.txt.old</Name><Properties><BlobType>BlockBlob</BlobType></Properties></Blob></Blobs><NextMarker/></EnumerationResults>"
        )
        answers.get(self.URL, body=listing, content_type="application/xml")
        assert self.read(context) == {"sha256": {"data.txt": "abc"}}

    def test_is_absent_after_a_404(self, answers: responses.RequestsMock) -> None:
        context = with_account(answers)
        body = BLOB_ERROR.format(code="ContainerNotFound")
        answers.get(self.URL, status=404, body=body, headers={"x-ms-error-code": "ContainerNotFound"})
        assert self.read(context) is None

    def test_is_not_absent_after_a_refusal(self, answers: responses.RequestsMock) -> None:
        context = with_account(answers)
        answers.get(self.URL, status=403, headers={"x-ms-error-code": "AuthorizationFailure"})
        with pytest.raises(AccessDenied):
            self.read(context)


def test_a_plan_that_may_read_nothing_names_everything_and_writes_nothing(answers: responses.RequestsMock) -> None:
    answers.get(re.compile(f"{AZURE}/.*"), json=refused("AuthorizationFailed"), status=403)
    with pytest.raises(AccessDenied, match="2 resources cannot be read") as caught:
        plan.make(connect())
    assert "resource group" in str(caught.value)
    assert "Contributor" in str(caught.value)
    assert {call.request.method for call in answers.calls} == {"GET"}


def test_one_token_serves_all_threads(answers: responses.RequestsMock) -> None:
    context = connect()
    answers.get(re.compile(f"{AZURE}/.*"), json=refused("ResourceGroupNotFound"), status=404)
    made = plan.make(context)
    assert {change.action for change in made.changes} == {plan.Action.CREATE}
    credential = context.arm.credential
    assert credential._credential.scopes == [f"{AZURE}/.default"]


class TestOperations:
    """A write is over when its operation is, and not before."""

    OPERATION = f"{AZURE}/subscriptions/{SUBSCRIPTION}/providers/X/operations/1"

    def start(self, answers: responses.RequestsMock, **headers: str) -> tuple[Context, Pauses]:
        pauses = Pauses()
        context = connect(pauses)
        document = {"properties": {"provisioningState": "Creating"}}
        path = f"{AZURE}{Compute().path(context)}"
        answers.put(path, json=document, status=201, headers={"Azure-AsyncOperation": self.OPERATION, **headers})
        answers.get(path, json={"properties": {"provisioningState": "Succeeded"}})
        return context, pauses

    def write(self, context: Context) -> Any:
        step = Compute()
        return step.write(context, step.wanted(context), None)

    @pytest.mark.parametrize(("retry_after", "pause"), [("0.2", 0.2), ("0", 0.1), ("3", 3.0), (None, 5.0)])
    def test_are_waited_for(self, answers: responses.RequestsMock, retry_after: str | None, pause: float) -> None:
        context, pauses = self.start(answers, **({"Retry-After": retry_after} if retry_after else {}))
        for state in ("InProgress", "InProgress", "Succeeded"):
            answers.get(self.OPERATION, json={"status": state})
        assert self.write(context)["properties"]["provisioningState"] == "Succeeded"
        assert pauses == [0.1, pause]
        # Libraries that other tests have imported may look for a metadata service in threads of their own.
        verbs = [call.request.method for call in answers.calls if str(call.request.url).startswith(AZURE)]
        assert verbs == ["PUT", "GET", "GET", "GET", "GET"]

    def test_that_fail_say_why(self, answers: responses.RequestsMock) -> None:
        context, _ = self.start(answers)
        error = {"code": "QuotaExceeded", "message": "too many cores", "details": [{"code": "D", "message": "deeper"}]}
        answers.get(self.OPERATION, json={"status": "Failed", "error": error})
        with pytest.raises(ServiceError, match=r"too many cores \(D: deeper\)") as caught:
            self.write(context)
        assert caught.value.code == "QuotaExceeded"

    def test_that_never_end_are_given_up(self, answers: responses.RequestsMock) -> None:
        context, _ = self.start(answers)
        context.arm.operation_timeout = 0
        answers.get(self.OPERATION, json={"status": "InProgress"})
        with pytest.raises(WaitTimeout, match="goes on by itself"):
            self.write(context)

    def test_elsewhere_get_no_token(self, answers: responses.RequestsMock) -> None:
        context, _ = self.start(answers, **{"Azure-AsyncOperation": "https://elsewhere.example/operation"})
        with pytest.raises(ServiceError, match=r"not on https://management\.azure\.com"):
            self.write(context)

    def test_with_a_location_alone_are_waited_for(self, answers: responses.RequestsMock) -> None:
        pauses = Pauses()
        context = connect(pauses)
        path = f"{AZURE}{Compute().path(context)}"
        answers.delete(path, status=202, headers={"Location": f"{self.OPERATION}/result", "Retry-After": "1"})
        answers.get(f"{self.OPERATION}/result", status=202)
        answers.get(f"{self.OPERATION}/result", status=200)
        Compute().remove(context, {})
        assert pauses == [0.1]

    def test_of_what_is_gone_already_are_fine(self, answers: responses.RequestsMock) -> None:
        context = connect()
        answers.delete(f"{AZURE}{Compute().path(context)}", status=404, json=refused("ResourceNotFound"))
        Compute().remove(context, {})


def test_a_deleted_workspace_is_found_before_one_is_made(answers: responses.RequestsMock) -> None:
    context = connect()
    path = Workspace().path(context)
    deleted = f"{AZURE}/subscriptions/{SUBSCRIPTION}/providers/Microsoft.MachineLearningServices/deletedWorkspaces"
    answers.get(deleted, json={"value": [{"properties": {"workspaceArmId": path.upper()}}]})
    answers.put(f"{AZURE}{path}", json={"properties": {"provisioningState": "Succeeded"}})
    step = Workspace()
    assert step.note(context) == "recovers the deleted workspace of this name"
    step.write(context, step.wanted(context), None)
    body = json.loads(answers.calls[-1].request.body)
    assert body["properties"]["allowRecoverSoftDeletedWorkspace"] is True
    assert body["properties"]["storageAccount"] == context.place.storage_account


def test_a_default_deployment_that_the_service_drops_is_an_error(answers: responses.RequestsMock) -> None:
    context = connect()
    step = DefaultDeployment()
    endpoint = {"location": "eastus", "tags": None, "properties": {"provisioningState": "Succeeded", "defaults": None}}
    answers.get(f"{AZURE}{step.path(context)}", json=endpoint)
    answers.put(f"{AZURE}{step.path(context)}", json=endpoint)
    with pytest.raises(ServiceError, match="apply again") as caught:
        step.write(context, step.wanted(context), endpoint)
    assert caught.value.code == "DefaultDeploymentNotSet"
    sent = json.loads(next(call.request.body for call in answers.calls if call.request.method == "PUT"))
    assert sent["properties"]["defaults"] == {"deploymentName": "scoring"}
    assert sent["tags"]


def test_a_schedule_falls_back_to_a_job_of_the_same_version(answers: responses.RequestsMock) -> None:
    context = connect()
    step = Schedule()
    path = f"{AZURE}{step.path(context)}"
    answers.put(path, status=400, json=refused("BadArgument"))
    answers.put(path, json={"properties": {"provisioningState": "Succeeded"}})
    step.write(context, step.wanted(context), None)
    first, second = (json.loads(call.request.body)["properties"]["action"] for call in answers.calls)
    assert first["actionType"] == "InvokeBatchEndpoint"
    assert second["actionType"] == "CreateJob"
    assert second["jobDefinition"]["componentId"] == keyed(context)["pipeline"].path(context)
    there = {"properties": {**step.wanted(context)["properties"], "action": second}}
    assert step.compare(step.wanted(context), there) == ()


class TestSubmit:
    URL = "https://endpoint.eastus.inference.ml.azure.com/jobs"

    def test_asks_for_a_token_of_its_own_audience(self, answers: responses.RequestsMock) -> None:
        context = connect()
        answers.post(self.URL, json={"name": "job"}, status=201)
        context.arm.submit(self.URL, {}, {"azureml-model-deployment": "one"})
        assert context.arm.credential._credential.scopes == ["https://ml.azure.com/.default"]

    def test_is_never_repeated(self, answers: responses.RequestsMock) -> None:
        context = connect()
        answers.post(self.URL, status=503, headers={"Retry-After": "0"})
        with pytest.raises(Throttled):
            context.arm.submit(self.URL, {}, {})
        answers.replace("POST", self.URL, body=ConnectionError("cut"))
        with pytest.raises((Unreachable, ConnectionError)):
            context.arm.submit(self.URL, {}, {})
        assert len(answers.calls) == 2

    def test_sends_no_token_in_the_clear(self, answers: responses.RequestsMock) -> None:
        with pytest.raises(ServiceError, match="no token is sent"):
            connect().arm.submit("http://endpoint.example/jobs", {}, {})
        assert len(answers.calls) == 0

    def test_names_its_own_deployment_each_time(self, answers: responses.RequestsMock) -> None:
        """The SDK keeps the header of one call for all that follow."""
        context = connect()
        answers.post(self.URL, json={"name": "job"}, status=201)
        context.arm.submit(self.URL, {}, {"azureml-model-deployment": "one"})
        context.arm.submit(self.URL, {}, {})
        assert [call.request.headers.get("azureml-model-deployment") for call in answers.calls] == ["one", None]


def test_the_key_of_the_account_is_asked_for_once(answers: responses.RequestsMock) -> None:
    context = with_account(answers)
    assert context.blobs() is context.blobs()
    assert isinstance(context.blobs(), Blobs)
    assert len(answers.calls) == 1
    assert "c2VjcmV0" not in repr(context.blobs())
