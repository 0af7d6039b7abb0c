"""A user's program: the real clients, nothing set but the environment. Prints what it met as one JSON object.

Annotations are evaluated here: `dsl.pipeline` reads the types of a pipeline's inputs from them.
"""

import json
import logging
import os
import sys
import time
import uuid
import warnings
from pathlib import Path
from urllib.parse import urlsplit

warnings.simplefilter("ignore")
logging.disable(logging.ERROR)

from azure.ai.ml import Input, MLClient, Output, command, dsl  # noqa: E402
from azure.ai.ml.entities import (  # noqa: E402
    AccountKeyConfiguration,
    AmlCompute,
    AzureBlobDatastore,
    BatchEndpoint,
    CodeConfiguration,
    Environment,
    JobSchedule,
    Model,
    ModelBatchDeployment,
    ModelBatchDeploymentSettings,
    PipelineComponentBatchDeployment,
    RecurrenceTrigger,
    Workspace,
)
from azure.core.exceptions import HttpResponseError, ResourceNotFoundError  # noqa: E402
from azure.identity import DefaultAzureCredential  # noqa: E402
from azure.mgmt.resource.resources import ResourceManagementClient  # noqa: E402
from azure.storage.blob import BlobServiceClient  # noqa: E402

folder = Path(sys.argv[1])
facts: dict[str, object] = {}
subscription = os.environ["AZURE_SUBSCRIPTION_ID"]
group = f"rg-{uuid.uuid4().hex[:8]}"
credential = DefaultAzureCredential()

# The clients of azure-mgmt-* know Azure's public clouds only: they are told the address.
parts = urlsplit(os.environ["ARM_CLOUD_METADATA_URL"])
manager = f"{parts.scheme}://{parts.netloc}"
resources = ResourceManagementClient(credential, subscription, manager, credential_scopes=[f"{manager}/.default"])
facts["group before"] = resources.resource_groups.check_existence(group)
resources.resource_groups.create_or_update(group, {"location": "westeurope"})
facts["group after"] = resources.resource_groups.check_existence(group)

client = MLClient(credential, subscription, group, "space")
try:
    client.workspaces.get("space")
except ResourceNotFoundError as error:
    facts["no workspace"] = error.error.code
workspace = client.workspaces.begin_create(Workspace(name="space", location="westeurope")).result()
facts["workspace"] = workspace.name
kinds = [each.type.split("/")[-1] for each in resources.resources.list_by_resource_group(group)]
facts["resources"] = sorted(kinds)
facts["workspace again"] = client.workspaces.begin_create(Workspace(name="space", tags={"a": "b"})).result().tags["a"]

cluster = AmlCompute(name="cpu", size="Standard_D2_v3", min_instances=0, max_instances=2)
client.compute.begin_create_or_update(cluster).result()
facts["compute"] = client.compute.get("cpu").size

storage = BlobServiceClient.from_connection_string(os.environ["AZURE_STORAGE_CONNECTION_STRING"])
container = storage.create_container(f"data-{uuid.uuid4().hex[:8]}")
container.upload_blob("in/data.txt", b"some data")
container.upload_blob("model/word.txt", b"score")
datastore = AzureBlobDatastore(
    name="data",
    account_name=workspace.storage_account.rpartition("/")[2],
    container_name=container.container_name,
    credentials=AccountKeyConfiguration(account_key=storage.credential.account_key),
)
client.datastores.create_or_update(datastore)
facts["datastore"] = client.datastores.get("data").container_name == container.container_name

code = folder / "code"
code.mkdir()
(code / "upper.py").write_text(
    "import pathlib, sys\n"
    "source, target, mark = sys.argv[1:]\n"
    "text = pathlib.Path(source, 'data.txt').read_text()\n"
    "pathlib.Path(target, 'data.txt').write_text(text.upper() + mark)\n"
    "print('wrote', text)\n"
)
(code / "score.py").write_text(
    "import os, pathlib\n"
    "def init():\n"
    "    global word\n"
    "    word = pathlib.Path(os.environ['AZUREML_MODEL_DIR'], 'word.txt').read_text()\n"
    "def run(batch):\n"
    "    return [word + ' ' + pathlib.Path(path).read_text() for path in batch]\n"
)
environment = Environment(image="any", conda_file={"name": "plain", "dependencies": ["python=3.10"]})
upper = command(
    name="upper",
    code=str(code),
    command="python upper.py ${{inputs.data}} ${{outputs.out}} ${{inputs.mark}}",
    inputs={"data": Input(type="uri_folder"), "mark": Input(type="string", default="!")},
    outputs={"out": Output(type="uri_folder")},
    environment=environment,
    is_deterministic=False,
)


@dsl.pipeline(default_compute="cpu")
def twice(data: Input(type="uri_folder"), mark: str = "!"):  # type: ignore[no-untyped-def, valid-type]
    """Two steps."""
    first = upper(data=data, mark=mark)
    second = upper(data=first.outputs.out, mark="?")
    return {"result": second.outputs.out}


component = client.components.create_or_update(twice().component, version="h-1")
endpoint = f"ep-{uuid.uuid4().hex[:8]}"
client.batch_endpoints.begin_create_or_update(BatchEndpoint(name=endpoint, tags={})).result()
deployment = PipelineComponentBatchDeployment(
    name="main", endpoint_name=endpoint, component=component, settings={"default_compute": "cpu"}
)
facts["deployed"] = client.batch_deployments.begin_create_or_update(deployment).result().component == component.id
found = client.batch_endpoints.get(endpoint)
found.defaults = {"deployment_name": "main"}
client.batch_endpoints.begin_create_or_update(found).result()
facts["default"] = client.batch_endpoints.get(endpoint).defaults.deployment_name

data = Input(type="uri_folder", path="azureml://datastores/data/paths/in/")


def finished(name: str):  # type: ignore[no-untyped-def]
    """The job once it is over."""
    while (job := client.jobs.get(name)).status not in {"Completed", "Failed", "Canceled"}:
        time.sleep(0.02)
    return job


def invoked(**wanted: object):  # type: ignore[no-untyped-def]
    """The finished job of an invocation."""
    return finished(client.batch_endpoints.invoke(endpoint, **wanted).name)


job = invoked(deployment_name="main", inputs={"data": data, "mark": Input(type="string", default="x")})
facts["job"] = job.status
path = job.outputs["result"].path.partition("/paths/")[2].strip("/")
results = storage.get_container_client(client.datastores.get_default().container_name)
facts["result"] = results.download_blob(f"{path}/data.txt").readall().decode()
facts["steps"] = len(list(client.jobs.list(parent_job_name=job.name)))
facts["listed"] = [each.name for each in client.batch_endpoints.list_jobs(endpoint)] == [job.name]

failed = invoked(
    deployment_name="main", inputs={"data": Input(type="uri_folder", path="azureml://datastores/data/paths/no/")}
)
facts["failed"] = failed.status

model = client.models.create_or_update(
    Model(name="word", version="1", path="azureml://datastores/data/paths/model/", type="custom_model")
)
scoring = ModelBatchDeployment(
    name="scoring",
    endpoint_name=endpoint,
    model=model,
    environment=environment,
    code_configuration=CodeConfiguration(code=str(code), scoring_script="score.py"),
    compute="cpu",
    settings=ModelBatchDeploymentSettings(mini_batch_size=1, output_file_name="scores.csv"),
)
client.batch_deployments.begin_create_or_update(scoring).result()
scored = invoked(deployment_name="scoring", input=data)
path = scored.outputs["score"].path.partition("/paths/")[2].strip("/")
facts["scores"] = results.download_blob(f"{path}/scores.csv").readall().decode()

schedule = JobSchedule(
    name="hourly", trigger=RecurrenceTrigger(frequency="hour", interval=1), create_job=twice(data=data)
)
client.schedules.begin_create_or_update(schedule).result()
facts["schedule"] = client.schedules.get("hourly").trigger.frequency

try:
    client.compute.begin_create_or_update(AmlCompute(name="large", size="Standard_D2_v3", max_instances=1000)).result()
except HttpResponseError as error:
    facts["too large"] = error.error.code

client.batch_endpoints.begin_delete(endpoint).result()
client.workspaces.begin_delete("space", delete_dependent_resources=True, permanently_delete=True).result()
resources.resource_groups.begin_delete(group).result()
facts["group at last"] = resources.resource_groups.check_existence(group)
sys.stdout.write("\n" + json.dumps(facts))
