"""A span for each attempt, when OpenTelemetry is installed and set up; nothing otherwise."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from contextlib import AbstractContextManager
from typing import Any

from azbatchwrap.processor.answers import Answer, Verdict

_NOTHING: AbstractContextManager[None] = contextlib.nullcontext()


class Tracing:
    """Spans of one sender. Whether anybody traces is found out once: OpenTelemetry must be set up before."""

    def __init__(self) -> None:
        self._trace: Any = None
        try:
            from opentelemetry import trace
            from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator
        except ModuleNotFoundError:
            return
        if not isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
            self._trace = trace
            self._wire = TraceContextTextMapPropagator()

    def span(self, id_: str, url: str, attempt: int, headers: dict[str, str]) -> AbstractContextManager[Any]:
        """Spans one attempt: a child of the traceparent in ``headers``, which then names this span."""
        return _NOTHING if self._trace is None else self._started(id_, url, attempt, headers)

    @contextlib.contextmanager
    def _started(self, id_: str, url: str, attempt: int, headers: dict[str, str]) -> Iterator[Any]:
        tracer = self._trace.get_tracer("azbatchwrap.processor")
        attributes = {"messaging.message.id": id_, "url.full": url, "azbatchwrap.attempt": attempt}
        parent, kind = self._wire.extract(headers), self._trace.SpanKind.CLIENT
        with tracer.start_as_current_span("inference request", parent, kind=kind, attributes=attributes) as span:
            self._wire.inject(headers)
            yield span

    def note(self, span: Any, answer: Answer) -> None:
        """What came of the attempt."""
        if span is None:
            return
        if answer.status is not None:
            span.set_attribute("http.response.status_code", answer.status)
        if answer.verdict is not Verdict.DONE:
            span.set_attribute("error.type", answer.reason)
            span.set_status(self._trace.StatusCode.ERROR, answer.error)
