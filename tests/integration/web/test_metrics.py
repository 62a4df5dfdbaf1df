"""`/metrics`: its contents, and who may read them."""

import pytest
from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import OperationalError
from django.test import AsyncRequestFactory
from prometheus_client.parser import text_string_to_metric_families
from redis.asyncio import Redis

from chatsite.accounts.models import User
from chatsite.answers.queue.queue import Queue
from chatsite.answers.queue.request import QueuedRequest
from chatsite.conversations.models import Generation
from chatsite.engine.contract.messages import Stats, Usage
from chatsite.feedback.models import Feedback
from chatsite.hosts import status
from chatsite.hosts.latency import Latency
from chatsite.usage import rollup
from chatsite.web.metrics import metrics

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
async def host(redis_url):
    stats = Stats(steps=7, step_seconds=1.5, prefilled=100, decoded=40, cached=60, accepted=5)
    latency = Latency()
    for prefill, first in ((100.0, 150.0), (3000.0, None), (500_000.0, 500_000.0)):
        latency.add(Usage(1, 0, 1, 0.0, prefill, 40.0), first)
    model = status.ModelStatus(
        *("tiny:latest", "a" * 64, "ready"),
        slots=8,
        busy=2,
        stats=stats,
        latency=latency.histograms(),
    )
    device = status.HostDevice("GPU0", "a device", 10, 40, 30)
    memory = status.HostMemory(100, 50, 80, 30)
    loading = status.ModelStatus("other:latest", "b" * 64, "loading", progress=0.5)
    async with Redis.from_url(redis_url) as redis:
        await status.announce(
            redis, status.HostStatus("h1", "box", 1, (model, loading), memory, (device,))
        )
        await redis.zadd("cs:queue:tiny:latest", {"x": 1, "y": 2})
        yield
        await redis.delete("cs:queue:tiny:latest")
        await status.withdraw(redis, "h1")


def figures(response):
    return {
        (sample.name, sample.labels.get("model")): sample.value
        for family in text_string_to_metric_families(response.content.decode())
        for sample in family.samples
    }


async def test_counts_of_hosts_engines_and_the_queue(async_client, host):
    response = await async_client.get("/metrics")
    assert response.status_code == 200
    found = figures(response)
    assert found["chatsite_hosts", None] == 1
    assert found["chatsite_queue_waiting", "tiny:latest"] == 2
    assert found["chatsite_slots_busy", "tiny:latest"] == 2
    assert found["chatsite_engine_steps_total", "tiny:latest"] == 7
    assert found["chatsite_engine_step_seconds_total", "tiny:latest"] == 1.5
    assert found["chatsite_engine_cached_tokens_total", "tiny:latest"] == 60
    assert ("chatsite_engine_steps_total", "other:latest") not in found
    assert found["chatsite_memory_budget_bytes", None] == 80
    assert found["chatsite_device_memory_promised_bytes", None] == 30
    assert found["chatsite_request_prefill_seconds_count", "tiny:latest"] == 3
    assert found["chatsite_request_prefill_seconds_sum", "tiny:latest"] == 503.1
    assert found["chatsite_request_queue_seconds_sum", "tiny:latest"] == 0.05
    buckets = {
        sample.labels["le"]: sample.value
        for family in text_string_to_metric_families(response.content.decode())
        for sample in family.samples
        if sample.name == "chatsite_request_prefill_seconds_bucket"
    }
    assert (buckets["0.05"], buckets["0.1"], buckets["5.0"], buckets["120.0"]) == (0, 1, 2, 2)
    assert buckets["+Inf"] == 3
    assert found["chatsite_memory_promised_bytes", None] == 30


async def test_b2_the_queue_is_counted_without_a_host_and_for_unlisted_models(async_client, redis):
    queue = Queue(redis)
    for number in range(3):
        job = QueuedRequest(f"j{number}", "1", "lonely:latest", (), 0.0)
        await queue.submit(job, queue_max=10, person_max=10)
    found = figures(await async_client.get("/metrics"))
    assert found["chatsite_hosts", None] == 0
    assert found["chatsite_queue_waiting", "lonely:latest"] == 3


async def test_page_5_empty_answers_are_counted(async_client, redis):
    model = status.ModelStatus("tiny:latest", "a" * 64, "ready", empty_answers=4)
    await status.announce(redis, status.HostStatus("h1", "box", 1, (model,)))
    found = figures(await async_client.get("/metrics"))
    assert found["chatsite_empty_answers_total", "tiny:latest"] == 4
    await status.withdraw(redis, "h1")


def save_usage():
    alice = User.objects.create_user("alice")
    values = {"owner": alice, "model": "tiny:latest", "prompt_tokens": 30, "completion_tokens": 5}
    Generation.objects.create(state="done", cached_tokens=10, **values)
    Generation.objects.create(state="failed", via="ollama", **values)
    rollup.count_ended()
    Generation.objects.create(state="done", **values)
    Feedback.objects.create(owner=alice, model="tiny:latest", vote="up")


async def test_usage_and_ratings(async_client, redis):
    await sync_to_async(save_usage)()
    response = await async_client.get("/metrics")
    found = {
        (sample.name, *(value for _name, value in sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(response.content.decode())
        for sample in family.samples
    }
    requests = "chatsite_usage_requests_total"
    assert found[requests, "chat", "tiny:latest", "done"] == 1
    assert found[requests, "ollama", "tiny:latest", "failed"] == 1
    assert found["chatsite_usage_tokens_total", "chat", "cached", "tiny:latest"] == 10
    assert found["chatsite_usage_tokens_total", "chat", "prompt", "tiny:latest"] == 30
    assert found["chatsite_usage_uncounted",] == 1
    assert found["chatsite_ratings", "tiny:latest", "up"] == 1


async def test_without_the_database_hosts_are_still_shown(async_client, host, monkeypatch):
    async def fail():
        raise OperationalError("gone")

    monkeypatch.setattr("chatsite.web.metrics.read_usage", fail)
    found = figures(await async_client.get("/metrics"))
    assert found["chatsite_hosts", None] == 1
    assert not any(name.startswith("chatsite_usage") for name, _model in found)


async def test_without_a_token_only_this_machine_may_ask(async_client, redis_url):
    request = AsyncRequestFactory().get("/metrics")
    request.META["REMOTE_ADDR"] = "10.0.0.9"
    assert (await metrics(request)).status_code == 403
    forwarded = await async_client.get("/metrics", headers={"X-Forwarded-For": "10.0.0.9"})
    assert forwarded.status_code == 403
    assert "CHATSITE_METRICS_TOKEN" in forwarded.content.decode()


async def test_with_a_token_any_client_that_has_it_may(async_client, redis_url, monkeypatch):
    changed = settings.ENV.model_copy(update={"metrics_token": "secret"})
    monkeypatch.setattr(settings, "ENV", changed)
    assert (await async_client.get("/metrics")).status_code == 403
    wrong = await async_client.get("/metrics", headers={"Authorization": "Bearer other"})
    assert wrong.status_code == 403
    right = await async_client.get("/metrics", headers={"Authorization": "Bearer secret"})
    assert right.status_code == 200
    assert figures(right)["chatsite_hosts", None] == 0
