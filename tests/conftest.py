"""Shared by all tests: a real Redis, and the starter model."""

from __future__ import annotations

import gc
import math
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest
from django.core.management.commands import flush
from redis.asyncio import Redis

from chatsite.accounts import second_factor
from chatsite.policy import snapshot
from chatsite.site_settings import cache as site_settings_cache
from chatsite.site_settings import save as site_settings_save
from chatsite.site_settings import terms
from chatsite.site_settings.cache import Cache
from chatsite.stream.wire import Client
from models_admin.sources import egress
from tests.support.database import pristine
from tests.support.redis import private_redis

pytest_plugins = ["tests.support.stacks"]

# A busy machine must not fail a test.
hypothesis.settings.register_profile("chatsite", deadline=None)
hypothesis.settings.load_profile("chatsite")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--part", metavar="K/N", help="run only every N-th module, starting with the K-th"
    )


def _only_part(part: str, config: pytest.Config, items: list[pytest.Item]) -> None:
    number, count = map(int, part.split("/"))
    kept = set(sorted({item.path for item in items})[number - 1 :: count])
    config.hook.pytest_deselected(items=[item for item in items if item.path not in kept])
    items[:] = [item for item in items if item.path in kept]


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark tests by what they use: a running product, and the test run's database.

    Only the latter need a second run on PostgreSQL.
    """
    # A repetition of what failed already has few modules: a part of them may lack those.
    if (part := config.getoption("part")) and not config.getoption("lf"):
        _only_part(part, config, items)
    for item in items:
        fixtures = set(getattr(item, "fixturenames", ()))
        if {"stack", "scripted_stack"} & fixtures:
            item.add_marker("stack")
        if {"db", "transactional_db"} & fixtures or item.get_closest_marker("django_db"):
            item.add_marker("database")


def pytest_collection_finish() -> None:
    """Leave what is loaded by now out of garbage collections: it stays until the end."""
    gc.collect()
    gc.freeze()


@pytest.fixture(scope="session")
def django_db_setup(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    """Create the test database; restore it after tests that commit, which is faster than a flush.

    So each test finds what the migrations wrote, whichever ran before.
    """
    with django_db_blocker.unblock():
        kept = pristine()

    def restore(*_: object, **_options: object) -> list[str]:
        kept.restore()
        return []  # Nothing else to do for `flush`, by which Django ends these tests.

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(flush, "sql_flush", restore)
        yield
    kept.close()


@pytest.fixture(autouse=True)
def default_site_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    """Give each test the defaults; `site_settings.save.save` changes them for the test."""
    values = Cache(lifetime=math.inf)
    values.put({})
    for module in (site_settings_cache, site_settings_save):
        monkeypatch.setattr(module, "cache", values)


@pytest.fixture(autouse=True)
def policy_is_read_again() -> None:
    """Forget the cached policy: the database of another test has other rules."""
    snapshot.forget()


@pytest.fixture(autouse=True)
def acceptances_are_read_again() -> None:
    """Forget who accepted terms: IDs of users begin again in the database of another test."""
    terms.forget()


@pytest.fixture(autouse=True)
def hosts_are_not_trusted() -> None:
    """Forget the hosts whose files another test fetched."""
    egress.trust_no_hosts()


@pytest.fixture(autouse=True)
def required_second_factors_are_read_again() -> None:
    """Forget which groups require a second factor, as the database of another test has others."""
    second_factor.groups.forget()


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """Start a real Redis for this test run and yield its URL, also set as `settings.REDIS_URL`."""
    url = os.environ["CHATSITE_REDIS_URL"]
    with private_redis(Path(url.removeprefix("unix://"))):
        yield url


@pytest.fixture
async def redis(redis_url: str) -> AsyncIterator[Redis]:
    """Yield a client of that Redis, which is emptied before each test."""
    client = Client.from_url(redis_url)
    await client.flushdb()
    yield client
    await client.aclose()


@pytest.fixture(scope="session")
def embedding_model() -> Path:
    """Return the starter embedding model, which `make test` downloads and names."""
    path = os.environ.get("CHATSITE_TEST_EMBEDDING_MODEL")
    if not path:
        pytest.skip("CHATSITE_TEST_EMBEDDING_MODEL names no GGUF file; `make test` sets it")
    return Path(path)


@pytest.fixture(scope="session")
def starter_model() -> Path:
    """Return a small real model, which `make test` downloads and names."""
    path = os.environ.get("CHATSITE_TEST_MODEL")
    if not path:
        pytest.skip("CHATSITE_TEST_MODEL names no GGUF file; `make test` sets it")
    return Path(path)
