"""`/healthz` with its dependencies up and down."""

import asyncio
import json
import resource

import pytest
from asgiref.sync import sync_to_async
from django.db import connections
from django.http import HttpResponse
from redis.asyncio import Redis

from chatsite.answers.queue.queue import Queue
from chatsite.answers.queue.request import PROBE_MODEL
from chatsite.hosts import status as hosts
from chatsite.inference.request_finisher import RequestFinisher
from chatsite.json_api import json_api
from chatsite.stream.publish import Publisher
from chatsite.tasks import answer_probe
from chatsite.web import health
from chatsite.web.error_pages import server_error
from models_admin import catalogue
from models_admin.models import ModelName, ModelVersion

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
async def _connections():
    """Close the connections of the view's thread, which would outlive the test."""
    yield
    await sync_to_async(connections.close_all)()


@pytest.fixture(autouse=True)
def _no_audit_events(settings, tmp_path):
    """Nothing drains the spool of the test run."""
    settings.DATA_DIR = tmp_path


@pytest.fixture
def model():
    version = ModelVersion.objects.create(digest="a" * 64, size=1)
    return ModelName.objects.create(name="tiny:latest", version=version)


@pytest.fixture
async def host(redis_url):
    async with Redis.from_url(redis_url) as redis:
        await hosts.announce(redis, hosts.HostStatus("health", "box", 1))
        yield
        await hosts.withdraw(redis, "health")


async def ask(async_client):
    response = await async_client.get("/healthz")
    return response.status_code, response.json()


@pytest.mark.usefixtures("model", "host")
async def test_all_is_well(async_client):
    assert await ask(async_client) == (200, {"status": "ok", "models": 1, "hosts": 1})


@pytest.mark.usefixtures("host")
async def test_without_a_model_it_is_up_and_reports_that(async_client):
    assert await ask(async_client) == (200, {"status": "no_model", "models": 0, "hosts": 1})


@pytest.mark.usefixtures("model", "redis_url")
async def test_without_a_host_it_is_down(async_client):
    expected = {"status": "unavailable", "missing": ["inference"]}
    assert await ask(async_client) == (503, expected)


@pytest.mark.usefixtures("model")
async def test_without_redis_it_is_down(async_client, settings):
    settings.REDIS_URL = "unix:///nowhere/redis.sock"
    expected = {"status": "unavailable", "missing": ["redis"]}
    assert await ask(async_client) == (503, expected)


@pytest.mark.usefixtures("host")
async def test_without_a_database_it_is_down(async_client, monkeypatch):
    def fail():
        raise OSError("password=hunter2")

    monkeypatch.setattr(catalogue, "offered", fail)
    expected = {"status": "unavailable", "missing": ["database"]}
    assert await ask(async_client) == (503, expected)


@pytest.mark.usefixtures("model", "host")
async def test_low_with_a_full_disk_it_is_down(async_client):
    """A file size limit stands in for the disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))
    try:
        answer = await ask(async_client)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert answer == (503, {"status": "unavailable", "missing": ["disk"]})


@pytest.mark.parametrize(("error", "status"), [(OSError(28, "full"), 507), (OSError(5, "io"), 500)])
async def test_low_json_and_pages_say_that_the_disk_is_full(
    rf, error, status, django_user_model, monkeypatch
):
    async def fails(request, user):
        raise error

    request = rf.get("/x")
    alice = django_user_model(username="alice")
    monkeypatch.setattr(request, "auser", lambda: asyncio.sleep(0, alice), raising=False)
    answer = await json_api(fails)(request)
    assert isinstance(answer, HttpResponse)
    assert answer["Content-Type"] == "application/json"
    expected = "storage_full" if status == 507 else "error"
    assert (answer.status_code, json.loads(answer.content)["error"]["code"]) == (status, expected)
    try:
        raise error
    except OSError:
        page = server_error(request)
    assert page.status_code == status
    assert ("disk is full" in page.content.decode()) == (status == 507)


@pytest.mark.parametrize("path", ["/healthz", "/healthz/live", "/healthz/queue"])
async def test_it_is_only_read(async_client, path):
    assert (await async_client.post(path)).status_code == 405


async def ask_part(async_client, name):
    response = await async_client.get(f"/healthz/{name}")
    return response.status_code, {**response.json(), "ms": 0}


def missing(name):
    return 503, {"status": "unavailable", "missing": [name], "ms": 0}


FINE = (200, {"status": "ok", "ms": 0})


@pytest.fixture(autouse=True)
def _fresh_probes(monkeypatch):
    """Each test sends its own probes, and waits briefly for those that nobody answers."""
    for name in ("queue", "celery"):
        _restart_probe(monkeypatch, name)
    monkeypatch.setattr(health, "PATIENCE_SECONDS", 0.5)


@pytest.mark.usefixtures("redis_url")
async def test_a_web_server_is_ready_without_any_host(async_client):
    assert await ask_part(async_client, "ready") == FINE
    assert await ask_part(async_client, "inference") == missing("inference")


async def test_it_is_live_though_nothing_else_works(async_client, settings):
    settings.REDIS_URL = "unix:///nowhere/redis.sock"
    assert await ask_part(async_client, "live") == FINE
    assert await ask_part(async_client, "ready") == missing("redis")
    assert await ask_part(async_client, "queue") == missing("queue")


@pytest.mark.usefixtures("host")
@pytest.mark.parametrize("name", ["database", "redis", "disk", "inference", "audit"])
async def test_each_part_has_a_check_of_its_own(async_client, name):
    assert await ask_part(async_client, name) == FINE


async def test_an_unknown_part_lists_those_that_exist(async_client):
    status, answer = await ask_part(async_client, "kitchen")
    assert status == 404
    assert {"live", "ready", "queue", "celery"} < set(answer["parts"])


async def test_a_job_goes_through_the_queue_and_a_host(async_client, redis_url):
    async with Redis.from_url(redis_url) as redis:
        queue = Queue(redis)
        finisher = RequestFinisher("health", queue, Publisher(redis, ended_ttl_seconds=60))

        async def serve():
            while PROBE_MODEL not in await queue.models():
                await asyncio.sleep(0.01)
            await finisher.answer_probes()

        serving = asyncio.create_task(serve())
        assert await ask_part(async_client, "queue") == FINE
        await serving
        # Its result is shared for some seconds: no second job.
        assert await ask_part(async_client, "queue") == FINE
        assert await queue.depths([PROBE_MODEL]) == {PROBE_MODEL: 0}


async def test_a_job_that_no_host_takes_leaves_nothing_behind(async_client, redis_url):
    assert await ask_part(async_client, "queue") == missing("queue")
    async with Redis.from_url(redis_url) as redis:
        assert await Queue(redis).depths([PROBE_MODEL]) == {PROBE_MODEL: 0}
        assert not await redis.keys("*open:0")


async def test_a_task_goes_through_celery(async_client, redis_url, settings, monkeypatch):
    settings.REDIS_URL = redis_url
    sent = []

    def work(args, **options):
        sent.append(options)
        answer_probe.run(*args)

    monkeypatch.setattr(answer_probe, "apply_async", work)
    assert await ask_part(async_client, "celery") == FINE
    assert sent[0]["expires"]  # a worker that was down must not run old probes
    monkeypatch.setattr(answer_probe, "apply_async", lambda *_, **__: None)
    _restart_probe(monkeypatch, "celery")
    assert await ask_part(async_client, "celery") == missing("celery")


def _restart_probe(monkeypatch, name):
    shared = health.CHECKS[name]
    assert isinstance(shared, health.SharedCheck)
    monkeypatch.setitem(health.CHECKS, name, health.SharedCheck(shared.check))
