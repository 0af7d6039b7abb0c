"""`batchkit report`: one HTML page, with nothing from elsewhere, on how a run went. Reads the results once, in order."""

from __future__ import annotations

import html
import math
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from azbatchwrap.errors import ConfigurationError

from .journal import RunPaths, read_records
from .types import ItemRecord

#: Columns of the throughput chart.
COLUMNS = 60
#: Latencies are counted in classes a quarter of a decade wide, from a millisecond.
CLASSES_PER_DECADE = 4
WIDTH, HEIGHT = 720, 180


@dataclass(slots=True)
class Figures:
    """What a page needs of any number of results. ``seconds``: items per second of the epoch."""

    passed: int = 0
    failed: int = 0
    cached: int = 0
    retried: int = 0
    latency_sum: float = 0.0
    seconds: Counter[int] = field(default_factory=Counter)
    latencies: Counter[int] = field(default_factory=Counter)
    endpoints: Counter[str] = field(default_factory=Counter)
    reasons: Counter[tuple[str, str]] = field(default_factory=Counter)

    def add(self, record: ItemRecord) -> None:
        result = record.result
        self.passed += result.passed
        self.failed += not result.passed
        self.cached += result.cached
        self.retried += record.attempts > 1
        self.latency_sum += record.latency
        self.seconds[int(record.ended)] += 1
        self.latencies[math.floor(math.log10(max(record.latency, 1e-3) * 1000) * CLASSES_PER_DECADE)] += 1
        self.endpoints[record.endpoint or "(none)"] += 1
        if not result.passed:
            self.reasons[result.error_type or "", (result.failed_reason or "")[:300]] += 1

    @property
    def total(self) -> int:
        return self.passed + self.failed


def gather(records: Iterable[ItemRecord]) -> Figures:
    figures = Figures()
    for record in records:
        figures.add(record)
    return figures


def write_report(folder: Path, target: Path) -> Figures:
    """Write the page on the run whose output folder is ``folder``. Raises ConfigurationError if there are no results."""
    figures = gather(read_records(RunPaths(folder).results))
    if not figures.total:
        raise ConfigurationError(f"{folder}: there are no results of a run")
    target.write_text(page(folder.resolve().name, figures), encoding="utf-8")
    return figures


def page(title: str, figures: Figures) -> str:
    """The page as text."""
    first, last = min(figures.seconds), max(figures.seconds)
    elapsed = last - first + 1
    facts = {
        "items": f"{figures.total:,}",
        "passed": f"{figures.passed:,} ({figures.cached:,} of them were done before)",
        "failed": f"{figures.failed:,}",
        "needed more than one attempt": f"{figures.retried:,}",
        "time": f"{elapsed:,} s",
        "items per second": f"{figures.total / elapsed:,.1f}",
        "mean latency": f"{figures.latency_sum / figures.total:.3f} s",
    }
    parts = [
        _table(facts.items()),
        "<h2>Items per second</h2>",
        _bars(_throughput(figures.seconds, first, elapsed)),
        "<h2>Latency of the last attempt</h2>",
        _bars(_latencies(figures.latencies)),
        "<h2>Share of the endpoints</h2>",
        _shares(figures.endpoints, figures.total),
        "<h2>Failures by reason</h2>",
        _reasons(figures.reasons),
    ]
    return _HEAD.format(title=html.escape(title)) + "\n".join(parts) + "\n</body></html>\n"


def _throughput(seconds: Mapping[int, int], first: int, elapsed: int) -> list[tuple[str, float]]:
    width = max(1, math.ceil(elapsed / COLUMNS))
    columns = [0] * math.ceil(elapsed / width)
    for second, count in seconds.items():
        columns[(second - first) // width] += count
    return [(f"from {n * width} s", count / width) for n, count in enumerate(columns)]


def _latencies(classes: Mapping[int, int]) -> list[tuple[str, float]]:
    low, high = min(classes), max(classes)
    return [(f"up to {_duration(n + 1)}", float(classes.get(n, 0))) for n in range(low, high + 1)]


def _duration(edge: int) -> str:
    milliseconds = 10.0 ** (edge / CLASSES_PER_DECADE)
    return f"{milliseconds:.3g} ms" if milliseconds < 1000 else f"{milliseconds / 1000:.3g} s"


def _bars(values: Sequence[tuple[str, float]]) -> str:
    top = max(value for _, value in values) or 1.0
    step = WIDTH / len(values)
    drawn = "".join(
        f'<rect x="{n * step:.1f}" y="{HEIGHT - value / top * HEIGHT:.1f}" width="{max(1.0, step - 1):.1f}" '
        f'height="{value / top * HEIGHT:.1f}"><title>{html.escape(label)}: {value:,.4g}</title></rect>'
        for n, (label, value) in enumerate(values)
    )
    first, last = html.escape(values[0][0]), html.escape(values[-1][0])
    return (
        f'<figure><svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img">{drawn}</svg>'
        f"<figcaption><span>{first}</span><span>highest {top:,.4g}</span><span>{last}</span></figcaption></figure>"
    )


def _shares(endpoints: Counter[str], total: int) -> str:
    rows = "".join(
        f'<tr><td>{html.escape(name)}</td><td class="n">{count:,}</td>'
        f'<td><div class="share" style="width:{100 * count / total:.1f}%"></div></td></tr>'
        for name, count in endpoints.most_common()
    )
    return f'<table class="wide">{rows}</table>'


def _reasons(reasons: Counter[tuple[str, str]]) -> str:
    if not reasons:
        return "<p>None.</p>"
    return _table(_reason_rows(reasons))


def _reason_rows(reasons: Counter[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    for (kind, reason), count in reasons.most_common(100):
        yield f"{count:,} times {kind}", reason
    rest = len(reasons) - 100
    if rest > 0:
        yield f"{rest:,} more reasons", ""


def _table(rows: Iterable[tuple[str, str]]) -> str:
    cells = "".join(f"<tr><td>{html.escape(name)}</td><td>{html.escape(value)}</td></tr>" for name, value in rows)
    return f"<table>{cells}</table>"


_HEAD = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; max-width: 48rem; margin: 2rem auto; padding: 0 1rem; color: #223 }}
h2 {{ font-size: 1.05rem; margin: 1.6rem 0 .4rem }} svg {{ width: 100%; background: #f4f5f8 }} rect {{ fill: #4a7ab8 }}
figure {{ margin: 0 }} figcaption {{ display: flex; justify-content: space-between; color: #667; font-size: .85rem }}
td {{ padding: .1rem .8rem .1rem 0; vertical-align: top; overflow-wrap: anywhere }} .n {{ text-align: right }}
.wide {{ width: 100% }} .wide td:last-child {{ width: 60% }} .share {{ background: #4a7ab8; height: .8rem }}
</style></head><body>
<h1>{title}</h1>
"""
