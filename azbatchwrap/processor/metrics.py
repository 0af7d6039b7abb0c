"""Counters, gauges and histograms in Prometheus' text format (version 0.0.4), without a library: they are on the path
of every message. Source: https://prometheus.io/docs/instrumenting/exposition_formats/.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

#: Seconds, from a cached answer to a long generation.
LATENCIES = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0, 120.0, 300.0)
#: Seconds from being put to having a result.
RESIDENCES = (0.1, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3_600.0, 14_400.0, 86_400.0)

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


@dataclass(slots=True)
class Counter:
    """Only grows; one number for each value of its label."""

    name: str
    help: str
    label: str = ""
    values: defaultdict[str, float] = field(default_factory=lambda: defaultdict(float))

    def add(self, label: str = "", amount: float = 1.0) -> None:
        self.values[label] += amount

    @property
    def total(self) -> float:
        return sum(self.values.values())

    def lines(self) -> Iterator[str]:
        yield from _head(self.name, self.help, "counter")
        if not self.label and not self.values:
            yield f"{self.name} 0"
        for value, number in sorted(self.values.items()):
            yield f"{self.name}{_labels({self.label: value})} {number:.15g}"


@dataclass(slots=True)
class Gauge:
    """Read when somebody looks: ``read`` gives label value -> number."""

    name: str
    help: str
    read: Callable[[], dict[str, float]]
    label: str = ""

    def lines(self) -> Iterator[str]:
        yield from _head(self.name, self.help, "gauge")
        for value, number in sorted(self.read().items()):
            yield f"{self.name}{_labels({self.label: value})} {number:.15g}"


@dataclass(slots=True)
class Histogram:
    """How often a number fell under each bound."""

    name: str
    help: str
    bounds: Sequence[float] = LATENCIES
    counts: list[int] = field(init=False)
    total: float = 0.0

    def __post_init__(self) -> None:
        self.counts = [0] * (len(self.bounds) + 1)

    def observe(self, number: float) -> None:
        self.counts[bisect_left(self.bounds, number)] += 1
        self.total += number

    def quantile(self, share: float) -> float | None:
        """The bound below which ``share`` of the numbers fell; ``None`` without any."""
        count = sum(self.counts)
        if not count:
            return None
        seen = 0
        for bound, number in zip((*self.bounds, float("inf")), self.counts, strict=True):
            seen += number
            if seen >= share * count:
                return bound
        return None

    def lines(self) -> Iterator[str]:
        yield from _head(self.name, self.help, "histogram")
        seen = 0
        for bound, number in zip((*(f"{one:g}" for one in self.bounds), "+Inf"), self.counts, strict=True):
            seen += number
            yield f'{self.name}_bucket{{le="{bound}"}} {seen}'
        yield f"{self.name}_sum {self.total:.15g}"
        yield f"{self.name}_count {seen}"


class Metrics:
    """What the processor counts."""

    def __init__(self) -> None:
        self.claimed = Counter("azbatchwrap_processor_claimed_total", "Messages claimed, by queue", "queue")
        self.attempts = Counter("azbatchwrap_processor_attempts_total", "Requests sent, by endpoint", "endpoint")
        self.results = Counter("azbatchwrap_processor_results_total", "Results stored, by code", "code")
        self.retries = Counter("azbatchwrap_processor_retries_total", "Attempts to be repeated, by reason", "reason")
        self.deferred = Counter(
            "azbatchwrap_processor_deferred_total", "Messages that a gate held back, by gate", "gate"
        )
        self.reclaimed = Counter("azbatchwrap_processor_reclaimed_total", "Messages taken from dead workers")
        self.expired = Counter("azbatchwrap_processor_expired_total", "Messages that expired while they waited")
        self.poisoned = Counter("azbatchwrap_processor_poisoned_total", "Messages that killed their workers")
        self.stale = Counter("azbatchwrap_processor_stale_total", "Endings refused because the claim was lost")
        self.lost = Counter("azbatchwrap_processor_lost_total", "Claims lost while they were held")
        self.queue_errors = Counter("azbatchwrap_processor_queue_errors_total", "Failed calls of a queue", "queue")
        self.latency = Histogram("azbatchwrap_processor_request_seconds", "Duration of one attempt")
        self.residence = Histogram(
            "azbatchwrap_processor_residence_seconds", "Time from being put to having a result", RESIDENCES
        )
        self._gauges: list[Gauge] = []

    def gauge(self, name: str, help_: str, read: Callable[[], dict[str, float]], label: str = "") -> None:
        """Add a number that is read when somebody looks."""
        self._gauges.append(Gauge(f"azbatchwrap_processor_{name}", help_, read, label))

    def page(self) -> str:
        """The page /metrics."""
        own = [one for one in vars(self).values() if isinstance(one, Counter | Histogram)]
        return "\n".join(line for one in (*own, *self._gauges) for line in one.lines()) + "\n"


def _head(name: str, text: str, kind: str) -> Iterator[str]:
    yield f"# HELP {name} {text}"
    yield f"# TYPE {name} {kind}"


def _labels(labels: dict[str, str]) -> str:
    text = ",".join(f'{name}="{_escaped(value)}"' for name, value in labels.items() if name)
    return f"{{{text}}}" if text else ""


def _escaped(value: str) -> str:
    return value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n")
