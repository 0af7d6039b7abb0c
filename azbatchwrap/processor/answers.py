"""What an answer of an endpoint means: for the request (done, again, never) and for the endpoint. No I/O here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum

import orjson

from azbatchwrap.backoff import parse_retry_after
from azbatchwrap.endpoints.limits import Outcome

#: Worth another attempt: time-outs, "too early", "slow down", and servers in trouble (529: overloaded, as some say it).
RETRIED_STATUSES = frozenset({408, 425, 429, 500, 502, 503, 504, 529})
#: Of these, the ones that turn a request away unread: no attempt of the request's own is used up.
REFUSING_STATUSES = frozenset({425, 429, 503, 529})
#: What is kept of an error's text (characters).
ERROR_LENGTH = 2_000


class Verdict(Enum):
    """What comes next for the request."""

    DONE = "done"
    RETRY = "retry"
    FINAL = "final"
    AUTHORIZE = "authorize"  # with a fresh token, once


@dataclass(frozen=True, slots=True)
class Answer:
    """One attempt's end. ``charged``: the endpoint may have worked on it; ``reason`` is a short word for metrics."""

    verdict: Verdict
    outcome: Outcome
    status: int | None = None
    payload: bytes = b""
    error: str = ""
    reason: str = ""
    charged: bool = True
    retry_after: float | None = None


def judge(status: int, headers: Mapping[str, str], body: bytes) -> Answer:
    """The meaning of a complete HTTP answer. Names of ``headers`` are in lower case."""
    if 200 <= status < 300:
        return _success(status, headers, body)
    error = f"HTTP {status}: {_text(body)}" if body else f"HTTP {status}"
    if status in RETRIED_STATUSES:
        wait = parse_retry_after(headers.get("retry-after"))
        refused = status in {429, 529} or (status == 503 and wait is not None)
        return Answer(
            Verdict.RETRY,
            Outcome.REFUSED if refused else Outcome.SERVED if status == 425 else Outcome.FAILED,
            status,
            error=error,
            reason=str(status),
            charged=status not in REFUSING_STATUSES,
            retry_after=wait,
        )
    verdict = Verdict.AUTHORIZE if status in {401, 403} else Verdict.FINAL
    # The endpoint's own words about the error, for those who want them as JSON.
    return Answer(verdict, Outcome.SERVED, status, body if _is_json(body) else b"", error, str(status))


def _is_json(body: bytes) -> bool:
    try:
        orjson.loads(body)
    except orjson.JSONDecodeError:
        return False
    return True


def _success(status: int, headers: Mapping[str, str], body: bytes) -> Answer:
    if not _is_json(body):
        kind = headers.get("content-type", "no content type")
        error = f"HTTP {status} with a body that is no JSON ({kind}): {_text(body)}"
        # A proxy's page, or half an answer: worth another attempt, but it counts.
        return Answer(Verdict.RETRY, Outcome.FAILED, status, error=error, reason="not-json")
    return Answer(Verdict.DONE, Outcome.SERVED, status, body)


def no_answer(text: str, reason: str, *, sent: bool, outcome: Outcome = Outcome.FAILED) -> Answer:
    """No complete HTTP answer. ``sent``: the request may have reached the endpoint."""
    return Answer(Verdict.RETRY, outcome, error=text[:ERROR_LENGTH], reason=reason, charged=sent)


def _text(body: bytes) -> str:
    text = body[: ERROR_LENGTH * 4].decode(errors="replace").strip()
    return text if len(text) <= ERROR_LENGTH else text[:ERROR_LENGTH] + "…"
