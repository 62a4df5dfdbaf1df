"""`/healthz` with its parts there and gone."""

import pytest
from asgiref.sync import sync_to_async
from django.db import connections
from redis.asyncio import Redis

from chatsite.inference import status
from models_admin import catalogue
from models_admin.models import ModelName, ModelVersion

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
async def _connections():
    """The view reads in a thread of its own, whose connection would outlive the test."""
    yield
    await sync_to_async(connections.close_all)()


@pytest.fixture
def model():
    version = ModelVersion.objects.create(digest="a" * 64, size=1)
    return ModelName.objects.create(name="tiny:latest", version=version)


@pytest.fixture
async def host(redis_url):
    async with Redis.from_url(redis_url) as redis:
        await status.announce(redis, status.HostStatus("health", "box", 1))
        yield
        await status.withdraw(redis, "health")


async def ask(async_client):
    response = await async_client.get("/healthz")
    return response.status_code, response.json()


@pytest.mark.usefixtures("model", "host")
async def test_all_is_well(async_client):
    assert await ask(async_client) == (200, {"status": "ok", "models": 1, "hosts": 1})


@pytest.mark.usefixtures("host")
async def test_without_a_model_it_is_up_but_says_so(async_client):
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


async def test_it_is_only_read(async_client):
    assert (await async_client.post("/healthz")).status_code == 405
