"""`/metrics`: Prometheus metrics of all hosts, from what they announce in Redis, and usage.

Usage comes from the statistics in the database, so its counters survive restarts. Without the
database they are left out.
"""

from __future__ import annotations

import asyncio
import hmac
import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any

from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import Error
from django.db.models import Sum
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
from redis.exceptions import RedisError

from chatsite.answers.queue.queue import Queue
from chatsite.answers.queue.request import PROBE_MODEL
from chatsite.conversations.models import Generation
from chatsite.feedback import summary
from chatsite.feedback.summary import OfModel
from chatsite.hosts import status
from chatsite.hosts.latency import BOUNDS
from chatsite.redis_client import PATIENCE_SECONDS, connect_briefly
from chatsite.usage.figures import OUTCOMES
from chatsite.usage.models import DayCell, Scope

log = logging.getLogger(__name__)

_LOOPBACK = {"127.0.0.1", "::1"}
_Family = CounterMetricFamily | GaugeMetricFamily
_MODEL = ("host", "model")

# Name, help text, and field of `engine.contract.messages.Stats`.
_COUNTERS = (
    ("engine_steps", "Steps computed", "steps"),
    ("engine_step_seconds", "Time in steps", "step_seconds"),
    ("engine_prefilled_tokens", "Prompt tokens computed", "prefilled"),
    ("engine_cached_tokens", "Prompt tokens reused from a cache", "cached"),
    ("engine_decoded_tokens", "Answer tokens generated", "decoded"),
    ("engine_drafted_tokens", "Draft tokens proposed", "drafted"),
    ("engine_accepted_tokens", "Draft tokens accepted", "accepted"),
    ("engine_own_cpu_seconds", "CPU time of the engine outside of the model", "own_seconds"),
    ("engine_restored_sequences", "Conversations restored from the RAM cache", "restored"),
)
# Fields of the usage statistics, and their label.
_TOKENS = {
    "prompt_tokens": "prompt",
    "cached_tokens": "cached",
    "completion_tokens": "output",
}
# Fields of `DayCell` whose sums `UsageCollector` needs.
SUMMED = (*OUTCOMES, *_TOKENS)
_GAUGES = (
    ("engine_running", "Answers being generated", "running"),
    ("engine_waiting", "Requests without a slot", "waiting"),
    ("engine_saved_bytes", "Size of the RAM cache of conversations", "saved_bytes"),
)
_MEMORY = (
    ("memory_bytes", "Memory of the machine, or limit of the control group", "total"),
    ("memory_available_bytes", "Available memory", "available"),
    ("memory_budget_bytes", "Memory that all models may use", "budget"),
    ("memory_promised_bytes", "Memory reserved for models", "committed"),
)


_DEVICE = (
    ("device_memory_bytes", "Memory of a GPU", "total"),
    ("device_memory_available_bytes", "Available memory of a GPU when it was last queried", "free"),
    ("device_memory_promised_bytes", "Memory reserved for models", "promised"),
)
_STAGES = (
    ("queue", "Waiting time until a slot is free"),
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
        async with (
            asyncio.timeout(PATIENCE_SECONDS),
            connect_briefly() as redis,
        ):
            hosts, queue = await status.alive(redis), Queue(redis)
            # Includes models that no host reports: alerts must fire if all hosts are down.
            names = {model.name for host in hosts for model in host.models}
            names.update(await queue.models())
            names.discard(PROBE_MODEL)
            waiting = await queue.depths(sorted(names))
    except (RedisError, OSError, TimeoutError):
        return HttpResponse(_("Redis is not responding.\n"), content_type="text/plain", status=503)
    registry = CollectorRegistry()
    registry.register(Collector(hosts, waiting))
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            registry.register(UsageCollector(*await read_usage()))
    except (Error, TimeoutError) as error:
        log.warning("Metrics lack usage", extra={"error": error})
    return HttpResponse(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)


@sync_to_async
def read_usage() -> tuple[Sequence[Mapping[str, Any]], list[OfModel], int]:
    """Return sums by model and door, ratings by model, and requests that are not counted yet."""
    sums = {f"sum_{name}": Sum(name) for name in SUMMED}
    found = DayCell.objects.filter(scope=Scope.ALL).order_by()
    used = list(found.values("model", "door").annotate(**sums))
    return used, summary.by_model(), Generation.objects.uncounted().count()


def _may_read(request: HttpRequest) -> bool:
    """Whether the token is right; without a configured one only direct loopback requests."""
    token = settings.ENV.metrics_token
    if not token:
        direct = "HTTP_X_FORWARDED_FOR" not in request.META
        return direct and request.META.get("REMOTE_ADDR") in _LOOPBACK
    sent = request.headers.get("Authorization", "").removeprefix("Bearer ")
    return hmac.compare_digest(sent.encode(), token.encode())


class UsageCollector:
    def __init__(
        self, used: Sequence[Mapping[str, Any]], ratings: list[OfModel], uncounted: int
    ) -> None:
        self._used = used
        self._ratings = ratings
        self._uncounted = uncounted

    def collect(self) -> Iterator[Metric]:
        requests = CounterMetricFamily(
            "chatsite_usage_requests",
            "Ended requests in the usage statistics",
            labels=("model", "door", "outcome"),
        )
        tokens = CounterMetricFamily(
            "chatsite_usage_tokens",
            "Tokens in the usage statistics; cached ones are prompt tokens too",
            labels=("model", "door", "kind"),
        )
        for row in self._used:
            for outcome in OUTCOMES:
                requests.add_metric((row["model"], row["door"], outcome), row[f"sum_{outcome}"])
            for name, kind in _TOKENS.items():
                tokens.add_metric((row["model"], row["door"], kind), row[f"sum_{name}"])
        yield requests
        yield tokens
        ratings = GaugeMetricFamily(
            "chatsite_ratings", "Ratings of answers by users", labels=("model", "vote")
        )
        for one in self._ratings:
            ratings.add_metric((one.model, "up"), one.up)
            ratings.add_metric((one.model, "down"), one.down)
        yield ratings
        yield GaugeMetricFamily(
            "chatsite_usage_uncounted",
            "Ended requests that the usage statistics lack; grows if Celery is down",
            value=self._uncounted,
        )


class Collector:
    def __init__(self, hosts: list[status.HostStatus], waiting: dict[str, int]) -> None:
        self._hosts = hosts
        self._waiting = waiting

    def collect(self) -> Iterator[Metric]:
        yield GaugeMetricFamily("chatsite_hosts", "Inference hosts alive", value=len(self._hosts))
        line = GaugeMetricFamily("chatsite_queue_waiting", "Queued requests", labels=("model",))
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
            ("slots", "Concurrent answers that are possible", "slots"),
            ("slots_busy", "Slots in use", "busy"),
            ("engine_resident_bytes", "Memory of the engine when it was loaded", "rss_bytes"),
            ("engine_promised_bytes", "Memory reserved for the engine", "promised_bytes"),
        ):
            gauge = GaugeMetricFamily(f"chatsite_{name}", text, labels=_MODEL)
            for labels, model in self._models():
                gauge.add_metric(labels, getattr(model, field))
            yield gauge
        empty = CounterMetricFamily(
            "chatsite_empty_answers", "Answers that ended without any text", labels=_MODEL
        )
        for labels, model in self._models():
            empty.add_metric(labels, model.empty_answers)
        yield empty
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
