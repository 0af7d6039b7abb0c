"""``$filter``: what is understood, what is refused, and that a query and a decision in Python never differ."""

from __future__ import annotations

import contextlib
import sqlite3
from contextlib import closing
from datetime import datetime

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from azbatchwrap.local.batch import odata

TASK = {
    "id": "Render-7",
    "state": "completed",
    "creationTime": "2024-03-01T09:00:00Z",
    "stateTransitionTime": "2024-03-01T10:00:00.1234567Z",
    "executionInfo": {"exitCode": 3, "result": "failure", "startTime": "2024-03-01T09:59:00Z"},
}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("state eq 'completed'", True),
        ("state eq 'Completed'", True),
        ("state ne 'completed'", False),
        ("STATE eq 'completed' or id eq 'x'", None),
        ("id eq 'RENDER-7'", True),
        ("id eq 'a' or id eq 'render-7'", True),
        ("id gt 'render-6' and id lt 'RENDER-8'", True),
        ("startswith(id,'ren')", True),
        ("startswith( id , 'end' )", False),
        ("startswith(id,'')", True),
        ("not startswith(id,'x')", True),
        ("not (state eq 'active' or executionInfo/exitCode eq 3)", False),
        ("executionInfo/exitCode ge 3 and executionInfo/exitCode le 3", True),
        ("(executionInfo/exitCode lt 0) or (executionInfo/exitCode gt 0)", True),
        ("executionInfo/exitCode eq 3.0", True),
        ("executionInfo/exitCode gt -1", True),
        ("executionInfo/result eq 'Failure'", True),
        ("stateTransitionTime ge 2024-03-01T10:00:00Z", True),
        ("stateTransitionTime eq '2024-03-01T10:00:00.1234567Z'", True),
        ("stateTransitionTime gt datetime'2024-03-01T10:00:00.1234567Z'", False),
        ("stateTransitionTime gt datetime'2024-03-01T10:00:00.1234566'", True),
        ("stateTransitionTime le 2024-03-01T12:00:00.1234567+02:00", True),
        ("stateTransitionTime lt 2024-03-02", True),
        ("lastModified eq null", True),
        ("lastModified ne null", False),
        ("lastModified lt 2030-01-01", False),
        ("not (lastModified lt 2030-01-01)", True),
        ("lastModified ne 2030-01-01", True),
        ("id eq 'it''s'", False),
        ("state eq 'completed' AND id eq 'x' OR id eq 'render-7'", True),
        ("state eq 'active' and (id eq 'x' or id eq 'render-7')", False),
        ("\tid\n eq 'render-7' ", True),
    ],
)
def test_a_filter_decides_over_an_entity(text: str, expected: bool | None) -> None:
    if expected is None:
        with pytest.raises(odata.FilterError):
            odata.parse(text, odata.TASKS)
        return
    assert odata.parse(text, odata.TASKS).matches(TASK) is expected


def test_booleans_and_words_of_pools() -> None:
    pool = {"id": "p", "enableAutoScale": True, "vmSize": "standard_d1_v2", "allocationState": "steady"}
    matching = odata.parse("enableAutoScale eq true and vmSize eq 'STANDARD_D1_V2'", odata.POOLS)
    assert matching.matches(pool)
    assert not odata.parse("enableAutoScale eq false", odata.POOLS).matches(pool)
    assert not odata.parse("enableAutoScale eq false", odata.POOLS).matches({"id": "p"})


def test_file_names_keep_their_case() -> None:
    by_prefix = odata.parse("startswith(name,'Out')", odata.FILES)
    assert by_prefix.matches({"name": "Out/a.txt"})
    assert not by_prefix.matches({"name": "out/a.txt"})


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "ends too early"),
        ("   ", "ends too early"),
        ("id eq", "ends too early"),
        ("id eq 'x", "Position 6"),
        ("id is 'x'", "Position 3"),
        ("(id eq 'x'", "ends too early"),
        ("id eq 'x')", "unexpected ')'"),
        ("id eq 'x' and", "ends too early"),
        ("'x' eq id", "Position 0"),
        ("id eq id", "Position 6"),
        ("commandLine eq 'x'", "'commandLine' cannot be filtered by"),
        ("state gt 'active'", "'gt' is not supported for the property 'state'; supported are eq, ne."),
        ("startswith(state,'a')", "'startswith' is not supported"),
        ("substringof(id,'a')", "'substringof' is not supported"),
        ("endswith(id,'a')", "'endswith' is not supported"),
        ("id eq 3", "value of that type"),
        ("executionInfo/exitCode eq '3'", "value of that type"),
        ("executionInfo/exitCode eq true", "value of that type"),
        ("state eq 2024-01-01", "value of that type"),
        ("creationTime gt 'yesterday'", "value of that type"),
        ("creationTime gt 2024-13-01", "'2024-13-01' is not a date"),
        ("creationTime gt datetime'soon'", "'soon' is not a date"),
        ("creationTime gt null", "null can only"),
        ("executionInfo/exitCode eq 99999999999999999999", "out of range"),
        ("executionInfo/exitCode eq 1e999", "out of range"),
        ("id eq 'a\0b'", "NUL"),
        ("not " * 65 + "id eq 'x'", "nested deeper"),
        ("; drop table tasks", "Position 0"),
    ],
)
def test_a_wrong_filter_is_refused_with_a_reason(text: str, reason: str) -> None:
    with pytest.raises(odata.FilterError) as caught:
        odata.parse(text, odata.TASKS)
    assert reason in caught.value.reason


def test_brackets_and_long_chains_have_no_depth() -> None:
    assert odata.parse("(" * 5000 + "id eq 'x'" + ")" * 5000, odata.TASKS).matches({"id": "x"})
    chain = odata.parse(" or ".join(f"id eq 't{n}'" for n in range(3000)), odata.TASKS)
    where = chain.sql({"id": odata.Column("id", "nocase")})
    assert where is not None
    with closing(sqlite3.connect(":memory:")) as base:
        base.execute("CREATE TABLE t (id TEXT COLLATE NOCASE)")
        base.executemany("INSERT INTO t VALUES (?)", [("T2999",), ("T3000",)])
        assert base.execute(f"SELECT id FROM t WHERE {where[0]}", where[1]).fetchall() == [("T2999",)]


def test_the_same_text_is_parsed_once_for_each_list() -> None:
    assert odata.parse("state eq 'active'", odata.JOBS) is odata.parse("state eq 'active'", odata.JOBS)
    assert odata.parse("state eq 'active'", odata.JOBS) is not odata.parse("state eq 'active'", odata.POOLS)


def test_a_filter_over_what_the_table_lacks_is_not_translated() -> None:
    columns = {"id": odata.Column("id", "nocase"), "executionInfo/exitCode": odata.Column("code", "text")}
    assert odata.parse("id eq 'a'", odata.TASKS).sql(columns) is not None
    assert odata.parse("id eq 'a' and state eq 'active'", odata.TASKS).sql(columns) is None
    assert odata.parse("executionInfo/exitCode eq 1", odata.TASKS).sql(columns) is None


@pytest.mark.parametrize(
    "text",
    [
        "startswith(id,'job-')",
        "id eq 'a' or id eq 'b'",
        "state eq 'active'",
        "state eq 'completed'",
        "state eq 'completed' and creationTime ge 2024-01-01",
    ],
)
def test_common_filters_use_the_index(text: str) -> None:
    where = odata.parse(text, odata.TASKS).sql(COLUMNS)
    assert where is not None
    with closing(sqlite3.connect(":memory:")) as base:
        base.execute("CREATE TABLE t (id TEXT COLLATE NOCASE PRIMARY KEY, state INT, created INT) WITHOUT ROWID")
        base.execute("CREATE INDEX by_state ON t (state, created)")
        plan = base.execute(f"EXPLAIN QUERY PLAN SELECT * FROM t WHERE {where[0]}", where[1]).fetchall()
    assert all("SCAN" not in step[3] for step in plan)
    assert "SEARCH" in plan[0][3]


@pytest.mark.parametrize(
    ("text", "ticks"),
    [
        ("0001-01-01", 0),
        ("0001-01-01T00:00:00.0000001Z", 1),
        ("2023-09-07T07:17:50.1292774Z", 0x8DBAF728B4D5CE6),
        ("2023-09-07T09:17:50.1292774+02:00", 0x8DBAF728B4D5CE6),
        ("2023-09-07T07:17Z", 0x8DBAF728B4D5CE6 - 501_292_774),
    ],
)
def test_instants_count_ticks(text: str, ticks: int) -> None:
    assert odata.instant(text) == odata.Instant(ticks)


@pytest.mark.parametrize(
    "text",
    ["", "2024", "2024-02-30", "2024-01-01T25:00:00Z", "2024-01-01T00:00:00+14:01", "x2024-01-01", "\uff12024-01-01"],
)
def test_what_is_no_instant(text: str) -> None:
    assert odata.instant(text) is None


# Random filters over random rows: the query and the decision in Python agree.

STATES = {"active": (0, 1), "preparing": 2, "running": 3, "completed": 4}
COLUMNS = {
    "id": odata.Column("id", "nocase"),
    "state": odata.Column("state", "enum", STATES),
    "creationTime": odata.Column("created", "ticks"),
    "executionInfo/exitCode": odata.Column("exit_code", "int"),
    "executionInfo/result": odata.Column("result", "text"),
}

ids = st.text(st.sampled_from("abzABZ_-@[~1é\ud7ff\U0010ffff"), max_size=4)
numbers = st.integers(-3, 3)
moments = st.integers(0, 6).map(lambda hours: datetime(2024, 1, 1, hours))  # noqa: DTZ001 - written with a Z
operators = st.sampled_from(["eq", "ne", "ge", "gt", "le", "lt"])
equalities = st.sampled_from(["eq", "ne"])


def quoted(text: str) -> str:
    return "'" + text.replace("'", "''") + "'"


tests = st.one_of(
    st.builds(lambda op, text: f"id {op} {quoted(text)}", operators, ids),
    st.builds(lambda text: f"startswith(id,{quoted(text)})", ids),
    st.builds(lambda op, text: f"state {op} '{text}'", equalities, st.sampled_from([*STATES, "Running", "lost"])),
    st.builds(
        lambda op, text: f"executionInfo/result {op} '{text}'", equalities, st.sampled_from(["success", "Failure"])
    ),
    st.builds(lambda op, number: f"executionInfo/exitCode {op} {number}", operators, numbers | st.just(0.5)),
    st.builds(lambda op, moment: f"creationTime {op} {moment.isoformat()}Z", operators, moments),
    st.builds(lambda op, path: f"{path} {op} null", equalities, st.sampled_from(sorted(COLUMNS))),
)
filters = st.recursive(
    tests,
    lambda inner: st.one_of(
        st.builds("({} and {})".format, inner, inner),
        st.builds("{} or {}".format, inner, inner),
        st.builds("not ({})".format, inner),
    ),
    max_leaves=8,
)
rows = st.lists(
    st.tuples(
        st.none() | ids,
        st.none() | st.sampled_from(sorted(STATES)),
        st.none() | moments,
        st.none() | numbers,
        st.none() | st.sampled_from(["success", "failure"]),
    ),
    max_size=12,
)


def as_entity(row: tuple) -> dict:
    identity, state, created, exit_code, result = row
    entity = {"id": identity, "state": state, "creationTime": created and f"{created.isoformat()}Z"}
    entity["executionInfo"] = {"exitCode": exit_code, "result": result}
    return entity


def as_columns(row: tuple) -> tuple:
    identity, state, created, exit_code, result = row
    moment = None if created is None else odata.instant(created.isoformat()).ticks
    number = {"active": len(identity or "") % 2}.get(state, STATES.get(state))
    return identity, number, moment, exit_code, result


@settings(max_examples=300, deadline=None)
@given(text=filters, entities=rows)
def test_a_query_and_a_decision_agree(text: str, entities: list[tuple]) -> None:
    chosen = odata.parse(text, odata.TASKS)
    where = chosen.sql(COLUMNS)
    assert where is not None
    with closing(sqlite3.connect(":memory:")) as base:
        base.execute(
            "CREATE TABLE t (n INTEGER PRIMARY KEY, id TEXT, state INT, created INT, exit_code INT, result TEXT)"
        )
        base.executemany(
            "INSERT INTO t VALUES (?,?,?,?,?,?)", [(n, *as_columns(row)) for n, row in enumerate(entities)]
        )
        found = [n for (n,) in base.execute(f"SELECT n FROM t WHERE {where[0]} ORDER BY n", where[1])]
    assert found == [n for n, row in enumerate(entities) if chosen.matches(as_entity(row))]


@settings(max_examples=300, deadline=None)
@given(st.text(max_size=60) | st.text(st.sampled_from("id eqnostarwh'(),/ 1T-:.Z"), max_size=60))
def test_any_text_is_a_filter_or_a_filter_error(text: str) -> None:
    with contextlib.suppress(odata.FilterError):
        assert odata.parse(text, odata.TASKS).matches(TASK) in {True, False}
