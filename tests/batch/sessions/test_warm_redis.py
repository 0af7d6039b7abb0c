"""Calls through Redis: what engines may do there, what is left behind, and what a server's restart costs."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import urlsplit
from urllib.request import urlopen

import pytest
import redis

from azbatchwrap.batch.sessions import Session
from azbatchwrap.batch.sessions.redis_mail import REGISTER
from azbatchwrap.config import Settings
from azbatchwrap.errors import AccessDenied, ConfigurationError
from tests.fixtures_processor import GuardedRedis, guarded_redis
from tests.fixtures_stack import LocalStack

DEADLINE = 60.0
Open = Callable[..., Session]


@pytest.fixture
def server(tmp_path: Path) -> Iterator[GuardedRedis]:
    with guarded_redis(tmp_path) as running:
        yield running


@pytest.fixture
def settings(local_stack: LocalStack, server: GuardedRedis) -> Settings:
    return local_stack.settings(project="sessions", redis_url=server.guarded_url)


def ask(url: str, *words: str) -> Any:
    with redis.Redis.from_url(url, decode_responses=True, protocol=2) as client:
        return client.execute_command(*words)


def users(server: GuardedRedis) -> list[str]:
    return sorted(ask(server.guarded_url, "ACL", "USERS"))


def test_engines_get_in_as_a_user_of_their_own(
    open_session: Open, settings: Settings, server: GuardedRedis, work: ModuleType
) -> None:
    session = open_session(settings=settings)
    with session.interactive(engines=1) as warm:
        seen = warm.submit(work.environment).result(DEADLINE)
        address = seen["AZBATCHWRAP_CALLS_URL"]
        with urlopen(address, timeout=DEADLINE) as answer:
            place = json.load(answer)
        engine = f"redis://{place['user']}:{place['password']}@{place['host']}:{place['port']}/{place['db']}"
        own = place["calls"]
        assert ask(engine, "XADD", own, "*", "json", "no call") is not None
        forbidden = [
            ("XADD", "other", "*", "a", "b"),
            ("GET", own),
            ("KEYS", "*"),
            ("ACL", "USERS"),
            ("CONFIG", "GET", "*"),
        ]
        for words in forbidden:
            with pytest.raises(redis.exceptions.NoPermissionError):
                ask(engine, *words)
        assert warm.submit(work.square, 3).result(DEADLINE) == 9
    for secret in (server.password, place["password"]):
        assert secret not in str(seen)
    # Closing takes everything along.
    assert users(server) == ["default"]
    assert ask(server.guarded_url, "KEYS", "*") == []
    with pytest.raises(redis.exceptions.AuthenticationError):
        ask(engine, "PING")


def test_a_lane_that_nobody_needs_is_removed_by_the_next_client(
    open_session: Open, settings: Settings, server: GuardedRedis, work: ModuleType
) -> None:
    for words in (
        ("ACL", "SETUSER", "azbw-gone", "on", "nopass", "~azbw:gone:*", "+xadd"),
        ("XADD", "azbw:gone:calls", "*", "json", "{}"),
        ("ZADD", REGISTER, str(int(time.time()) - 1), "gone"),
    ):
        ask(server.guarded_url, *words)
    with open_session(settings=settings).interactive("lab", engines=1) as warm:
        assert warm.submit(work.square, 2).result(DEADLINE) == 4
        lane = ask(server.guarded_url, "ZRANGE", REGISTER, "0", "-1")
    assert len(lane) == 1
    # A shared lane stays for the others; the mailbox of the one who has left does not.
    assert users(server) == [f"azbw-{lane[0]}", "default"]
    assert sorted(ask(server.guarded_url, "KEYS", "*")) == sorted([f"azbw:{lane[0]}:calls", REGISTER])


def test_calls_survive_a_server_that_forgets_everything(
    open_session: Open, settings: Settings, server: GuardedRedis, work: ModuleType
) -> None:
    with open_session(settings=settings).interactive(engines=1, lease=2) as warm:
        assert warm.submit(work.square, 2).result(DEADLINE) == 4
        futures = warm.map(work.pause, [0.3] * 6)
        futures[0].result(DEADLINE)
        server.stop()
        server.start()
        assert [future.result(DEADLINE) for future in futures] == [0.3] * 6


def test_a_server_that_lets_us_make_no_users(
    open_session: Open, local_stack: LocalStack, server: GuardedRedis, work: ModuleType
) -> None:
    ask(server.guarded_url, "ACL", "SETUSER", "guest", "on", ">guest", "~*", "+@all", "-acl")
    place = urlsplit(server.guarded_url).netloc.rpartition("@")[2]
    for user, error, words in (
        ("guest:guest", ConfigurationError, "ACL SETUSER"),
        ("guest:wrong", AccessDenied, "refused the password"),
    ):
        settings = local_stack.settings(project="sessions", redis_url=f"redis://{user}@{place}/0")
        with open_session(settings=settings).interactive(engines=1) as warm, pytest.raises(error, match=words):
            warm.submit(work.square, 2).result(DEADLINE)
    assert ask(server.guarded_url, "KEYS", "*") == []
