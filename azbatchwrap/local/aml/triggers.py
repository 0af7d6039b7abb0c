"""When a schedule is due: pure. Recurrences and cron expressions, to the minute."""

from __future__ import annotations

import datetime as dt
import re
import zoneinfo
from collections.abc import Iterable, Mapping
from typing import Any

#: A schedule that is not due within so many days never is.
HORIZON_DAYS = 366 * 2
_MINUTES = {"minute": 1, "hour": 60}
_WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")
_CRON_BOUNDS = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))
_CRON_PART = re.compile(r"(?:\*|(\d+)(?:-(\d+))?)(?:/(\d+))?\Z")


class BadTrigger(Exception):
    """The trigger cannot be understood: a sentence."""


def next_due(trigger: Mapping[str, Any], after: dt.datetime, made: dt.datetime) -> dt.datetime | None:
    """The first moment later than ``after`` (both in UTC); ``made`` is the start of a trigger that names none.

    Raises BadTrigger.
    """
    zone = _zone(trigger.get("timeZone"))
    start = _moment(trigger.get("startTime"), zone) or made.astimezone(zone).replace(second=0, microsecond=0)
    end = _moment(trigger.get("endTime"), zone)
    kind = str(trigger.get("triggerType", "")).lower()
    local = max(after.astimezone(zone), start - dt.timedelta(minutes=1))
    if kind == "cron":
        found = _next_cron(str(trigger.get("expression") or ""), local)
    elif kind == "recurrence":
        found = _next_recurrence(trigger, local, start)
    else:
        raise BadTrigger(f"the triggerType {trigger.get('triggerType')!r} is neither Recurrence nor Cron")
    if found is None or (end is not None and found > end):
        return None
    return found.astimezone(dt.timezone.utc)


def _next_recurrence(trigger: Mapping[str, Any], after: dt.datetime, start: dt.datetime) -> dt.datetime | None:
    frequency, interval = str(trigger.get("frequency", "")).lower(), trigger.get("interval")
    if not isinstance(interval, int) or interval < 1:
        raise BadTrigger(f"the interval {interval!r} is not a number of at least 1")
    if frequency in _MINUTES:
        step = dt.timedelta(minutes=_MINUTES[frequency] * interval)
        missed = max(0, -((start - after) // step)) if start <= after else 0
        found = start + missed * step
        return found if found > after else found + step
    if frequency not in {"day", "week", "month"}:
        raise BadTrigger(f"the frequency {trigger.get('frequency')!r} is none of minute, hour, day, week, month")
    pattern = trigger.get("schedule") or {}
    hours = pattern.get("hours") or [start.hour]
    minutes = pattern.get("minutes") or ([0] if pattern.get("hours") else [start.minute])
    days = (
        start.date() + dt.timedelta(days=number)
        for number in range((after.date() - start.date()).days, _horizon(after, start))
    )
    fitting = (day for day in days if day >= start.date() and _fits(day, start.date(), frequency, interval, pattern))
    return _first(fitting, hours, minutes, max(after, start - dt.timedelta(minutes=1)))


def _horizon(after: dt.datetime, start: dt.datetime) -> int:
    return max(0, (after.date() - start.date()).days) + HORIZON_DAYS


def _fits(day: dt.date, start: dt.date, frequency: str, interval: int, pattern: Mapping[str, Any]) -> bool:
    if frequency == "day":
        return (day - start).days % interval == 0
    if frequency == "week":
        monday = start - dt.timedelta(days=start.weekday())
        wanted = [str(name).lower() for name in pattern.get("weekDays") or [_WEEKDAYS[start.weekday()]]]
        return ((day - monday).days // 7) % interval == 0 and _WEEKDAYS[day.weekday()] in wanted
    months = (day.year - start.year) * 12 + day.month - start.month
    return months % interval == 0 and day.day in (pattern.get("monthDays") or [start.day])


def _next_cron(expression: str, after: dt.datetime) -> dt.datetime | None:
    fields = expression.split()
    if len(fields) != len(_CRON_BOUNDS):
        raise BadTrigger(f"the cron expression {expression!r} has not five fields")
    minutes, hours, month_days, months, week_days = (
        _cron_values(text, low, high) for text, (low, high) in zip(fields, _CRON_BOUNDS, strict=True)
    )
    sundays = {0 if value == 7 else value for value in week_days}
    both = fields[2] != "*" and fields[4] != "*"

    def fits(day: dt.date) -> bool:
        of_month, of_week = day.day in month_days, (day.weekday() + 1) % 7 in sundays
        return day.month in months and ((of_month or of_week) if both else (of_month and of_week))

    days = (after.date() + dt.timedelta(days=number) for number in range(HORIZON_DAYS))
    return _first((day for day in days if fits(day)), sorted(hours), sorted(minutes), after)


def _cron_values(text: str, low: int, high: int) -> set[int]:
    found: set[int] = set()
    for part in text.split(","):
        match = _CRON_PART.match(part)
        if match is None:
            raise BadTrigger(f"{part!r} is not understood in a cron expression")
        first, last, step = match.groups()
        begin = low if first is None else int(first)
        end = high if first is None or (step and last is None) else int(last or first)
        if not low <= begin <= end <= high:
            raise BadTrigger(f"{part!r} is out of range in a cron expression")
        found |= set(range(begin, end + 1, int(step or 1)))
    return found


def _first(
    days: Iterable[dt.date], hours: Iterable[int], minutes: Iterable[int], after: dt.datetime
) -> dt.datetime | None:
    for day in days:
        for hour in sorted(hours):
            for minute in sorted(minutes):
                moment = dt.datetime.combine(day, dt.time(hour, minute), after.tzinfo)
                if moment > after:
                    return moment
    return None


def _zone(name: Any) -> dt.tzinfo:
    """A zone by its IANA name. Windows names, which the service also takes, count as UTC here."""
    try:
        return zoneinfo.ZoneInfo(str(name or "UTC"))
    except (zoneinfo.ZoneInfoNotFoundError, ValueError):
        return dt.timezone.utc


def _moment(text: Any, zone: dt.tzinfo) -> dt.datetime | None:
    if not text:
        return None
    try:
        moment = dt.datetime.fromisoformat(str(text).replace("Z", "+00:00"))
    except ValueError:
        raise BadTrigger(f"{text!r} is not a time") from None
    return moment.replace(tzinfo=zone) if moment.tzinfo is None else moment.astimezone(zone)
