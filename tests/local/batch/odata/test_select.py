"""``$select`` keeps what it names."""

from __future__ import annotations

import pytest

from azbatchwrap.local.batch import odata

TASK = {
    "odata.metadata": "m",
    "id": "t",
    "state": "completed",
    "executionInfo": {"exitCode": 0, "result": "success", "retryCount": 0},
    "commandLine": "true",
}
KNOWN = frozenset({"id", "state", "displayName", "executionInfo", "commandLine"})


@pytest.mark.parametrize(
    ("names", "kept"),
    [
        ("id,state", {"id": "t", "state": "completed"}),
        ("state, id", {"id": "t", "state": "completed"}),
        ("id,displayName", {"id": "t"}),
        ("executionInfo/exitCode", {"executionInfo": {"exitCode": 0}}),
        (
            "executionInfo/result,executionInfo/exitCode,id",
            {"id": "t", "executionInfo": {"exitCode": 0, "result": "success"}},
        ),
        ("executionInfo,executionInfo/exitCode", {"executionInfo": TASK["executionInfo"]}),
        ("executionInfo/exitCode,executionInfo", {"executionInfo": TASK["executionInfo"]}),
        ("id/x", {"id": "t"}),
        ("*", {name: value for name, value in TASK.items() if name != "odata.metadata"}),
        (["id", "commandLine"], {"id": "t", "commandLine": "true"}),
    ],
)
def test_named_properties_stay_in_the_entitys_order(names: str | list[str], kept: dict) -> None:
    selected = odata.select(TASK, names, KNOWN)
    assert selected == {"odata.metadata": "m", **kept}
    assert list(selected) == [name for name in TASK if name in selected]


@pytest.mark.parametrize(
    ("names", "reason"),
    [
        ("id,nothing", "'nothing' does not exist"),
        ("ID", "'ID'"),
        ("", "name properties"),
        ("id,,state", "name"),
        ("a/", "n"),
    ],
)
def test_unknown_names_are_refused(names: str, reason: str) -> None:
    with pytest.raises(odata.SelectError) as caught:
        odata.select(TASK, names, KNOWN)
    assert reason in caught.value.reason


def test_without_a_known_type_any_name_is_taken() -> None:
    assert odata.select(TASK, "nothing") == {"odata.metadata": "m"}
