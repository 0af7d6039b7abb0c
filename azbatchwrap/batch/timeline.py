"""A job as a picture: which task ran where and when, and how much of the slots was used."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timezone
from html import escape

from .service import Service, at, parse_time

#: Sizes in the picture's own units (pixels at 100 %).
WIDTH, LEFT, LANE, BAR, TOP, AXIS = 1000, 150, 16, 12, 44, 26
#: Colours that also differ in brightness.
COLOURS = {"succeeded": "#4c9f70", "failed": "#c0392b", "running": "#8fb8de"}
#: Wanted number of marks on the time axis, and the steps (seconds) they may have.
MARKS = 8
STEPS = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200, 86400)


@dataclass(frozen=True, slots=True)
class Span:
    """One task's time on its node."""

    task_id: str
    node_id: str
    began: datetime
    ended: datetime
    state: str

    @property
    def seconds(self) -> float:
        return (self.ended - self.began).total_seconds()


def spans_of(service: Service, job_id: str, now: datetime | None = None) -> list[Span]:
    """The tasks of a job that ran or run, in the order in which they began. Raises NotFound."""
    fields = ("id", "state", "executionInfo", "nodeInfo")
    found = []
    for task in service.list(at("jobs", job_id, "tasks"), select=fields):
        execution = task.get("executionInfo") or {}
        if "startTime" not in execution:
            continue
        over = "endTime" in execution
        ended = parse_time(execution["endTime"]) if over else (now or datetime.now(timezone.utc))
        state = ("succeeded" if execution.get("result") == "success" else "failed") if over else "running"
        node = str((task.get("nodeInfo") or {}).get("nodeId", ""))
        found.append(Span(task["id"], node, parse_time(execution["startTime"]), ended, state))
    return sorted(found, key=lambda span: (span.began, span.task_id))


def lanes(spans: Iterable[Span]) -> dict[str, list[list[Span]]]:
    """Each node's tasks in as few lanes as it had running at once: its slots in use."""
    nodes: defaultdict[str, list[list[Span]]] = defaultdict(list)
    for span in spans:
        free = next((lane for lane in nodes[span.node_id] if lane[-1].ended <= span.began), None)
        if free is None:
            nodes[span.node_id].append([span])
        else:
            free.append(span)
    return dict(nodes)


def utilisation(spans: Sequence[Span]) -> float:
    """The part of the time between the first begin and the last end that the lanes were busy, from 0 to 1."""
    if not spans:
        return 0.0
    count = sum(map(len, lanes(spans).values()))
    length = (max(span.ended for span in spans) - min(span.began for span in spans)).total_seconds()
    return sum(span.seconds for span in spans) / (length * count) if length else 1.0


def svg(spans: Sequence[Span], title: str) -> str:
    """The picture as an SVG document that needs nothing else; a bar tells its task when pointed at."""
    placed = lanes(spans)
    count = sum(map(len, placed.values()))
    height = TOP + count * LANE + AXIS
    began = min((span.began for span in spans), default=datetime.now(timezone.utc))
    length = max(((span.ended - began).total_seconds() for span in spans), default=1.0) or 1.0
    scale = (WIDTH - LEFT - 10) / length
    used = f"{len(spans)} tasks, {length:.1f} s, {utilisation(spans):.0%} of the slots in use"
    parts = [
        (
            f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}" '
            'font-family="sans-serif" font-size="11">'
        ),
        f'<text x="6" y="17" font-size="14">{escape(title)}</text><text x="6" y="33" fill="#555">{used}</text>',
        *_axis(length, scale, height),
    ]
    y = TOP
    for node, own in placed.items():
        parts.append(f'<text x="6" y="{y + BAR - 2}">{escape(node[-20:])}</text>')
        for lane in own:
            parts += [_bar(span, LEFT + (span.began - began).total_seconds() * scale, y, scale) for span in lane]
            y += LANE
    return "\n".join([*parts, "</svg>"]) + "\n"


def html(spans: Sequence[Span], title: str) -> str:
    """The picture in a page of its own."""
    head = f'<!DOCTYPE html>\n<html lang="en"><meta charset="utf-8"><title>{escape(title)}</title>'
    return f'{head}\n<body style="margin:1em">\n{svg(spans, title)}</body></html>\n'


def _bar(span: Span, x: float, y: int, scale: float) -> str:
    words = escape(f"{span.task_id}: {span.state}, {span.seconds:.2f} s from {span.began:%H:%M:%S} UTC")
    width = max(1.0, span.seconds * scale)
    return (
        f'<rect x="{x:.1f}" y="{y}" width="{width:.1f}" height="{BAR}" fill="{COLOURS[span.state]}" '
        f'stroke="white" stroke-width="0.5"><title>{words}</title></rect>'
    )


def _axis(length: float, scale: float, height: int) -> list[str]:
    step = next((step for step in STEPS if length / step <= MARKS), STEPS[-1])
    marks = []
    for number in range(int(length / step) + 1):
        x = LEFT + number * step * scale
        marks.append(
            f'<path d="M{x:.1f} {TOP - 4}V{height - AXIS + 4}" stroke="#ddd"/>'
            f'<text x="{x:.1f}" y="{height - 8}" fill="#555">{number * step:g} s</text>'
        )
    return marks
