"""What tests share: a real Redis, and the starter model."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from redis.asyncio import Redis

from tests.support.redis import private_redis

pytest_plugins = ["tests.support.stacks"]


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Who asks for a running product is marked so: it has a database of its own, and needs no
    second run on PostgreSQL."""
    for item in items:
        if {"stack", "scripted_stack"} & set(getattr(item, "fixturenames", ())):
            item.add_marker("stack")


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """The address of a real Redis that this test run owns; `settings.REDIS_URL` names it."""
    url = os.environ["CHATSITE_REDIS_URL"]
    with private_redis(Path(url.removeprefix("unix://"))):
        yield url


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    """A client of that Redis, which is empty at the start of each test."""
    client = Redis.from_url(redis_url)
    await client.flushdb()
    yield client
    await client.aclose()


@pytest.fixture(scope="session")
def starter_model() -> Path:
    """A small real model; `make test` fetches it and names it."""
    path = os.environ.get("CHATSITE_TEST_MODEL")
    if not path:
        pytest.skip("CHATSITE_TEST_MODEL names no GGUF file; `make test` sets it")
    return Path(path)
