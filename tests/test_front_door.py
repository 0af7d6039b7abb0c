"""The package's front door: what it names exists, and knocking loads nothing heavy."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

import azbatchwrap
from azbatchwrap import errors


def test_every_name_is_there_once():
    assert len(set(azbatchwrap.__all__)) == len(azbatchwrap.__all__)
    for name in azbatchwrap.__all__:
        assert getattr(azbatchwrap, name) is not None
        assert name in dir(azbatchwrap)


def test_every_error_comes_through_the_front_door():
    assert set(errors.__all__) <= set(azbatchwrap.__all__)


def test_an_unknown_name_is_an_attribute_error():
    assert not hasattr(azbatchwrap, "NoSuchThing")


@pytest.mark.parametrize("kind", [azbatchwrap.AzureBatch, azbatchwrap.AzureBatchStorage])
def test_every_call_that_the_docs_name_has_its_java_spelling(kind: type) -> None:
    text = (Path(__file__).parents[1] / "docs" / "wrapper.md").read_text()
    named = {name for name in re.findall(r"\b([a-z]+(?:_[a-z]+)+)\(", text) if hasattr(kind, name)}
    assert named
    for name in named:
        java = re.sub("_([a-z])", lambda match: match[1].upper(), name)
        assert getattr(kind, java, None) is getattr(kind, name), java


def test_the_package_itself_loads_no_sdk():
    code = "import sys, azbatchwrap, azbatchwrap.batch; print([m for m in sys.modules if m.startswith(('azure', 'orjson'))])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_asking_for_the_manager_loads_no_sdk_either():
    code = (
        "import sys; from azbatchwrap import AzureBatch, AzureBatchStorage; "
        "print([m for m in sys.modules if m.startswith('azure')])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
