"""A Redis of one's own with password and TLS, also behind Sentinels, for every kind of client."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core.cache.backends.redis import RedisCache
from kombu import Connection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import RedisError

from chatsite import broker, redis_client
from chatsite.env import Environment
from chatsite.stream.wire import Client, Wire
from chatsite.supervisor import probes
from chatsite.web.channel_layer import ChannelLayer
from tests.support import redis_servers
from tests.support.redis_servers import Replicated, Server
from tests.support.tls import Certificate, certificate

pytestmark = pytest.mark.filterwarnings("ignore::ResourceWarning")


@pytest.fixture(autouse=True)
def connections_are_collected() -> Iterator[None]:
    """Collect connections of ended servers here, not during a later test that they would fail."""
    yield
    gc.collect()


@pytest.fixture(scope="module")
def pem(tmp_path_factory: pytest.TempPathFactory) -> Certificate:
    return certificate(tmp_path_factory.mktemp("pem"))


@pytest.fixture
def server(tmp_path: Path, pem: Certificate) -> Iterator[Server]:
    with redis_servers.tls_server(tmp_path, pem) as found:
        yield found


@pytest.fixture
def replicated(tmp_path: Path, pem: Certificate) -> Iterator[Replicated]:
    with redis_servers.replicated(tmp_path, pem) as found:
        yield found


def used(settings: Any, **given: Any) -> Environment:
    """Make the settings those of ``given``."""
    environment = Environment(data_dir=settings.DATA_DIR, **given)
    settings.ENV, settings.REDIS_URL = environment, environment.effective_redis_url
    return environment


def with_sentinels(settings: Any, servers: Replicated) -> Environment:
    return used(
        settings,
        redis_url=servers.url,
        redis_sentinels=f"127.0.0.1:{servers.sentinel_port}",
        redis_sentinel_password=redis_servers.SENTINEL_PASSWORD,
    )


async def try_all(environment: Environment) -> None:
    """Write and read through every kind of client that the product has."""
    url = environment.effective_redis_url
    async with redis_client.connect() as redis:
        await redis.set("a", "1")
        assert await Wire(redis).ask(("GET", "a")) == [b"1"]
    with redis_client.connect_blocking() as blocking:
        assert blocking.get("a") == b"1"
    probes.check_external_redis(url)
    assert await probes.redis_url_answers(url)
    layer = ChannelLayer(hosts=[{"address": url, "socket_timeout": None}])
    await layer.send("one", {"type": "hint"})
    assert await layer.receive("one") == {"type": "hint"}
    await layer.close_pools()
    options = {}
    if environment.redis_sentinels:
        options["pool_class"] = "chatsite.redis_sentinel.BlockingPool"
    cache = RedisCache(url, {"OPTIONS": options})
    cache.set("key", "value")
    assert cache.get("key") == "value"
    await asyncio.to_thread(ring, environment)


def ring(environment: Environment) -> None:
    """Send a message through Celery's broker and receive it."""
    address, tls, more = broker.options(environment)
    with (
        Connection(address, ssl=tls or False, transport_options=more) as connection,
        connection.SimpleQueue("bell") as queue,
    ):
        queue.put("rung")
        message = queue.get(timeout=5)
        message.ack()
    assert message.payload == "rung"


async def test_every_client_uses_password_and_tls(settings: Any, server: Server) -> None:
    await try_all(used(settings, redis_url=server.url))


async def test_every_client_finds_the_master_by_sentinels(
    settings: Any, replicated: Replicated
) -> None:
    await try_all(with_sentinels(settings, replicated))


async def test_an_unknown_authority_is_named(settings: Any, server: Server, tmp_path: Path) -> None:
    other = certificate(tmp_path)
    used(settings, redis_url=server.url.replace(str(server.certificate.chain), str(other.chain)))
    async with redis_client.connect() as redis:
        with pytest.raises(RedisConnectionError, match=r"certificate that is not accepted"):
            await Wire(redis).ask(("PING",))


async def test_a_wire_follows_a_failover(settings: Any, replicated: Replicated) -> None:
    with_sentinels(settings, replicated)
    async with redis_client.connect() as redis:
        assert isinstance(redis, Client)
        wire = Wire(redis)
        await wire.ask(("SET", "before", "1"), ("WAIT", 1, 2000))
        replicated.master.process.kill()
        async with asyncio.timeout(30):
            while True:
                try:
                    await wire.ask(("SET", "after", "1"))
                    break
                except RedisError:
                    await asyncio.sleep(0.1)
        assert wire.epoch == 2
        assert await wire.ask(("GET", "before")) == [b"1"]
        with replicated.replica.client() as promoted:
            assert promoted.get("after") == b"1"
        assert await redis.get("after") == b"1"


async def test_unreachable_sentinels_are_an_error_not_a_hang(settings: Any) -> None:
    used(settings, redis_url="redis://chat/0", redis_sentinels="127.0.0.1:1")
    async with redis_client.connect() as redis:
        with pytest.raises(RedisConnectionError, match="No master found"):
            await Wire(redis).ask(("PING",))
