from __future__ import annotations

from pathlib import Path

from azbatchwrap.local.batch.node import NodePlace, TaskIdentity, network_settings, task_environment

ROOT = Path("/data/nodes/pool/node")
PLACE = NodePlace(ROOT, Path("/data/python/bin"))
FOLDER = ROOT / "workitems/job/job-1/t"
TASK = TaskIdentity("account", "https://a", "pool", "node", "job", "t")


def environment(identity: TaskIdentity = TASK, settings: dict[str, str] | None = None) -> dict[str, str]:
    return task_environment(PLACE, identity, FOLDER, settings or {}, {})


def test_a_task_finds_the_documented_variables() -> None:
    found = {name: value for name, value in environment().items() if name.startswith("AZ_BATCH_")}
    assert found == {
        "AZ_BATCH_ACCOUNT_NAME": "account",
        "AZ_BATCH_ACCOUNT_URL": "https://a",
        "AZ_BATCH_POOL_ID": "pool",
        "AZ_BATCH_NODE_ID": "node",
        "AZ_BATCH_NODE_ROOT_DIR": "/data/nodes/pool/node",
        "AZ_BATCH_NODE_SHARED_DIR": "/data/nodes/pool/node/shared",
        "AZ_BATCH_NODE_STARTUP_DIR": "/data/nodes/pool/node/startup",
        "AZ_BATCH_NODE_MOUNTS_DIR": "/data/nodes/pool/node/fsmounts",
        "AZ_BATCH_NODE_IS_DEDICATED": "true",
        "AZ_BATCH_JOB_ID": "job",
        "AZ_BATCH_TASK_ID": "t",
        "AZ_BATCH_TASK_DIR": str(FOLDER),
        "AZ_BATCH_TASK_WORKING_DIR": f"{FOLDER}/wd",
        "AZ_BATCH_CERTIFICATES_DIR": f"{FOLDER}/certs",
        "AZ_BATCH_TASK_RESERVED_EPHEMERAL_DISK_SPACE_BYTES": "1000000",
    }


def test_a_start_task_has_no_job_and_no_task() -> None:
    found = environment(TaskIdentity("account", "https://a", "pool", "node", is_dedicated=False))
    assert not {"AZ_BATCH_JOB_ID", "AZ_BATCH_TASK_ID"} & found.keys()
    assert found["AZ_BATCH_NODE_IS_DEDICATED"] == "false"


def test_preparation_folder_token_and_packages() -> None:
    prep = FOLDER.with_name("jobpreparation")
    further = {"AZ_BATCH_APP_PACKAGE_tool_1": "/data/tool"}
    found = environment(
        TaskIdentity(
            "a", "u", "p", "n", "j", "t", preparation_folder=prep, authentication_token="token", further=further
        )
    )
    assert found["AZ_BATCH_JOB_PREP_DIR"] == str(prep)
    assert found["AZ_BATCH_JOB_PREP_WORKING_DIR"] == f"{prep}/wd"
    assert found["AZ_BATCH_AUTHENTICATION_TOKEN"] == "token"
    assert found["AZ_BATCH_APP_PACKAGE_tool_1"] == "/data/tool"


def test_multi_instance_variables() -> None:
    first = environment(TaskIdentity("a", "u", "p", "n", "j", "t", hosts=("10.0.0.4", "10.0.0.5"), host="10.0.0.4"))
    second = environment(TaskIdentity("a", "u", "p", "n", "j", "t", hosts=("10.0.0.4", "10.0.0.5"), host="10.0.0.5"))
    assert first["AZ_BATCH_HOST_LIST"] == second["AZ_BATCH_HOST_LIST"] == "10.0.0.4,10.0.0.5"
    assert first["AZ_BATCH_IS_CURRENT_NODE_MASTER"] == "true"
    assert second["AZ_BATCH_IS_CURRENT_NODE_MASTER"] == "false"


def test_users_set_anything_but_the_services_own() -> None:
    found = environment(
        settings={
            "AZ_BATCH_NODE_ID": "mine",
            "AZ_BATCH_JOB_PREP_DIR": "mine",
            "GREETING": "hé llo",
            "LANG": "de_DE.UTF-8",
        }
    )
    assert (found["AZ_BATCH_NODE_ID"], found["GREETING"], found["LANG"]) == ("node", "hé llo", "de_DE.UTF-8")
    assert "AZ_BATCH_JOB_PREP_DIR" not in found


def test_the_nodes_python_comes_first_and_home_is_the_nodes() -> None:
    found = environment()
    assert found["PATH"].startswith("/data/python/bin:")
    assert found["HOME"].startswith(str(ROOT))
    assert found["PYTHONNOUSERSITE"] == "1"
    assert Path(found["TMPDIR"]).parent == Path("/data/t")


def test_network_settings_pass_only_without_passwords() -> None:
    passed = network_settings(
        {
            "HTTPS_PROXY": "http://proxy:3128",
            "http_proxy": "http://user:secret@proxy:3128",
            "no_proxy": "localhost,127.0.0.1",
            "PIP_INDEX_URL": "https://token@packages.example/simple",
            "PIP_EXTRA_INDEX_URL": "https://a.example/simple https://u:p@b.example/simple",
            "SSL_CERT_FILE": "/etc/ca.pem",
            "ALL_PROXY": "user:secret@proxy:3128",
            "AZURE_BATCH_ACCESS_KEY": "secret",
            "REQUESTS_CA_BUNDLE": "",
        }
    )
    assert passed == {
        "HTTPS_PROXY": "http://proxy:3128",
        "no_proxy": "localhost,127.0.0.1",
        "SSL_CERT_FILE": "/etc/ca.pem",
    }
