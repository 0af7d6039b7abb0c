"""The ways to call functions as tasks: one, many, combinations, one after the other."""

from __future__ import annotations

import itertools
import threading
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from azbatchwrap.errors import ConfigurationError

from .calls import Call, Caller, Options
from .future import Future, Owner


@dataclass(frozen=True, slots=True)
class Desk:
    """Where calls are made and handed in: ``accept`` sends them and gives their futures, which ``owner`` answers for."""

    owner: Owner
    caller: Caller
    accept: Callable[[list[Call]], list[Future]]
    turn: threading.Lock = field(default_factory=threading.Lock)


class Calls:
    """Calls of functions with the same options for their tasks. A `Session` is one; `options` gives others."""

    def __init__(self, desk: Desk, options: Options) -> None:
        self._desk = desk
        self._options = options

    def options(self, **options: Any) -> Calls:
        """The same calls with other options for their tasks: ``s.options(retries=2, timeout="10m").map(f, items)``.

        ``retries``, ``retry_on`` (exceptions), ``retry_exit_codes``, ``timeout`` (seconds or ``"10m"``), ``inputs``
        (names), ``slots``, ``on_failure`` (``"fail"``; ``"ignore"`` to run though a task before it failed; ``"retry"`` to
        have that one run again, ``upstream_retries`` times).
        """
        return Calls(self._desk, Options.of({**asdict(self._options), **options}))

    def submit(
        self, function: Callable[..., Any], /, *args: Any, after: Future | Iterable[Future] = (), **kwargs: Any
    ) -> Future:
        """Run ``function(*args, **kwargs)`` as a task. Futures among the arguments stand for their results.

        The task starts when those, and the future or futures ``after``, have ended well. Raises ConfigurationError for a
        function that a node cannot find and for arguments that cannot travel.
        """
        return self._submit(function, [(args, kwargs)], after)[0]

    def call(self, function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any]) -> Future:
        """As `submit`, for a function that has an argument ``after`` of its own."""
        return self._submit(function, [(args, kwargs)], ())[0]

    def map(
        self, function: Callable[..., Any], /, *iterables: Iterable[Any], after: Future | Iterable[Future] = ()
    ) -> list[Future]:
        """A task for each item, or for each group of items of several iterables; the futures in their order."""
        calls = (_positional(args) for args in zip(*iterables, strict=False))
        return self._submit(function, calls, after)

    def starmap(
        self, function: Callable[..., Any], groups: Iterable[Sequence[Any]], *, after: Future | Iterable[Future] = ()
    ) -> list[Future]:
        """As `map`, with the arguments of each task in one tuple."""
        return self._submit(function, map(_positional, groups), after)

    def sweep(
        self, function: Callable[..., Any], /, grid: Mapping[str, Iterable[Any]], *args: Any, **fixed: Any
    ) -> list[Future]:
        """A task for each combination of ``grid``'s values, given as keywords; each future's ``point`` is its own."""
        points = [dict(zip(grid, values, strict=True)) for values in itertools.product(*grid.values())]
        futures = self._submit(function, ((args, {**fixed, **point}) for point in points), ())
        for future, point in zip(futures, points, strict=True):
            future.point = point
        return futures

    def array(
        self, function: Callable[..., Any], count: int, *args: Any, after: Future | Iterable[Future] = ()
    ) -> list[Future]:
        """Tasks ``function(0, *args)`` to ``function(count - 1, *args)``, up to 100,000, with numbers in a row as ids.

        What depends on all of them names them as one range: a `merge` of any size waits on the service, not here.
        """
        parents, desk = as_futures(after), self._desk
        with desk.turn:
            made = desk.caller.make_array(desk.owner, function, count, args, after=parents, options=self._options)
        return desk.accept(made)

    def chain(self, functions: Sequence[Callable[..., Any]], *args: Any) -> Future:
        """Tasks one after the other, each function called with what the one before returned; the last one's future."""
        if not functions:
            raise ConfigurationError("a chain needs a function")
        future = self.submit(functions[0], *args)
        for function in functions[1:]:
            future = self.submit(function, future)
        return future

    def merge(self, function: Callable[..., Any], futures: Iterable[Future], *args: Any, **kwargs: Any) -> Future:
        """One task that gets the list of all these results as its first argument."""
        return self.submit(function, list(futures), *args, **kwargs)

    def _submit(
        self,
        function: Callable[..., Any],
        calls: Iterable[tuple[Sequence[Any], Mapping[str, Any]]],
        after: Future | Iterable[Future],
    ) -> list[Future]:
        parents, desk = as_futures(after), self._desk
        made: list[Call] = []
        with desk.turn:
            for args, kwargs in calls:
                made.append(desk.caller.make(desk.owner, function, args, kwargs, after=parents, options=self._options))
        return desk.accept(made)


def as_futures(given: Future | Iterable[Future]) -> tuple[Future, ...]:
    """One future or several, as several."""
    return (given,) if isinstance(given, Future) else tuple(given)


def _positional(args: Sequence[Any]) -> tuple[Sequence[Any], Mapping[str, Any]]:
    return args, {}
