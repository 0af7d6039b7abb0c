"""The service's notation: times as .NET ticks, entity tags, durations, header dates, identifiers."""

from __future__ import annotations

import re
import time
from datetime import datetime, timedelta, timezone
from email.utils import format_datetime, parsedate_to_datetime
from functools import lru_cache

#: Ticks (100 ns) from year 1 to the Unix epoch.
UNIX_EPOCH = 621_355_968_000_000_000
TICKS_PER_SECOND = 10_000_000
#: The service's "no limit": P10675199DT2H48M5.4775807S.
UNLIMITED = 2**63 - 1
TICKS_PER_DAY = 86_400 * TICKS_PER_SECOND
#: A task's files are kept this long when nothing else was asked.
WEEK = 7 * TICKS_PER_DAY

_DURATION = re.compile(
    r"P(?:(\d+)Y)?(?:(\d+)M)?(?:(\d+)W)?(?:(\d+)D)?(?:T(?:(\d+)H)?(?:(\d+)M)?(?:(\d+)(?:\.(\d+))?S)?)?\Z"
)
_TIME = re.compile(r"(\d{4}-\d\d-\d\d)(?:[Tt ](\d\d:\d\d:\d\d)(?:\.(\d+))?)?(Z|z|[+-]\d\d:?\d\d)?\Z")

_latest = 0


def now() -> int:
    """The time in ticks. Never the same twice: two changes of one entity always have two entity tags."""
    global _latest  # noqa: PLW0603 - the last tick handed out is the state this function is about
    ticks = from_nanoseconds(time.time_ns())
    _latest = ticks if ticks > _latest else _latest + 1
    return _latest


@lru_cache(maxsize=512)
def _second(seconds: int) -> str:
    return (datetime(1970, 1, 1) + timedelta(seconds=seconds)).isoformat()  # noqa: DTZ001 - the zone is written behind


def format_ticks(ticks: int) -> str:
    """``2023-09-07T07:17:50.1292774Z``: up to seven digits, trailing zeros dropped. OverflowError beyond year 9999."""
    seconds, fraction = divmod(ticks - UNIX_EPOCH, TICKS_PER_SECOND)
    if not fraction:
        return _second(seconds) + "Z"
    return f"{_second(seconds)}.{fraction:07d}".rstrip("0") + "Z"


def parse_time(text: str) -> int:
    """ISO 8601 time to ticks; without a zone it is UTC. Raises ValueError."""
    match = _TIME.match(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not a time")
    day, clock, fraction, zone = match.groups()
    zone = "+00:00" if zone in {None, "Z", "z"} else f"{zone[:3]}:{zone[-2:]}"
    moment = datetime.fromisoformat(f"{day}T{clock or '00:00:00'}{zone}")
    ticks = int(moment.timestamp()) * TICKS_PER_SECOND + UNIX_EPOCH
    return ticks + int(((fraction or "") + "0000000")[:7])


def from_unix(seconds: float) -> int:
    """Seconds since 1970 as ticks."""
    return int(seconds * TICKS_PER_SECOND) + UNIX_EPOCH


def from_nanoseconds(nanoseconds: int) -> int:
    """Nanoseconds since 1970 as ticks."""
    return nanoseconds // 100 + UNIX_EPOCH


def to_unix(ticks: int) -> float:
    """Ticks as seconds since 1970."""
    return (ticks - UNIX_EPOCH) / TICKS_PER_SECOND


def to_datetime(ticks: int) -> datetime:
    """Ticks as an aware UTC datetime."""
    return datetime.fromtimestamp(to_unix(ticks), timezone.utc)


def from_datetime(moment: datetime) -> int:
    """A datetime (naive means UTC) as ticks."""
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=timezone.utc)
    return from_unix(moment.timestamp())


def etag(ticks: int) -> str:
    """The unquoted entity tag of something last modified then."""
    return f"0x{ticks:X}"


@lru_cache(maxsize=512)
def _http_second(seconds: int) -> str:
    return format_datetime(datetime.fromtimestamp(seconds, timezone.utc), usegmt=True)


def http_date(ticks: int) -> str:
    """RFC 1123 date, truncated to the second."""
    return _http_second((ticks - UNIX_EPOCH) // TICKS_PER_SECOND)


@lru_cache(maxsize=64)
def parse_http_date(text: str) -> int:
    """Ticks of an RFC 1123 date. Raises ValueError. Cached: many requests carry the date of the same second."""
    try:
        moment = parsedate_to_datetime(text)
    except (TypeError, IndexError) as error:
        raise ValueError(f"{text!r} is not a date") from error
    return from_datetime(moment)


def parse_duration(text: str) -> int:
    """ISO 8601 duration in ticks; years have 365 days and months 30, as in the service. Raises ValueError."""
    match = _DURATION.match(text.strip())
    # azure-batch 15 writes a zero duration as "P".
    if match is None or (not any(match.groups()) and text.strip() != "P"):
        raise ValueError(f"{text!r} is not an ISO 8601 duration")
    years, months, weeks, days, hours, minutes, seconds = (int(part or 0) for part in match.groups()[:7])
    total_days = years * 365 + months * 30 + weeks * 7 + days
    total = ((total_days * 24 + hours) * 60 + minutes) * 60 + seconds
    ticks = total * TICKS_PER_SECOND + int(((match.group(8) or "") + "0000000")[:7])
    if ticks > UNLIMITED:
        raise ValueError(f"{text!r} is longer than the service can hold")
    return ticks


def format_duration(ticks: int) -> str:
    """Normalised: the largest parts first, zero parts left out (``PT1H``, ``P7D``, ``P1279DT12H30M5S``)."""
    seconds, fraction = divmod(ticks, TICKS_PER_SECOND)
    days, seconds = divmod(seconds, 86_400)
    hours, seconds = divmod(seconds, 3600)
    minutes, seconds = divmod(seconds, 60)
    date = f"P{days}D" if days else "P"
    clock = (f"{hours}H" if hours else "") + (f"{minutes}M" if minutes else "")
    if seconds or fraction:
        tail = f".{fraction:07d}".rstrip("0") if fraction else ""
        clock += f"{seconds}{tail}S"
    if clock:
        return f"{date}T{clock}"
    return date if days else "PT0S"
