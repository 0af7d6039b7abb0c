"""Gates: whether the processor may send at all, how much, and whether this request may go now.

A gate can say how long nothing may be sent (`wait`), which share of the concurrency may be used (`budget`), and what
becomes of one request (`admit`). A refused request is deferred: it goes back to its queue and others take its place.
"""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import logging
import math
import time
from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal
from urllib.parse import urlencode

from azbatchwrap.errors import ConfigurationError

log = logging.getLogger(__name__)

#: How often a source outside is asked, and how long it may take (seconds).
POLL_INTERVAL = 5.0
POLL_TIMEOUT = 5.0
#: A request refused by a concurrency gate comes back after this (seconds).
DEFER = 0.5
#: Tenants whose buckets are kept; the fullest are forgotten first, which loses nothing.
BUCKETS_KEPT = 10_000


@dataclass(frozen=True, slots=True)
class Decision:
    """``defer``: seconds until the request should come back (0: go now). ``drop``: end it with GATE_DROPPED.
    ``park``: it may as well wait here until another request of its tenant ends.
    """

    defer: float = 0.0
    drop: bool = False
    park: bool = False
    reason: str = ""


GO = Decision()


class Gate:
    """The gate that is always open; the others override what they care about."""

    name = "open"

    async def start(self) -> None:
        """Begin to watch what the gate depends on."""

    async def stop(self) -> None: ...

    def wait(self) -> float:
        """Seconds in which nothing may be sent."""
        return 0.0

    def budget(self) -> float:
        """The share of the concurrency that may be used, from 0 to 1."""
        return 1.0

    def admit(self, tenant: str) -> Decision:
        return GO

    def release(self, tenant: str) -> None:
        """An admitted request has ended."""


@dataclass
class Constant(Gate):
    """A fixed share of the concurrency."""

    share: float = 1.0
    name: str = "constant"

    def budget(self) -> float:
        return self.share


@dataclass
class Concurrency(Gate):
    """At most ``limit`` requests in flight for each tenant."""

    limit: int = 8
    drop: bool = False
    name: str = "concurrency"
    _flying: Counter[str] = field(default_factory=Counter)

    def admit(self, tenant: str) -> Decision:
        if self._flying[tenant] >= self.limit:
            reason = f"tenant {tenant!r} has {self.limit} requests in flight"
            return Decision(DEFER, self.drop, not self.drop, reason)
        self._flying[tenant] += 1
        return GO

    def release(self, tenant: str) -> None:
        self._flying[tenant] -= 1
        if self._flying[tenant] <= 0:
            del self._flying[tenant]


@dataclass
class TokenBucket(Gate):
    """``rate`` requests a second on average, ``burst`` at once; for all together, or for each tenant."""

    rate: float = 1.0
    burst: float = 1.0
    per: Literal["all", "tenant"] = "all"
    drop: bool = False
    name: str = "token-bucket"
    clock: Callable[[], float] = time.monotonic
    _buckets: dict[str, tuple[float, float]] = field(default_factory=dict)

    def wait(self) -> float:
        if self.per == "tenant":
            return 0.0
        return max(0.0, (1.0 - self._level("")) / self.rate)

    def admit(self, tenant: str) -> Decision:
        key = tenant if self.per == "tenant" else ""
        level = self._level(key)
        if level < 1.0:
            return Decision((1.0 - level) / self.rate, self.drop, reason=f"more than {self.rate:g} requests a second")
        self._buckets[key] = (level - 1.0, self.clock())
        if len(self._buckets) > BUCKETS_KEPT:
            self._forget()
        return GO

    def _level(self, key: str) -> float:
        level, at = self._buckets.get(key, (self.burst, 0.0))
        return min(self.burst, level + (self.clock() - at) * self.rate)

    def _forget(self) -> None:
        fullest = sorted(self._buckets, key=self._level, reverse=True)
        for key in fullest[: BUCKETS_KEPT // 10]:
            del self._buckets[key]


class Watched(Gate, ABC):
    """A gate whose budget follows a number read somewhere else, again and again.

    With ``above``/``below``, the gate is open while the number is on the right side; without, the number is the
    budget itself. While the source gives nothing, the budget is ``fallback``: closed, unless told otherwise.
    """

    def __init__(
        self,
        *,
        above: float | None = None,
        below: float | None = None,
        fallback: float = 0.0,
        interval: float = POLL_INTERVAL,
    ) -> None:
        self._above, self._below, self._fallback, self._interval = above, below, fallback, interval
        self._task: asyncio.Task[None] | None = None
        self._silent = False
        self.value: float | None = None
        self.name = "watched"

    @abstractmethod
    async def read(self) -> float:
        """The number. Raises whatever; the gate then falls back."""

    async def start(self) -> None:
        await self._look()
        self._task = asyncio.create_task(self._watch())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def budget(self) -> float:
        if self.value is None:
            return self._fallback
        if self._above is None and self._below is None:
            return min(1.0, max(0.0, self.value))
        shut = (self._above is not None and self.value <= self._above) or (
            self._below is not None and self.value >= self._below
        )
        return 0.0 if shut else 1.0

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(self._interval)
            await self._look()

    async def _look(self) -> None:
        try:
            value = await asyncio.wait_for(self.read(), POLL_TIMEOUT)
            self.value = value if math.isfinite(value) else None
        except Exception as error:  # noqa: BLE001  a source may fail in any way; the gate falls back and says so
            self.value = None
            if not self._silent:
                log.warning(
                    "gate %s has no value, %s is taken: %s: %s",
                    self.name, self._fallback, type(error).__name__, error,
                )  # fmt: skip
        self._silent = self.value is None


class PrometheusQuery(Watched):
    """A PromQL query that gives one number, asked of the Prometheus server at ``url``."""

    def __init__(self, url: str, query: str, **rule: Any) -> None:
        super().__init__(**rule)
        self._address = f"{url.rstrip('/')}/api/v1/query?{urlencode({'query': query})}"
        self.name = f"prometheus {query}"

    async def read(self) -> float:
        async with _http() as session, session.get(self._address, raise_for_status=True) as response:
            answer = await response.json()
        found = answer["data"]["result"]
        return float(found[1] if answer["data"]["resultType"] == "scalar" else found[0]["value"][1])


class Scrape(Watched):
    """The sum of a metric's samples on the page ``url`` (/metrics of an engine): no Prometheus server needed."""

    def __init__(self, url: str, metric: str, **rule: Any) -> None:
        super().__init__(**rule)
        self._url, self._metric = url, metric
        self.name = f"scrape {metric}"

    async def read(self) -> float:
        async with _http() as session, session.get(self._url, raise_for_status=True) as response:
            return metric_sum(await response.text(), self._metric)


class RedisKey(Watched):
    """A number kept in a Redis key by somebody who knows better."""

    def __init__(self, url: str, key: str, **rule: Any) -> None:
        super().__init__(**rule)
        self._url, self._key = url, key
        self.name = f"redis-key {key}"

    async def read(self) -> float:
        from azbatchwrap.queues.redis import connect

        async with contextlib.aclosing(connect(self._url)) as redis:
            value = await redis.get(self._key)
        if value is None:
            raise LookupError(f"there is no key {self._key!r}")
        return float(value)


def metric_sum(page: str, metric: str) -> float:
    """The sum over all label sets of ``metric`` on a page in Prometheus' text format. Raises LookupError."""
    values = []
    for line in page.splitlines():
        name, rest = line[: len(metric)], line[len(metric) :]
        if name != metric or not rest or rest[0] not in " {":
            continue
        sample = rest.rpartition("}")[2] if rest[0] == "{" else rest
        values.append(float(sample.split()[0]))
    if not values:
        raise LookupError(f"there is no {metric}")
    return sum(values)


@contextlib.asynccontextmanager
async def _http() -> Any:
    import aiohttp

    async with aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=POLL_TIMEOUT)) as session:
        yield session


def _flag(text: str) -> bool:
    return text.lower() in {"1", "true", "yes", "on"}


def _share(text: str) -> float:
    value = float(text)
    if not 0.0 <= value <= 1.0:
        raise ValueError(f"{text} is not from 0 to 1")
    return value


def _positive(text: str) -> float:
    value = float(text)
    if not 0.0 < value < math.inf:
        raise ValueError(f"{text} is not greater than 0")
    return value


def _at_least_one(text: str) -> int:
    value = int(text)
    if value < 1:
        raise ValueError(f"{text} is less than 1")
    return value


def _per(text: str) -> str:
    if text not in {"all", "tenant"}:
        raise ValueError(f"{text} is neither all nor tenant")
    return text


_RULE: dict[str, Callable[[str], Any]] = {"above": float, "below": float, "fallback": _share, "interval": _positive}
_KINDS: dict[str, tuple[Callable[..., Gate], dict[str, Callable[[str], Any]]]] = {
    "constant": (Constant, {"share": _share}),
    "concurrency": (Concurrency, {"limit": _at_least_one, "drop": _flag}),
    "token-bucket": (TokenBucket, {"rate": _positive, "burst": _at_least_one, "per": _per, "drop": _flag}),
    "prometheus": (PrometheusQuery, {"url": str, "query": str, **_RULE}),
    "scrape": (Scrape, {"url": str, "metric": str, **_RULE}),
    "redis-key": (RedisKey, {"url": str, "key": str, **_RULE}),
}


def gate_from_text(text: str) -> Gate:
    """A gate from ``KIND`` or ``KIND:NAME=VALUE;NAME=VALUE``. Raises ConfigurationError."""
    kind, _, rest = text.partition(":")
    if kind not in _KINDS:
        raise ConfigurationError(f"the gate {kind!r} is not known; there are {', '.join(_KINDS)}")
    make, options = _KINDS[kind]
    given = {}
    for part in filter(None, rest.split(";")):
        name, _, value = part.partition("=")
        if name.strip() not in options:
            raise ConfigurationError(f"the gate {kind} has no option {name.strip()!r}; it has {', '.join(options)}")
        try:
            given[name.strip()] = options[name.strip()](value.strip())
        except ValueError as error:
            raise ConfigurationError(f"the gate {kind}: {name.strip()} cannot be {value.strip()!r}") from error
    parameters = inspect.signature(make).parameters
    missing = [name for name in options if name in parameters and name not in given and _is_required(parameters[name])]
    if missing:
        raise ConfigurationError(f"the gate {kind} also needs {' and '.join(f'{name}=…' for name in missing)}")
    return make(**given)


def _is_required(parameter: inspect.Parameter) -> bool:
    return parameter.default is inspect.Parameter.empty
