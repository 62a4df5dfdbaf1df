"""OpenTelemetry spans of requests, if `CHATSITE_OTEL_ENDPOINT` names a collector.

Off by default: then nothing of OpenTelemetry is imported, and `span` does nothing. A request's span
travels with its job as a W3C ``traceparent``. The engine child, which has no network, knows nothing
of spans: the inference host records them at the end of an answer from the times that the child
measured, so tracing costs nothing per token.
"""

from __future__ import annotations

import atexit
from collections.abc import Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import SpanExporter
    from opentelemetry.trace import Tracer

# Attributes follow OpenTelemetry's conventions for generative AI where they have a name for it.
Attributes = Mapping[str, str | int | float]

_NOTHING: Final = nullcontext()
_HEADER: Final = "traceparent"
_tracer: Tracer | None = None
_provider: TracerProvider | None = None


@dataclass(frozen=True)
class Stage:
    """A part of an answer, in seconds since the epoch."""

    name: str
    began: float
    ended: float


def start(process: str, endpoint: str, share: float, exporter: SpanExporter | None = None) -> None:
    """Export the spans of this process to ``endpoint`` (OTLP over HTTP); nothing if it is empty.

    ``share`` of the requests that bring no ``traceparent`` of their own are traced.
    """
    global _tracer, _provider  # noqa: PLW0603  (one per process)
    if not endpoint:
        return
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
    from opentelemetry.sdk.resources import Resource
    from opentelemetry.sdk.trace import TracerProvider
    from opentelemetry.sdk.trace.export import BatchSpanProcessor
    from opentelemetry.sdk.trace.sampling import ParentBased, TraceIdRatioBased

    _provider = provider = TracerProvider(
        resource=Resource.create({"service.name": "chatsite", "process.role": process}),
        sampler=ParentBased(TraceIdRatioBased(share)),
    )
    # Spans leave from a thread; if the collector is down, they are dropped.
    provider.add_span_processor(BatchSpanProcessor(exporter or OTLPSpanExporter(endpoint)))
    atexit.register(stop)
    _tracer = provider.get_tracer("chatsite")


def stop() -> None:
    """Send what is left, and record nothing more."""
    global _tracer, _provider  # noqa: PLW0603
    _tracer = None
    if _provider is not None:
        provider, _provider = _provider, None
        provider.shutdown()


def span(
    name: str, *, parent: str = "", attributes: Attributes | None = None
) -> AbstractContextManager[Any]:
    """Return a context manager that records a span; tasks and threads of its block inherit it.

    ``parent`` is a ``traceparent``; without it the current span is the parent.
    """
    if _tracer is None:
        return _NOTHING
    return _tracer.start_as_current_span(
        name, context=_context(parent) if parent else None, attributes=attributes
    )


def traceparent() -> str:
    """Return the current span for another process; "" without tracing."""
    if _tracer is None:
        return ""
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier)
    return carrier.get(_HEADER, "")


def parent_of(headers: list[tuple[bytes, bytes]]) -> str:
    """Return the ``traceparent`` of a request; "" without tracing."""
    if _tracer is None:
        return ""
    found = (value for name, value in headers if name == _HEADER.encode())
    return next(found, b"").decode("latin-1")


def record(parent: str, whole: Stage, parts: list[Stage], attributes: Attributes) -> None:
    """Record a span that has ended, and its parts, below ``parent``."""
    if _tracer is None or not parent:
        return
    from opentelemetry import trace

    span = _tracer.start_span(
        whole.name, _context(parent), attributes=attributes, start_time=_ns(whole.began)
    )
    inside = trace.set_span_in_context(span)
    for part in parts:
        inner = _tracer.start_span(part.name, inside, start_time=_ns(part.began))
        inner.end(_ns(part.ended))
    span.end(_ns(whole.ended))


def _context(parent: str) -> Any:
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    return TraceContextTextMapPropagator().extract({_HEADER: parent})


def _ns(seconds: float) -> int:
    return int(seconds * 1e9)
