"""Spans of requests, with and without an OpenTelemetry collector."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter

from chatsite import tracing
from chatsite.answers.outcome import Outcome
from chatsite.answers.queue.request import QueuedRequest
from chatsite.conversations.models import GenerationState
from chatsite.engine.contract.messages import Usage
from chatsite.inference import answer_spans

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = f"00-{TRACE}-b7ad6b7169203331-01"


@pytest.fixture
def exported() -> Iterator[InMemorySpanExporter]:
    exporter = InMemorySpanExporter()
    tracing.start("test", "http://127.0.0.1:9/v1/traces", 1.0, exporter)
    yield exporter
    tracing.stop()


def finished(exporter: InMemorySpanExporter) -> dict[str, ReadableSpan]:
    tracing.stop()
    return {span.name: span for span in exporter.get_finished_spans()}


def attributes(span: ReadableSpan) -> dict[str, Any]:
    return dict(span.attributes or {})


def length(span: ReadableSpan) -> float:
    """Return how long a finished span took in seconds."""
    assert span.start_time is not None
    assert span.end_time is not None
    return (span.end_time - span.start_time) / 1e9


def test_without_a_collector_nothing_is_recorded_or_imported() -> None:
    code = (
        "import sys; from chatsite import tracing; tracing.start('web', '', 1.0)\n"
        "with tracing.span('x'): assert tracing.traceparent() == ''\n"
        "assert tracing.parent_of([(b'traceparent', b'x')]) == ''\n"
        "assert not [name for name in sys.modules if name.startswith('opentelemetry')]"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_a_request_continues_the_trace_of_its_client(exported: InMemorySpanExporter) -> None:
    parent = tracing.parent_of([(b"host", b"x"), (b"traceparent", PARENT.encode())])
    with tracing.span("POST api", parent=parent, attributes={"request_id": "req_1"}):
        assert tracing.traceparent().split("-")[1] == TRACE
    span = finished(exported)["POST api"]
    assert f"{span.context.trace_id:032x}" == TRACE
    assert attributes(span)["request_id"] == "req_1"


@pytest.mark.parametrize("header", [b"", b"nonsense", b"00-xyz-1-01", b"\xff" * 50])
def test_a_bad_parent_begins_a_trace_of_its_own(
    exported: InMemorySpanExporter, header: bytes
) -> None:
    parent = tracing.parent_of([(b"traceparent", header)])
    with tracing.span("GET page", parent=parent):
        assert TRACE not in tracing.traceparent()
    assert "GET page" in finished(exported)


def test_an_answer_has_a_span_for_each_stage(exported: InMemorySpanExporter) -> None:
    now = time.time()
    job = QueuedRequest("g1", "7", "tiny:1b", (), now - 3, request_id="req_1", traceparent=PARENT)
    running = SimpleNamespace(lease=SimpleNamespace(job=job, attempt=1), began=time.monotonic() - 2)
    usage = Usage(20, 5, 30, queue_ms=100, prefill_ms=400, decode_ms=1500)
    answer_spans.record(running, Outcome(GenerationState.DONE, usage=usage))  # type: ignore[arg-type]
    spans = finished(exported)
    assert set(spans) == {"answer", "queue", "engine queue", "prefill", "decode"}
    seconds = {name: length(span) for name, span in spans.items()}
    assert seconds["queue"] == pytest.approx(1, abs=0.1)
    assert seconds["prefill"] == pytest.approx(0.4, abs=1e-3)
    assert seconds["decode"] == pytest.approx(1.5, abs=1e-3)
    whole = spans["answer"]
    assert f"{whole.context.trace_id:032x}" == TRACE
    assert attributes(whole)["gen_ai.usage.output_tokens"] == 30
    for name in set(spans) - {"answer"}:
        parent = spans[name].parent
        assert parent is not None
        assert parent.span_id == whole.context.span_id


def test_an_answer_without_a_trace_has_no_spans(exported: InMemorySpanExporter) -> None:
    job = QueuedRequest("g1", "7", "tiny:1b", (), time.time())
    running = SimpleNamespace(lease=SimpleNamespace(job=job, attempt=1), began=time.monotonic())
    answer_spans.record(running, Outcome(GenerationState.DONE))  # type: ignore[arg-type]
    assert finished(exported) == {}
