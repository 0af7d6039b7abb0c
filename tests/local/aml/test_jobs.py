"""Jobs that really run: what a command sees, what becomes of its outputs, and all the ways to fail."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fixtures_aml import ArmProcess
from tests.fixtures_stack import RunningAzurite
from tests.local.aml.conftest import ML, Space, code, folder, literal, unique
from tests.waiting import wait_until

UPPER = """
import argparse, os, pathlib
parser = argparse.ArgumentParser()
parser.add_argument("--data"); parser.add_argument("--out"); parser.add_argument("--suffix", default="")
given = parser.parse_args()
for path in sorted(pathlib.Path(given.data).iterdir()):
    pathlib.Path(given.out, path.name).write_text(path.read_text().upper() + given.suffix)
    print("did", path.name)
"""
FILES = {"data": {"type": "uri_folder"}, "suffix": {"type": "string", "optional": True}}
OUT = {"out": {"type": "uri_folder"}}
COMMAND = "python upper.py --data ${{inputs.data}} --out ${{outputs.out}} $[[--suffix ${{inputs.suffix}}]]"


@pytest.fixture(scope="module")
def upper(space: Space) -> str:
    """A component that writes its input's files in capitals."""
    space.upload("in/a.txt", "hello")
    space.upload("in/b.txt", "world")
    return space.component(COMMAND, {"upper.py": UPPER}, inputs=FILES, outputs=OUT)


def chain(space: Space, component: str) -> str:
    """A pipeline of two steps, the second on the first one's output."""
    spec = {
        "type": "pipeline",
        "inputs": {"data": {"type": "uri_folder"}, "mark": {"type": "string", "default": "!"}},
        "outputs": {"result": {"type": "uri_folder"}},
        "jobs": {
            "late": {
                "componentId": component,
                "inputs": {
                    "data": {"value": "${{parent.jobs.early.outputs.out}}", "job_input_type": "literal"},
                    "suffix": {"value": "${{parent.inputs.mark}}", "job_input_type": "literal"},
                },
                "outputs": {"out": {"value": "${{parent.outputs.result}}", "type": "literal"}},
            },
            "early": {
                "componentId": component,
                "inputs": {
                    "data": {"value": "${{parent.inputs.data}}", "job_input_type": "literal"},
                    "suffix": {"value": "?", "job_input_type": "literal"},
                },
            },
        },
    }
    return str(space.put(f"components/{unique('p')}/versions/1", componentSpec=spec)["id"])


class TestPipelines:
    def test_steps_hand_their_outputs_on(self, space: Space, upper: str) -> None:
        endpoint = space.deploy(chain(space, upper))
        job = space.run(endpoint, inputData={"data": folder("in")}, name=unique("job-"))
        assert job["status"] == "Completed", job
        assert space.read(job["outputs"]["result"]["uri"], "a.txt") == "HELLO?!"
        assert space.log(job["displayName"]).count("did a.txt") == 2
        children = space.arm.ask("GET", f"/history/v1.0{space.path}/runs/{job['displayName']}/children", audience=ML)
        assert [(each["displayName"], each["status"]) for each in children.json()["value"]] == [
            ("early", "Completed"),
            ("late", "Completed"),
        ]

    def test_pipelines_in_pipelines(self, space: Space, upper: str) -> None:
        spec = {
            "type": "pipeline",
            "inputs": {"data": {"type": "uri_folder"}},
            "outputs": {"final": {"type": "uri_folder"}},
            "jobs": {
                "inner": {
                    "componentId": chain(space, upper),
                    "inputs": {"data": {"value": "${{parent.inputs.data}}"}},
                },
                "last": {
                    "componentId": upper,
                    "inputs": {"data": {"value": "${{parent.jobs.inner.outputs.result}}"}},
                    "outputs": {"out": {"value": "${{parent.outputs.final}}"}},
                },
            },
        }
        outer = space.put(f"components/{unique('p')}/versions/1", componentSpec=spec)["id"]
        job = space.run(space.deploy(outer), inputData={"data": folder("in")})
        assert job["status"] == "Completed", job
        assert space.read(job["outputs"]["final"]["uri"], "b.txt") == "WORLD?!"

    def test_an_output_goes_where_the_caller_says(self, space: Space, upper: str) -> None:
        endpoint = space.deploy(upper)
        wanted = "azureml://datastores/data/paths/results/here"
        outputs = {"out": {"jobOutputType": "UriFolder", "uri": wanted}}
        job = space.run(endpoint, inputData={"data": folder("in/"), "suffix": literal("x")}, outputData=outputs)
        assert job["outputs"]["out"]["uri"] == wanted
        blob = space.blobs.get_blob_client(space.container, "results/here/a.txt")
        assert blob.download_blob().readall() == b"HELLOx"

    def test_the_body_as_microsofts_examples_write_it(self, space: Space, upper: str) -> None:
        wanted = "azureml://datastores/data/paths/results/there"
        body = {
            "InputData": {
                "data": {"JobInputType": "UriFolder", "Uri": "azureml:/datastores/data/paths/in"},
                "suffix": {"JobInputType": "Literal", "Value": "x"},
            },
            "OutputData": {"out": {"JobOutputType": "UriFolder", "Uri": wanted}},
            "Properties": {"ExperimentName": "by-hand"},
        }
        job = space.run(space.deploy(upper), **body)
        assert (job["status"], job["experimentName"]) == ("Completed", "by-hand"), job
        assert space.read(wanted, "a.txt") == "HELLOx"

    @pytest.mark.parametrize(
        "form",
        [
            "azureml:{name}:2",
            "azureml:{name}@latest",
            "azureml://locations/eastus/workspaces/any/data/{name}/versions/2",
            "azureml://locations/eastus/workspaces/any/data/{name}/labels/latest",
        ],
    )
    def test_a_registered_asset_as_input(self, space: Space, upper: str, form: str) -> None:
        name = unique("asset")
        for version, path in (("1", "absent"), ("2", "in")):
            uri = f"azureml://datastores/data/paths/{path}"
            space.put(f"data/{name}/versions/{version}", dataUri=uri, dataType="uri_folder")
        job = space.run(
            space.deploy(upper), inputData={"data": {"jobInputType": "UriFolder", "uri": form.format(name=name)}}
        )
        assert job["status"] == "Completed", job

    def test_one_file_as_input_and_output(self, space: Space) -> None:
        component = space.component(
            "cp ${{inputs.one}} ${{outputs.copy}}",
            inputs={"one": {"type": "uri_file"}},
            outputs={"copy": {"type": "uri_file"}},
        )
        space.upload("single.txt", "alone")
        given = {"one": {"jobInputType": "UriFile", "uri": "azureml://datastores/data/paths/single.txt"}}
        job = space.run(space.deploy(component), inputData=given)
        assert job["status"] == "Completed", job
        store, _, path = job["outputs"]["copy"]["uri"].partition("datastores/")[2].partition("/paths/")
        container = space.ok("GET", f"{space.path}/datastores/{store}")["properties"]["containerName"]
        assert space.blobs.get_blob_client(container, path.strip("/")).download_blob().readall() == b"alone"


class TestEnvironment:
    def test_nothing_of_the_user_is_seen(self, space: Space) -> None:
        component = space.component(
            "env; python -c 'import sys; print(sys.prefix)'; pwd; ls -a",
            environment_variables={"MINE": "${{inputs.word}}"},
            inputs={"word": {"type": "string"}},
        )
        job = space.run(space.deploy(component), inputData={"word": literal("a word")})
        said = space.log(job["displayName"])
        assert "MINE=a word" in said
        assert f"AZUREML_ROOT_RUN_ID={job['displayName']}" in said
        assert f"HOME={os.environ['HOME']}\n" not in said
        assert "AZURE_CLIENT_SECRET" not in said
        assert space.arm.secret not in said
        assert str(space.arm.data_dir / "environments" / "plain") in said

    def test_packages_that_cannot_be_had(self, space: Space) -> None:
        conda = "dependencies:\n- python=3.10\n- pip:\n  - --no-index\n  - no-such-package-anywhere\n"
        environment = space.put("environments/broken/versions/1", image="any", condaFile=conda)["id"]
        component = space.component("true", environment=f"azureml:{environment}")
        job = space.run(space.deploy(component))
        assert job["status"] == "Failed"
        assert "the environment cannot be made" in job["properties"]["azureml.errorMessage"]


class TestFailures:
    def test_a_command_that_fails(self, space: Space) -> None:
        endpoint = space.deploy(space.component("echo before; exit 3"))
        job = space.run(endpoint)
        assert job["status"] == "Failed"
        assert "exited with status code 3" in job["properties"]["azureml.errorMessage"]
        assert space.log(job["displayName"]) == "before\n"

    def test_what_needs_a_failed_step_never_runs(self, space: Space, upper: str) -> None:
        failing = space.component("exit 1", inputs=FILES, outputs=OUT)
        spec = {
            "type": "pipeline",
            "inputs": {"data": {"type": "uri_folder"}},
            "jobs": {
                "bad": {"componentId": failing, "inputs": {"data": {"value": "${{parent.inputs.data}}"}}},
                "after": {"componentId": upper, "inputs": {"data": {"value": "${{parent.jobs.bad.outputs.out}}"}}},
                "beside": {"componentId": upper, "inputs": {"data": {"value": "${{parent.inputs.data}}"}}},
            },
        }
        component = space.put(f"components/{unique('p')}/versions/1", componentSpec=spec)["id"]
        job = space.run(space.deploy(component, continue_on_step_failure=True), inputData={"data": folder("in")})
        assert job["status"] == "Failed"
        run = f"/history/v1.0{space.path}/runs/{job['displayName']}"
        children = space.arm.ask("GET", f"{run}/children", audience=ML).json()["value"]
        assert {each["displayName"]: each["status"] for each in children} == {"bad": "Failed", "beside": "Completed"}
        assert space.arm.ask("GET", run, audience=ML).json()["error"]["error"]["code"] == "UserError"

    @pytest.mark.parametrize(
        ("data", "words"),
        [
            ({}, "data is missing"),
            ({"data": literal("x"), "other": literal(1)}, "unknown inputs: other"),
            ({"data": {"jobInputType": "UriFolder"}}, "names no files"),
            ({"data": {"jobInputType": "Literal"}}, "has no value"),
        ],
    )
    def test_inputs_that_do_not_fit(self, space: Space, upper: str, data: dict[str, object], words: str) -> None:
        answer = space.invoke(space.deploy(upper), inputData=data)
        assert answer.status_code == 400
        assert words in answer.json()["error"]["message"]

    @pytest.mark.parametrize(
        "properties", ["text", {"properties": [1]}, {"inputData": [1]}, {"inputData": {"data": 1}}]
    )
    def test_bodies_that_are_no_objects(self, space: Space, upper: str, properties: object) -> None:
        address = space.ok("GET", f"{space.path}/batchEndpoints/{space.deploy(upper)}")["properties"]["scoringUri"]
        answer = space.arm.ask("POST", address, {"properties": properties}, audience=ML)
        assert code(answer) == (400, "BadArgument")

    @pytest.mark.parametrize(
        ("uri", "words"),
        [
            ("azureml://datastores/absent/paths/x", "the datastore absent does not exist"),
            ("azureml://datastores/data/paths/absent", "nothing lies at absent"),
            ("https://example.org/x", "does not lead to this instance's storage"),
            ("azureml:thing:1", "does not exist"),
        ],
    )
    def test_inputs_that_are_not_there(self, space: Space, upper: str, uri: str, words: str) -> None:
        given = {"data": {"jobInputType": "UriFolder", "uri": uri}}
        job = space.run(space.deploy(upper), inputData=given)
        assert job["status"] == "Failed"
        assert words in job["properties"]["azureml.errorMessage"]

    def test_a_job_that_never_gets_a_machine_can_be_cancelled(self, space: Space) -> None:
        endpoint = space.deploy(space.component("true"))
        name = unique("job-")
        space.arm.admin.fault("hang", f"/jobs/{name}", times=1)
        assert space.invoke(endpoint, name=name).status_code == 201
        wait_until(lambda: space.job(name)["status"] == "Queued")
        assert space.ask("POST", f"jobs/{name}/cancel").status_code == 200
        assert space.job(name)["status"] == "Canceled"
        assert code(space.ask("POST", f"jobs/{name}/cancel")) == (409, "JobInTerminalState")


class TestInvocation:
    def test_a_name_is_used_once(self, space: Space) -> None:
        endpoint, name = space.deploy(space.component("true")), unique("job-")
        assert space.invoke(endpoint, name=name).status_code == 201
        assert code(space.invoke(endpoint, name=name)) == (409, "JobNameAlreadyExists")
        listed = space.arm.ask(
            "GET", f"/mferp/managementfrontend{space.path}/batchEndpoints/{endpoint}/jobs", audience=ML
        )
        assert [each["name"] for each in listed.json()["value"]] == [name]

    def test_a_token_for_the_management_plane_does_not_do(self, space: Space) -> None:
        endpoint = space.deploy(space.component("true"))
        address = space.ok("GET", f"{space.path}/batchEndpoints/{endpoint}")["properties"]["scoringUri"]
        assert code(space.arm.ask("POST", address, {})) == (401, "InvalidAuthenticationTokenAudience")

    def test_without_a_default_deployment(self, space: Space) -> None:
        endpoint = unique("ep-")
        space.put(f"batchEndpoints/{endpoint}")
        assert code(space.invoke(endpoint)) == (400, "NoDefaultDeployment")
        assert code(space.invoke(endpoint, deployment="absent")) == (404, "ResourceNotFound")

    def test_an_answer_that_is_lost_leaves_a_job(self, space: Space) -> None:
        import requests

        endpoint, name = space.deploy(space.component("true")), unique("job-")
        space.arm.admin.fault("lost", f"/batchEndpoints/{endpoint}/jobs", times=1)
        with pytest.raises(requests.exceptions.RequestException):
            space.invoke(endpoint, name=name)
        assert space.finished(name)["status"] == "Completed"


class TestOwnJobs:
    def test_a_command_job(self, space: Space) -> None:
        name = unique("job-")
        space.put(f"jobs/{name}", jobType="Command", command="echo hi ${{inputs.who}}", inputs={"who": literal("you")})
        assert space.finished(name)["status"] == "Completed"
        assert space.log(name) == "hi you\n"
        assert space.ask("DELETE", f"jobs/{name}").status_code == 200
        assert space.ask("GET", f"jobs/{name}").status_code == 404

    def test_a_running_command_ends_when_it_is_cancelled(self, space: Space) -> None:
        name = unique("job-")
        space.put(f"jobs/{name}", jobType="Command", command="echo $$; sleep 600 & echo $!; wait")
        output = space.arm.data_dir / "jobs" / name / "stdout.txt"
        wait_until(lambda: output.exists() and output.read_text().count("\n") == 2)
        pids = [int(word) for word in output.read_text().split()]
        space.ask("POST", f"jobs/{name}/cancel")
        assert space.job(name)["status"] == "Canceled"
        wait_until(lambda: not any(_lives(pid) for pid in pids))

    def test_other_types_are_refused(self, space: Space) -> None:
        assert code(space.try_put(f"jobs/{unique('job-')}", jobType="Sweep")) == (400, "UnsupportedJobType")


def _lives(pid: int) -> bool:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/stat").read_text().split()[2] != "Z"
    return False


SCORE = """
import csv, os
def init():
    global factor
    with open(os.path.join(os.environ["AZUREML_MODEL_DIR"], "factor.txt")) as file:
        factor = int(file.read())
def run(mini_batch):
    rows = []
    print("writes to", os.path.basename(os.environ["AZUREML_BI_OUTPUT_PATH"]))
    for path in mini_batch:
        if "bad" in path:
            raise ValueError("a bad file")
        with open(path) as file:
            rows += [[os.path.basename(path), int(word) * factor, len(mini_batch)] for word in file.read().split()]
    return rows
"""


@pytest.fixture(scope="module")
def scoring(space: Space) -> str:
    space.upload("model/factor.txt", "10")
    for number in range(3):
        space.upload(f"numbers/{number}.txt", f"{number} {number}")
    space.upload("mixed/0.txt", "5")
    space.upload("mixed/bad.txt", "1")
    model = space.put("models/factor/versions/1", modelUri="azureml://datastores/data/paths/model")["id"]
    environment = space.put("environments/plain/versions/1", image="any")["id"]
    name = unique("ep-")
    space.put(f"batchEndpoints/{name}")
    for deployment, threshold in (("lenient", -1), ("strict", 0)):
        space.put(
            f"batchEndpoints/{name}/deployments/{deployment}",
            model={"referenceType": "Id", "assetId": model},
            codeConfiguration={"codeId": space.code({"score.py": SCORE}), "scoringScript": "score.py"},
            environmentId=environment,
            compute="cpu",
            miniBatchSize=2,
            errorThreshold=threshold,
            outputFileName="out.csv",
        )
    return name


class TestModelDeployments:
    def test_the_script_scores_in_mini_batches(self, space: Space, scoring: str) -> None:
        job = space.run(scoring, deployment="lenient", inputData={"any": folder("numbers")})
        assert job["status"] == "Completed", space.log(job["displayName"])
        rows = space.read(job["outputs"]["score"]["uri"], "out.csv").splitlines()
        assert rows == ["0.txt,0,2", "0.txt,0,2", "1.txt,10,2", "1.txt,10,2", "2.txt,20,1", "2.txt,20,1"]

    def test_an_invocation_may_want_it_otherwise(self, space: Space, scoring: str) -> None:
        wanted = {"miniBatchSize": 3, "outputFileName": "mine.csv"}
        job = space.run(scoring, deployment="lenient", inputData={"any": folder("numbers")}, **wanted)
        rows = space.read(job["outputs"]["score"]["uri"], "mine.csv").splitlines()
        assert rows[-1] == "2.txt,20,3"
        assert "writes to score" in space.log(job["displayName"])
        strict = space.run(scoring, deployment="lenient", inputData={"any": folder("mixed")}, errorThreshold=0)
        assert strict["status"] == "Failed"
        refused = space.invoke(scoring, deployment="lenient", inputData={"any": folder("mixed")}, miniBatchSize="x")
        assert (refused.status_code, "miniBatchSize must be a whole number" in refused.text) == (400, True)

    def test_the_rows_go_to_one_file_or_to_a_folder_as_the_invocation_says(self, space: Space, scoring: str) -> None:
        given = {"deployment": "lenient", "inputData": {"any": folder("numbers")}}
        one = {"jobOutputType": "UriFile", "uri": "azureml://datastores/data/paths/results/rows.csv"}
        assert space.run(scoring, outputData={"mine": one}, **given)["outputs"]["mine"]["uri"] == one["uri"]
        assert len(space.read("azureml://datastores/data/paths/results", "rows.csv").splitlines()) == 6
        dataset = {"datastoreId": f"{space.path}/datastores/data", "path": "/older/form/"}
        space.run(scoring, outputDataset=dataset, outputFileName="r.csv", **given)
        assert len(space.read("azureml://datastores/data/paths/older/form", "r.csv").splitlines()) == 6

    def test_failures_beyond_the_threshold(self, space: Space, scoring: str) -> None:
        job = space.run(scoring, deployment="strict", inputData={"any": folder("mixed")})
        assert job["status"] == "Failed"
        assert "ValueError: a bad file" in space.log(job["displayName"])

    def test_one_input_of_files_is_needed(self, space: Space, scoring: str) -> None:
        answer = space.invoke(scoring, deployment="lenient", inputData={})
        assert "one input of files" in answer.json()["error"]["message"]


class TestDeaths:
    @pytest.fixture
    def mortal(self, tmp_path: Path, azurite: RunningAzurite) -> Iterator[Space]:
        """A workspace on a service of its own, in a folder whose name needs quotes."""
        process = ArmProcess(tmp_path / "a folder $HOME", azurite.connection_string)
        process.start()
        try:
            space = Space(process)
            space.make()
            yield space
        finally:
            process.stop()

    def test_a_job_runs_again_after_its_service_was_killed(self, mortal: Space, tmp_path: Path) -> None:
        mark = tmp_path / "mark"
        command = f"echo $$ >> {mark}; [ $(wc -l < {mark}) = 2 ] || sleep 600; cp -r ${{{{inputs.data}}}}/. ${{{{outputs.out}}}}"
        mortal.upload("in/a.txt", "survived")
        endpoint = mortal.deploy(mortal.component(command, inputs=FILES, outputs=OUT))
        name = mortal.invoke(endpoint, inputData={"data": folder("in")}).json()["name"]
        wait_until(lambda: mark.exists() and mark.read_text().count("\n") == 1)
        first = int(mark.read_text())
        mortal.arm.kill9()
        mortal.arm.start()
        assert not _lives(first) or wait_until(lambda: not _lives(first))
        job = mortal.finished(name)
        assert job["status"] == "Completed", mortal.log(name)
        assert mortal.read(job["outputs"]["out"]["uri"], "a.txt") == "survived"
