from __future__ import annotations

import base64
import os

import pytest

from azbatchwrap.local.web import links
from azbatchwrap.local.web.links import Gate, make_link

KEY = base64.b64encode(os.urandom(64)).decode()


def secret_of(link: str) -> str:
    return link.partition("#enter=")[2]


@pytest.fixture
def gate() -> Gate:
    return Gate(KEY, 1234)


def test_a_link_keeps_its_secret_in_the_fragment() -> None:
    link = make_link("http://127.0.0.1:1234/", KEY)
    assert link.startswith("http://127.0.0.1:1234/ui/#enter=")
    assert KEY not in link


def test_a_link_is_exchanged_for_a_cookie_that_scripts_and_other_sites_never_see(gate: Gate) -> None:
    cookie = gate.exchange(secret_of(make_link("http://here", KEY)))
    assert cookie is not None
    value, *attributes = cookie.split("; ")
    assert {"Path=/ui", "HttpOnly", "SameSite=Strict"} <= set(attributes)
    assert value.startswith("azbatchwrap-1234=")
    assert gate.admits(f"other=1; {value}")


def test_a_link_opens_once(gate: Gate) -> None:
    secret = secret_of(make_link("http://here", KEY))
    assert gate.exchange(secret)
    assert gate.exchange(secret) is None


def test_a_link_grows_old(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    secret = secret_of(make_link("http://here", KEY))
    later = links._now_ms() + links.LINK_SECONDS * 1000 + 1
    monkeypatch.setattr(links, "_now_ms", lambda: later)
    assert gate.exchange(secret) is None


def test_a_link_from_before_the_start_may_have_been_used(monkeypatch: pytest.MonkeyPatch) -> None:
    secret = secret_of(make_link("http://here", KEY))
    now = links._now_ms() + 1000
    monkeypatch.setattr(links, "_now_ms", lambda: now)
    assert Gate(KEY, 1234).exchange(secret) is None


def test_used_links_are_forgotten_when_they_are_too_old_to_matter(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    gate.exchange(secret_of(make_link("http://here", KEY)))
    later = links._now_ms() + links.LINK_SECONDS * 1000 + 1
    monkeypatch.setattr(links, "_now_ms", lambda: later)
    gate.exchange(secret_of(make_link("http://here", KEY)))
    assert len(gate._used) == 1


@pytest.mark.parametrize("secret", ["", ".", "..", "1.2.3", "9" * 5000, "1.a.b\N{SNOWMAN}", "\N{SNOWMAN}.a.b"])
def test_what_is_no_secret_of_ours_opens_nothing(gate: Gate, secret: str) -> None:
    assert gate.exchange(secret) is None
    assert not gate.admits(f"{gate.cookie_name}={secret}")


def test_another_accounts_link_opens_nothing(gate: Gate) -> None:
    other = base64.b64encode(os.urandom(64)).decode()
    assert gate.exchange(secret_of(make_link("http://here", other))) is None


def test_a_session_ends(gate: Gate, monkeypatch: pytest.MonkeyPatch) -> None:
    cookie = gate.exchange(secret_of(make_link("http://here", KEY)))
    assert cookie is not None
    later = links._now_ms() + links.SESSION_SECONDS * 1000 + 1
    monkeypatch.setattr(links, "_now_ms", lambda: later)
    assert not gate.admits(cookie.partition(";")[0])


def test_a_links_secret_is_no_session_and_a_session_no_link(gate: Gate) -> None:
    secret = secret_of(make_link("http://here", KEY))
    assert not gate.admits(f"{gate.cookie_name}={secret}")
    cookie = gate.exchange(secret)
    assert cookie is not None
    assert gate.exchange(cookie.partition(";")[0].partition("=")[2]) is None
