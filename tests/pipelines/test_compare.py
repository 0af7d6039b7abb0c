"""What counts as a difference, and what is only another spelling."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from azbatchwrap.pipelines.compare import differences, same

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("abc", min_size=1, max_size=3), inner, max_size=3)
    ),
)


@pytest.mark.parametrize(
    ("name", "one", "other"),
    [
        ("vmSize", "Standard_D2_v3", "STANDARD_D2_V3"),
        ("location", "East US", "eastus"),
        ("nodeIdleTimeBeforeScaleDown", "PT120S", "PT2M"),
        ("timeout", "P1D", "PT24H"),
        ("storageAccount", "/subscriptions/A/resourceGroups/B", "/subscriptions/a/resourcegroups/b/"),
        ("componentId", "azureml:/subscriptions/a/x", "/subscriptions/A/x"),
        ("compute", "cpu", "/subscriptions/a/workspaces/w/computes/CPU"),
        ("tags", {}, None),
        ("description", "", None),
        ("defaults", {"deploymentName": None}, {}),
    ],
)
def test_spellings_of_one_value(name: str, one: Any, other: Any) -> None:
    assert same(name, one, other)
    assert same(name, other, one)


@pytest.mark.parametrize(
    ("name", "one", "other"),
    [
        ("vmSize", "Standard_D2", "Standard_D3"),
        ("description", "Text", "text"),
        ("count", 0, None),
        ("enabled", False, None),
        ("timeout", "PT1M", "PT1H"),
        ("timeout", "P", "PT"),
        ("words", ["a", "b"], ["b", "a"]),
    ],
)
def test_values_that_differ(name: str, one: Any, other: Any) -> None:
    assert not same(name, one, other)


def test_only_what_is_wanted_is_compared() -> None:
    there = {"location": "EastUS", "properties": {"Size": 1, "filledIn": True}, "tags": {"a": "1", "theirs": "2"}}
    assert differences({"location": "eastus", "properties": {"size": 1}, "tags": {"a": "1"}}, there) == ()


def test_paths_and_replacements() -> None:
    wanted = {"properties": {"inner": {"vmSize": "B", "max": 4}}}
    there = {"properties": {"inner": {"vmSize": "A", "max": 2}}}
    found = differences(wanted, there, frozenset({"properties.inner.vmSize"}))
    assert [(each.path, each.before, each.after, each.forces_replacement) for each in found] == [
        ("properties.inner.vmSize", "A", "B", True),
        ("properties.inner.max", 2, 4, False),
    ]


@given(VALUES)
def test_nothing_differs_from_itself(value: Any) -> None:
    assert differences(value, value) == ()
