"""A span for each attempt, when OpenTelemetry's API is installed; nothing otherwise."""

from __future__ import annotations

import contextlib
from contextlib import AbstractContextManager
from types import ModuleType
from typing import Any


def _api() -> ModuleType | None:
    try:
        from opentelemetry import trace
    except ModuleNotFoundError:
        return None
    return trace


_trace: Any = _api()
_NOTHING: AbstractContextManager[None] = contextlib.nullcontext()


def span(id_: str, endpoint: str, attempt: int) -> AbstractContextManager[Any]:
    """Spans one attempt to get an answer from ``endpoint``."""
    if _trace is None:
        return _NOTHING
    attributes = {"messaging.message.id": id_, "server.address": endpoint, "azbatchwrap.attempt": attempt}
    tracer = _trace.get_tracer("azbatchwrap.processor")
    started: AbstractContextManager[Any] = tracer.start_as_current_span("inference request", attributes=attributes)
    return started


def current_traceparent() -> str | None:
    """The traceparent header for the current span; ``None`` when nobody traces."""
    if _trace is None:
        return None
    context = _trace.get_current_span().get_span_context()
    if not context.is_valid:
        return None
    return f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags):02x}"
