"""`/metrics`: figures for Prometheus, of all hosts, from what they announce in Redis."""

from __future__ import annotations

import hmac
from collections.abc import Iterable, Iterator
from itertools import accumulate

from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.utils.translation import gettext as _
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, generate_latest
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from redis.asyncio import Redis
from redis.exceptions import RedisError

from chatsite.dispatch.queue import PREFIX
from chatsite.inference import status
from chatsite.inference.latency import BOUNDS

_LOOPBACK = {"127.0.0.1", "::1"}
_TIMEOUT_SECONDS = 3.0
_Family = CounterMetricFamily | GaugeMetricFamily
_MODEL = ("host", "model")

# Name, what it is, and where it stands in `engine.messages.Stats`.
_COUNTERS = (
    ("engine_steps", "Steps computed", "steps"),
    ("engine_step_seconds", "Time in steps", "step_seconds"),
    ("engine_prefilled_tokens", "Prompt tokens computed", "prefilled"),
    ("engine_cached_tokens", "Prompt tokens taken from a cache", "cached"),
    ("engine_decoded_tokens", "Answer tokens drawn", "decoded"),
    ("engine_drafted_tokens", "Tokens guessed ahead", "drafted"),
    ("engine_accepted_tokens", "Guessed tokens that were right", "accepted"),
    ("engine_own_cpu_seconds", "Processor time of the engine beside its model", "own_seconds"),
    ("engine_restored_sequences", "Conversations read back from RAM", "restored"),
)
_GAUGES = (
    ("engine_running", "Answers being written", "running"),
    ("engine_waiting", "Requests without a slot", "waiting"),
    ("engine_saved_bytes", "Conversations kept in RAM", "saved_bytes"),
)
_MEMORY = (
    ("memory_bytes", "Memory of the machine, or of the part that is ours", "total"),
    ("memory_available_bytes", "What is left of it", "available"),
    ("memory_budget_bytes", "What models may take of it", "budget"),
    ("memory_promised_bytes", "What is promised to models", "committed"),
)


_DEVICE = (
    ("device_memory_bytes", "Memory of a graphics processor", "total"),
    ("device_memory_available_bytes", "What was left of it when it was asked", "free"),
    ("device_memory_promised_bytes", "What is promised to models", "promised"),
)
_STAGES = (
    ("queue", "Waits for a slot"),
    ("prefill", "From the slot to the first token"),
    ("decode", "From the first token to the last"),
    ("first_text", "From the request to its first text"),
)


@never_cache
@require_safe
async def metrics(request: HttpRequest) -> HttpResponse:
    if not _may_read(request):
        return HttpResponse(
            _("Send the token of CHATSITE_METRICS_TOKEN as `Authorization: Bearer …`.\n"),
            content_type="text/plain; charset=utf-8",
            status=403,
        )
    try:
        async with Redis.from_url(settings.REDIS_URL, socket_timeout=_TIMEOUT_SECONDS) as redis:
            hosts = await status.alive(redis)
            names = sorted({model.name for host in hosts for model in host.models})
            async with redis.pipeline(transaction=False) as pipe:
                for name in names:
                    pipe.zcard(f"{PREFIX}queue:{name}")
                waiting = dict(zip(names, await pipe.execute(), strict=True))
    except (RedisError, OSError):
        return HttpResponse(_("Redis does not answer.\n"), content_type="text/plain", status=503)
    registry = CollectorRegistry()
    registry.register(_Collector(hosts, waiting))
    return HttpResponse(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)


def _may_read(request: HttpRequest) -> bool:
    """By token; without one set, only from this machine and not through a proxy."""
    token = settings.ENV.metrics_token
    if not token:
        direct = "HTTP_X_FORWARDED_FOR" not in request.META
        return direct and request.META.get("REMOTE_ADDR") in _LOOPBACK
    sent = request.headers.get("Authorization", "").removeprefix("Bearer ")
    return hmac.compare_digest(sent.encode(), token.encode())


class _Collector:
    def __init__(self, hosts: list[status.HostStatus], waiting: dict[str, int]) -> None:
        self._hosts = hosts
        self._waiting = waiting

    def collect(self) -> Iterator[Metric]:
        yield GaugeMetricFamily("chatsite_hosts", "Inference hosts alive", value=len(self._hosts))
        line = GaugeMetricFamily(
            "chatsite_queue_waiting", "Requests in the waiting line", labels=("model",)
        )
        for model, count in self._waiting.items():
            line.add_metric((model,), count)
        yield line
        yield from self._of_memory()
        yield from self._of_devices()
        yield from self._of_models()

    def _of_memory(self) -> Iterator[Metric]:
        for name, text, field in _MEMORY:
            gauge = GaugeMetricFamily(f"chatsite_{name}", text, labels=("host",))
            for host in self._hosts:
                if host.memory is not None:
                    gauge.add_metric((host.id,), getattr(host.memory, field))
            yield gauge

    def _of_models(self) -> Iterator[Metric]:
        for name, text, field in (
            ("slots", "Answers that can be written at once", "slots"),
            ("slots_busy", "Slots in use", "busy"),
            ("engine_resident_bytes", "Memory of the engine when it was loaded", "rss_bytes"),
            ("engine_promised_bytes", "Memory that the engine may take", "promised_bytes"),
        ):
            gauge = GaugeMetricFamily(f"chatsite_{name}", text, labels=_MODEL)
            for labels, model in self._models():
                gauge.add_metric(labels, getattr(model, field))
            yield gauge
        for name, text, field in _COUNTERS:
            yield self._of_stats(
                CounterMetricFamily(f"chatsite_{name}", text, labels=_MODEL), field
            )
        for name, text, field in _GAUGES:
            yield self._of_stats(GaugeMetricFamily(f"chatsite_{name}", text, labels=_MODEL), field)
        yield from self._of_requests()

    def _of_requests(self) -> Iterator[Metric]:
        for stage, text in _STAGES:
            family = HistogramMetricFamily(f"chatsite_request_{stage}_seconds", text, labels=_MODEL)
            for labels, model in self._models():
                if found := model.latency.get(stage):
                    counts = list(accumulate(found.counts))
                    bounds = [*map(str, BOUNDS), "+Inf"]
                    buckets = list(zip(bounds, counts, strict=True))
                    family.add_metric(labels, buckets, found.sum)
            yield family

    def _of_devices(self) -> Iterator[Metric]:
        for name, text, field in _DEVICE:
            gauge = GaugeMetricFamily(f"chatsite_{name}", text, labels=("host", "device"))
            for host in self._hosts:
                for device in host.devices:
                    gauge.add_metric((host.id, device.name), getattr(device, field))
            yield gauge

    def _of_stats(self, metric: _Family, field: str) -> _Family:
        for labels, model in self._models():
            if model.stats is not None:
                metric.add_metric(labels, getattr(model.stats, field))
        return metric

    def _models(self) -> Iterable[tuple[tuple[str, str], status.ModelStatus]]:
        return [((host.id, model.name), model) for host in self._hosts for model in host.models]
