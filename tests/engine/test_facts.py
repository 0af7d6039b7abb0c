"""The engine's own short cuts agree with the standard library's long way."""

from __future__ import annotations

import json
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from azbatchwrap.engine.facts import read_json
from azbatchwrap.engine.record import _quote

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(st.text(), inner, max_size=5),
    max_leaves=20,
)


@given(VALUES, st.sampled_from([None, 0, 2]), st.booleans(), st.sampled_from(["", " ", "\n\t"]))
def test_json_is_read_as_the_json_module_reads_it(value: object, indent: int | None, plain: bool, around: str) -> None:
    text = around + json.dumps(value, indent=indent, ensure_ascii=plain) + around
    assert read_json(text) == json.loads(text) == value


@given(st.text(alphabet='[]{},:"\\ 01truefalsn-.eE\n', max_size=12))
def test_what_the_json_module_refuses_is_refused(text: str) -> None:
    try:
        expected = json.loads(text)
    except ValueError:
        with pytest.raises(ValueError):
            read_json(text)
    else:
        assert read_json(text) == expected


def test_the_constants_of_javascript() -> None:
    assert read_json("[Infinity, -Infinity]") == [math.inf, -math.inf]
    assert math.isnan(read_json("NaN"))


@given(st.text(st.characters()))
def test_any_text_becomes_a_json_string_that_utf_8_can_hold(text: str) -> None:
    read = json.loads(_quote(text))
    read.encode()
    assert read == text.encode("utf-8", "backslashreplace").decode()
