"""Sessions against the instance that all tests share, and a module of functions that lies nowhere but in a folder."""

from __future__ import annotations

import importlib
import secrets
import sys
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Any

import pytest

from azbatchwrap.batch.sessions import Session
from tests.fixtures_stack import LocalStack

#: Seconds that any wait of these tests may take.
DEADLINE = 60.0

WORK = '''
"""What the tasks of these tests do."""

import os
import pathlib
import sys
import time


class Odd(Exception):
    def __init__(self, word, number):
        super().__init__(word, number)


def square(x):
    return x * x


def add(a, b=0):
    return a + b


def total(values):
    return sum(value for value in values if value is not None)


def fail(x):
    print(f"the last words of {x}", file=sys.stderr)
    raise Odd("odd", x)


def speak(words):
    print(words)


def fail_once(flag):
    if not os.path.exists(flag):
        open(flag, "w").close()
        raise Odd("once", 1)
    return "second"


def note(folder, name):
    """Leaves a file per run, so that a second run of the same call would show."""
    with open(os.path.join(folder, f"{name}-{os.getpid()}"), "w"):
        return name


def note_and_fail(folder):
    note(folder, "run")
    raise Odd("again", 2)


def hold(folder):
    """Runs until it is ended; the file says that it runs."""
    pathlib.Path(folder, "running").write_text(str(os.getpid()))
    print("begun", flush=True)
    time.sleep(600)


def hold_first(folder):
    """The first run ends with its node; a later one says where it is."""
    node = os.environ["AZ_BATCH_NODE_ID"]
    place = pathlib.Path(folder, "node")
    if not place.exists():
        place.write_text(node)
        time.sleep(600)
    return node


def wait_for(path):
    while not os.path.exists(path):
        time.sleep(0.05)
    return "went"


def give(name):
    pathlib.Path("outputs", name).write_text("given")
    return sorted(os.listdir("."))


def largest(text):
    return {"length": len(text), "again": text}


def a_set():
    return {1, 2}


def use_pytest():
    import pytest

    return pytest.__name__


def answer(kind):
    return {"tuple": (1, "a"), "bytes": b"raw"}[kind]


def greet():
    import greeting

    return greeting.WORDS


def environment():
    return dict(os.environ)


def capture(*args, **kwargs):
    return args, kwargs


def pause(seconds):
    time.sleep(seconds)
    return seconds


def kill_once(flag, number):
    if not os.path.exists(flag):
        open(flag, "w").close()
        os.kill(os.getpid(), number)
    return "survived"


class Thing:
    pass


def make_thing(_):
    return Thing()


class Shop:
    @staticmethod
    def price(n):
        return n * 10
'''


@pytest.fixture(scope="package")
def work(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModuleType]:
    """The module above, importable under a name of its own."""
    folder = tmp_path_factory.mktemp("code")
    name = f"work_{secrets.token_hex(3)}"
    (folder / f"{name}.py").write_text(WORK)
    sys.path.insert(0, str(folder))
    yield importlib.import_module(name)
    sys.path.remove(str(folder))
    del sys.modules[name]


@pytest.fixture(scope="package")
def pool_id(local_stack: LocalStack) -> Iterator[str]:
    """A pool of two nodes for all sessions of these tests."""
    with Session(settings=local_stack.settings(project="sessions")) as session:
        made = session.manager.create_pool(node_count=2, slots_per_node=2)
        yield made
        session.manager.delete_pool(made)


#: Opens a session on the shared pool; it is closed at the end of the test.
Open = Callable[..., Session]


@pytest.fixture
def open_session(local_stack: LocalStack, pool_id: str) -> Iterator[Open]:
    opened: list[Session] = []

    def open_one(name: str = "", **arguments: Any) -> Session:
        arguments = {"settings": local_stack.settings(project="sessions"), "pool": pool_id, **arguments}
        session = Session(name, **arguments)
        opened.append(session)
        return session

    yield open_one
    for session in opened:
        session.close(wait=False, cancel=True)


@pytest.fixture(scope="package")
def shared(local_stack: LocalStack, pool_id: str) -> Iterator[Session]:
    """One session for the tests that need no other."""
    session = Session(settings=local_stack.settings(project="sessions"), pool=pool_id)
    yield session
    session.close(wait=False)
