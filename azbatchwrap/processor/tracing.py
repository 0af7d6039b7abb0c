"""A span for each attempt, when OpenTelemetry is installed and set up; nothing otherwise."""

from __future__ import annotations

import contextlib
from contextlib import AbstractContextManager
from typing import Any

_NOTHING: AbstractContextManager[None] = contextlib.nullcontext()


class Tracing:
    """Spans of one sender. Whether anybody traces is found out once: OpenTelemetry must be set up before."""

    def __init__(self) -> None:
        self._trace: Any = None
        try:
            from opentelemetry import trace
        except ModuleNotFoundError:
            return
        if not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
            self._trace = trace

    def span(self, id_: str, endpoint: str, attempt: int) -> AbstractContextManager[Any]:
        """Spans one attempt to get an answer from ``endpoint``."""
        if self._trace is None:
            return _NOTHING
        attributes = {"messaging.message.id": id_, "server.address": endpoint, "azbatchwrap.attempt": attempt}
        tracer = self._trace.get_tracer("azbatchwrap.processor")
        started: AbstractContextManager[Any] = tracer.start_as_current_span("inference request", attributes=attributes)
        return started

    def parent(self) -> str | None:
        """The traceparent header for the current span; ``None`` when nobody traces."""
        if self._trace is None:
            return None
        context = self._trace.get_current_span().get_span_context()
        if not context.is_valid:
            return None
        return f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags):02x}"
