"""What nodes are given besides their image: said to the service, and done by a start task."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import pytest

from azbatchwrap.batch.images import Image
from azbatchwrap.batch.node_setup import Container, NodeSetup, Registry, container_of, start_task
from azbatchwrap.errors import ConfigurationError
from tests.batch.test_pools import run_start_task
from tests.wheels import wheel

PLACE = "/subscriptions/s/resourceGroups/g/providers"
IDENTITY = f"{PLACE}/Microsoft.ManagedIdentity/userAssignedIdentities/me"
SUBNET = f"{PLACE}/Microsoft.Network/virtualNetworks/v/subnets/nodes"
IMAGE = Image("microsoft-dsvm", "ubuntu-hpc", "2404", "batch.node.ubuntu 24.04")


@pytest.mark.parametrize(
    ("setup", "message"),
    [
        (NodeSetup(apt="ffmpeg"), r"apt is a list: apt=\['ffmpeg'\]"),
        (NodeSetup(container="a/b:1", pip=["numpy"]), "which has its own packages"),
        (NodeSetup(container="a/b:1", jdk=True), "which has its own packages"),
        (NodeSetup(registries=[Registry("a.azurecr.io")]), "for a container="),
        (
            NodeSetup(subnet="/subscriptions/s/resourceGroups/g/providers/Microsoft.Network/virtualNetworks/v"),
            "subnet=",
        ),
        (NodeSetup(identity="me"), "/userAssignedIdentities/NAME"),
        (NodeSetup(vm_image="ubuntu"), "/galleries/GALLERY/images/NAME"),
    ],
)
def test_what_no_node_could_be_given(setup: NodeSetup, message: str) -> None:
    with pytest.raises(ConfigurationError, match=message):
        setup.check_setup()


def test_resource_ids_are_taken_in_any_case() -> None:
    image = f"{PLACE}/microsoft.compute/galleries/mine/images/node/versions/1.0.0"
    NodeSetup(subnet=SUBNET.lower(), identity=IDENTITY.upper(), vm_image=image).check_setup()


def test_a_pool_for_containers_names_image_and_registries() -> None:
    registries = [Registry("one.azurecr.io", "me", "secret"), Registry("two.azurecr.io")]
    setup = NodeSetup(container="two.azurecr.io/tool:1", registries=registries, identity=IDENTITY)
    machine = setup.machine(IMAGE)
    assert machine["containerConfiguration"] == {
        "type": "dockerCompatible",
        "containerImageNames": ["two.azurecr.io/tool:1"],
        "containerRegistries": [
            {"registryServer": "one.azurecr.io", "username": "me", "password": "secret"},
            {"registryServer": "two.azurecr.io", "identityReference": {"resourceId": IDENTITY}},
        ],
    }
    assert setup.capabilities == {"DockerCompatible"}
    assert "secret" not in repr(setup)
    with pytest.raises(ConfigurationError, match=r"registry two\.azurecr\.io: give a user"):
        NodeSetup(container="two.azurecr.io/tool:1", registries=registries).machine(IMAGE)


def test_the_image_of_a_pool_that_somebody_else_made() -> None:
    pool = {"id": "p", "virtualMachineConfiguration": {"containerConfiguration": {"containerImageNames": ["a", "b"]}}}
    assert container_of(pool) == Container("a")
    assert container_of({"id": "p", "virtualMachineConfiguration": {}}) is None
    with pytest.raises(ConfigurationError, match="names no image"):
        container_of({"id": "p", "virtualMachineConfiguration": {"containerConfiguration": {}}})


def test_passwords_do_not_make_another_pool_and_packages_do() -> None:
    first, second = (NodeSetup(container="a", registries=[Registry("r", "me", word)]) for word in ("x", "y"))
    assert first.hashed() == second.hashed()
    assert NodeSetup(pip=["a"]).hashed() != NodeSetup(pip=["b"]).hashed()


# The start task


def test_packages_of_the_system_are_installed_where_they_are_missing(tmp_path: Path) -> None:
    task = start_task(list(NodeSetup(apt=["ffmpeg", "it's"]).commands()))
    done = run_start_task(task, tmp_path, programs=["apt-get"])
    assert done.returncode == 0, done.stderr
    assert "--no-install-recommends ffmpeg it's" in done.stdout


@pytest.mark.parametrize("here", [True, False])
def test_nothing_is_installed_into_a_users_own_machine(tmp_path: Path, *, here: bool) -> None:
    task = start_task(list(NodeSetup(apt=["ffmpeg"]).commands()))
    programs = ["apt-get", "dpkg"] if here else ["apt-get"]
    done = run_start_task(task, tmp_path, programs=programs, url="http://127.0.0.1:1")
    assert (done.returncode, done.stdout) == (0, "")
    assert ("not all of ffmpeg are here" in done.stderr) is not here


@dataclass(frozen=True)
class Node:
    """A node's shared folder, on which a start task runs with this machine's programs."""

    shared: Path

    def start(self, setup: NodeSetup) -> subprocess.CompletedProcess[str]:
        script = "set -e\n" + "\n".join(f"( {command}\n)" for command in setup.commands())
        environment = {
            "PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin",
            "AZ_BATCH_NODE_SHARED_DIR": str(self.shared),
            "AZ_BATCH_ACCOUNT_URL": "http://127.0.0.1:1",
        }
        command = ["/bin/sh", "-c", script]
        return subprocess.run(command, env=environment, capture_output=True, text=True, timeout=120, check=False)


def test_packages_for_python_are_installed_once_per_node(tmp_path: Path) -> None:
    node, package = Node(tmp_path / "shared"), wheel(tmp_path)
    done = node.start(NodeSetup(pip=[str(package)]))
    assert done.returncode == 0, done.stderr
    python = node.shared / "azbatchwrap-pool" / "python" / "bin" / "python"
    said = subprocess.run(
        [python, "-c", "import greeting; print(greeting.WORDS)"], capture_output=True, text=True, check=True
    )
    assert said.stdout == "from the pool\n"
    package.unlink()
    again = node.start(NodeSetup(pip=[str(package)]))
    assert (again.returncode, again.stdout) == (0, "")
    assert node.start(NodeSetup(pip=[str(tmp_path / "nothing.whl")])).returncode != 0
