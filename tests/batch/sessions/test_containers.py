"""Sessions whose tasks run in containers: by podman, where it can be had; required in CI."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import pytest

from azbatchwrap import config
from azbatchwrap.batch.sessions import PoolPolicy, Session
from azbatchwrap.errors import ConfigurationError
from azbatchwrap.local.stack import Options, Stack
from tests.batch.sessions.conftest import DEADLINE
from tests.fixtures_podman import new_podman
from tests.fixtures_stack import LocalStack, clean_environment, ended_stack, local_variables
from tests.real_parts import lacking

IMAGE = "localhost/azbatchwrap-session:1"
BUSYBOX = Path("/bin/busybox")
#: The image has a shell alone; Python is this machine's.
OPTIONS = "--volume=/usr:/usr:ro --volume=/lib:/lib:ro --volume=/lib64:/lib64:ro --env=FLAVOUR=vanilla"


@pytest.fixture(scope="module")
def stack(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalStack]:
    """An instance whose tasks can run in containers of ``IMAGE``."""
    if not BUSYBOX.exists() or not Path("/usr/bin/python3").exists():
        lacking("the image is made of busybox-static and Debian's python3")
    podman = new_podman(tmp_path_factory.mktemp("podman"))
    podman.import_image(_image(), IMAGE)
    folder = tmp_path_factory.mktemp("instance")
    with pytest.MonkeyPatch.context() as patch, ended_stack(folder):
        for name, value in podman.variables.items():
            patch.setenv(name, value)
        Stack(folder).up(Options(max_processes=2))
        endpoint = config.read_endpoint(folder)
        assert endpoint is not None
        yield LocalStack(folder, clean_environment(folder) | local_variables(endpoint), endpoint)
    podman.end()


def _image() -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        archive.add(BUSYBOX, "bin/busybox")
        link = tarfile.TarInfo("bin/sh")
        link.type, link.linkname = tarfile.SYMTYPE, "busybox"
        archive.addfile(link)
    return buffer.getvalue()


def test_functions_run_in_the_image(stack: LocalStack, work: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("given")
    policy = PoolPolicy.small(container=IMAGE, container_options=OPTIONS)
    with Session(settings=stack.settings(), pool=policy, inputs=[tmp_path / "in.txt"]) as session:
        environment = session.submit(work.environment)
        given = session.submit(work.give, "out.txt")
        failed = session.submit(work.fail, 3)
        assert environment.result(DEADLINE)["FLAVOUR"] == "vanilla"
        assert "in.txt" in given.result(DEADLINE)
        assert given.files() == ["out.txt"]
        assert isinstance(failed.exception(DEADLINE), work.Odd)
        assert "the last words of 3" in failed.stderr()
        with session.interactive() as warm:
            assert warm.submit(work.environment).result(DEADLINE)["FLAVOUR"] == "vanilla"


def test_packages_belong_into_the_image(stack: LocalStack, work: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("six\n")
    policy = PoolPolicy.small(container=IMAGE, container_options=OPTIONS)
    with Session(settings=stack.settings(), pool=policy, inputs=[tmp_path / "requirements.txt"]) as session:
        refused = session.submit(work.square, 2).exception(DEADLINE)
    assert isinstance(refused, ConfigurationError)
    assert "requirements.txt in its image" in str(refused)
