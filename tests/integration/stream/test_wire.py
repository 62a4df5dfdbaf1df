"""The wire to Redis: addresses and their options, order of replies, failures."""

from __future__ import annotations

import asyncio
import contextlib
import gc
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import kombu
import pytest
from redis.asyncio import Redis
from redis.asyncio.connection import Connection, ConnectionPool
from redis.exceptions import AuthenticationError, InvalidResponse, RedisError, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeout

from chatsite.stream.wire import Client, Wire
from chatsite.web.channel_layer import ChannelLayer
from tests.support.tls import certificate, forwarded

PASSWORD = "p@ss/word:é"
QUOTED = "p%40ss%2Fword%3A%C3%A9"


async def test_each_of_many_tasks_gets_its_own_replies(redis: Redis) -> None:
    wire = Wire(redis)
    numbers = [
        wire.exchange(("ECHO", str(n)), ("INCR", f"n{n % 7}"), ("NO-SUCH", n)) for n in range(200)
    ]
    for n, (echo, _count, refused) in enumerate(await asyncio.gather(*numbers)):
        assert echo == str(n).encode()
        assert isinstance(refused, ResponseError)
    assert await wire.exchange() == []
    with pytest.raises(ResponseError):
        await wire.ask(("ECHO", "one"), ("NO-SUCH",))


async def test_replies_of_a_cancelled_task_are_dropped(redis: Redis) -> None:
    wire = Wire(redis)
    await wire.ask(("PING",))
    blocked = asyncio.create_task(wire.ask(("BLPOP", "list", 5), ("ECHO", "late")))
    waiting = asyncio.create_task(wire.ask(("ECHO", "mine")))
    await asyncio.sleep(0)
    blocked.cancel()
    await redis.rpush("list", "x")  # type: ignore[misc]
    assert await waiting == [b"mine"]


async def test_a_broken_connection_fails_its_waiters_and_is_reopened(redis: Redis) -> None:
    wire = Wire(redis)
    [own] = await wire.ask(("CLIENT", "ID"))
    waiting = asyncio.create_task(wire.ask(("BLPOP", "list", 5)))
    await asyncio.sleep(0)
    await redis.execute_command("CLIENT", "KILL", "ID", own)
    with pytest.raises(RedisConnectionError):
        await waiting
    assert await wire.ask(("ECHO", "again")) == [b"again"]
    # Closing waits for its client.
    async with asyncio.timeout(60):
        await redis.aclose()
    assert not wire.connected


async def test_a_connection_that_is_silent_for_too_long_is_given_up(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chatsite.stream.wire.TIMEOUT_SECONDS", 0.05)
    wire = Wire(redis)
    with pytest.raises(RedisConnectionError):
        await wire.ask(("BLPOP", "list", 5))


@pytest.fixture
def server(redis_url: str) -> Path:
    return Path(redis_url.removeprefix("unix://"))


@pytest.fixture
async def guarded(redis: Redis) -> AsyncIterator[None]:
    """Set a password on the server, and create the user ann with few permissions."""
    await redis.acl_setuser(
        "ann", enabled=True, passwords=["+" + PASSWORD], commands=["-@all", "+echo"], keys=["*"]
    )
    await redis.config_set("requirepass", PASSWORD)
    yield
    await redis.config_set("requirepass", "")
    await redis.acl_deluser("ann")


@contextlib.asynccontextmanager
async def scripted(answer: Callable[[bytes], bytes]) -> AsyncIterator[str]:
    """Yield the address of a server that sends ``answer`` of its input, and disconnects at b""."""
    writers: set[asyncio.StreamWriter] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.add(writer)
        while data := await reader.read(65536):
            found = answer(data)
            writer.write(found)
            if not found:
                break
        writer.close()

    listener = await asyncio.start_server(serve, "127.0.0.1", 0)
    try:
        yield f"redis://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
    finally:
        listener.close()
        for writer in writers:
            writer.transport.abort()
        await asyncio.sleep(0)


async def asked(url: str, *commands: tuple[str | bytes | int, ...], **options: Any) -> list[Any]:
    async with Client.from_url(url, **options) as client:
        return await Wire(client).ask(*commands)


async def test_house_5_2_password_user_database_and_name_of_the_address_are_used(
    redis: Redis, redis_url: str, guarded: None
) -> None:
    whole = f"unix://:{QUOTED}@{redis_url.removeprefix('unix://')}?db=3&client_name=host-1"
    set_, name, info = await asked(
        whole, ("SET", "key", "three"), ("CLIENT", "GETNAME"), ("CLIENT", "INFO")
    )
    assert (set_, name) == (b"OK", b"host-1")
    assert b" db=3 " in info
    # A user without permission to set a name or to select a database.
    ann = f"unix://ann:{QUOTED}@{redis_url.removeprefix('unix://')}"
    assert await asked(ann, ("ECHO", "hello")) == [b"hello"]
    with pytest.raises(RedisConnectionError, match="refused SELECT 2: NOPERM"):
        await asked(f"{ann}?db=2", ("ECHO", "hello"))
    # The protocol stays the one whose replies are lists.
    entry = ("XADD", "stream", "1-0", "e", b"x")
    _id, read = await asked(f"{whole}&protocol=3", entry, ("XREAD", "STREAMS", "stream", "0"))
    assert read == [[b"stream", [[b"1-0", [b"e", b"x"]]]]]
    await redis.execute_command("AUTH", PASSWORD)
    await redis.select(3)
    await redis.flushdb()
    await redis.select(0)


async def test_house_5_2_a_refused_password_names_the_server_and_not_the_password(
    redis_url: str, guarded: None
) -> None:
    path = redis_url.removeprefix("unix://")
    with pytest.raises(AuthenticationError, match="requires a password") as missing:
        await asked(redis_url, ("PING",))
    with pytest.raises(AuthenticationError, match="refused the user name or password") as wrong:
        await asked(f"unix://ann:guessed@{path}?db=1", ("PING",))
    for problem in (missing, wrong):
        assert path in str(problem.value)
        assert "guessed" not in str(problem.value)


async def test_house_5_2_a_missing_database_is_named(redis_url: str) -> None:
    with pytest.raises(RedisConnectionError, match="refused SELECT 99: ERR DB index"):
        await asked(f"{redis_url}?db=99", ("PING",))


@pytest.mark.parametrize(("host", "shown"), [("127.0.0.1", "127.0.0.1"), ("::1", "[::1]")])
async def test_house_5_2_tcp_and_tls_of_both_kinds_of_addresses(
    redis: Redis, server: Path, tmp_path: Path, host: str, shown: str
) -> None:
    own = certificate(tmp_path, host)
    async with forwarded(server, host) as plain, forwarded(server, host, own) as tls:
        url = f"redis://{shown}:{plain}/5"
        assert await asked(url, ("ECHO", 1), socket_keepalive=True) == [b"1"]
        # More than one TLS record, in both directions.
        long = b"x" * 100_000
        secure = f"rediss://{shown}:{tls}"
        assert await asked(f"{secure}?ssl_ca_certs={own.chain}", ("ECHO", long)) == [long]
        unverified = f"{secure}?ssl_cert_reqs=none&ssl_check_hostname=false"
        assert await asked(unverified, ("ECHO", "2")) == [b"2"]
        with pytest.raises(RedisConnectionError, match=r"not accepted: self.signed") as refused:
            await asked(secure, ("PING",))
        assert f"{shown}:{tls}" in str(refused.value)
        assert "ssl_ca_certs" in str(refused.value)
        with pytest.raises(RedisTimeout, match="is not responding to TLS"):
            await asked(f"rediss://{shown}:{plain}?socket_connect_timeout=0.2", ("PING",))
        with pytest.raises(RedisError):
            await asked(f"redis://{shown}:{tls}", ("PING",))


async def test_house_5_2_tls_for_jobs_and_hints_too(
    redis: Redis, server: Path, tmp_path: Path
) -> None:
    own = certificate(tmp_path)

    def send_job(url: str) -> Any:
        with kombu.Connection(url) as connection:
            queue = connection.SimpleQueue("test-tls")
            queue.put({"job": 1})
            message = queue.get(timeout=60)
            message.ack()
            queue.close()
            return message.payload

    async with forwarded(server, certificate=own) as port:
        url = f"rediss://127.0.0.1:{port}?ssl_ca_certs={own.chain}"
        assert await asyncio.to_thread(send_job, url) == {"job": 1}
        layer = ChannelLayer(hosts=[{"address": url, "socket_timeout": None}])
        await layer.send("test", {"type": "hint"})
        assert await layer.receive("test") == {"type": "hint"}
        await layer.close_pools()


async def test_house_5_2_a_certificate_for_another_host_is_refused(
    server: Path, tmp_path: Path, redis: Redis
) -> None:
    own = certificate(tmp_path, "redis.example.org")
    async with forwarded(server, certificate=own) as port:
        url = f"rediss://127.0.0.1:{port}?ssl_ca_certs={own.chain}"
        with pytest.raises(RedisConnectionError, match="mismatch"):
            await asked(url, ("PING",))
        assert await asked(f"{url}&ssl_check_hostname=false", ("ECHO", "x")) == [b"x"]
        with pytest.raises(RedisConnectionError, match=r"TLS options .* can't be used"):
            await asked(f"rediss://127.0.0.1:{port}?ssl_ca_certs={tmp_path}/none", ("PING",))


async def test_house_5_2_an_unreachable_or_silent_server_is_named(tmp_path: Path) -> None:
    with pytest.raises(RedisConnectionError, match=f"{tmp_path}/none: No such file"):
        await asked(f"unix://{tmp_path}/none", ("PING",))
    async with scripted(lambda data: b"+") as url:
        with pytest.raises(RedisTimeout, match=f"{url[8:]} is not responding"):
            await asked(f"{url}?socket_connect_timeout=0.05", ("PING",))


def handshake_then(*answers: bytes) -> Callable[[bytes], bytes]:
    left = [b"+OK\r\n", *answers]
    return lambda data: left.pop(0)


async def test_house_5_2_a_connection_lost_within_a_reply_fails_all_waiters() -> None:
    tries = []

    def answer(data: bytes) -> bytes:
        if b"PING" in data:
            tries.append(data)
            return b"+OK\r\n"
        if len(tries) == 2:
            return b"+again\r\n"
        if b"ECHO" in data:
            return b"$5\r\nhe"
        return b""

    async with scripted(answer) as url, Client.from_url(url) as client:
        wire = Wire(client)
        begun = asyncio.create_task(wire.ask(("ECHO", "hello")))
        while not tries:
            await asyncio.sleep(0)
        await wire.connect()
        await asyncio.sleep(0)
        behind = asyncio.create_task(wire.ask(("GET", "key")))
        for waiting in (begun, behind):
            with pytest.raises(RedisConnectionError, match=f"{url[8:]} closed the connection"):
                await waiting
        assert wire.epoch == 1
        # A partial reply is not taken for the beginning of the next one.
        assert await wire.ask(("GET", "key")) == [b"again"]
        assert wire.epoch == 2


@pytest.mark.parametrize("answer", [b"HTTP/1.1 400 Bad Request\r\n\r\n", b"+one\r\n+two\r\n"])
async def test_house_5_2_another_server_at_the_address_is_an_error(answer: bytes) -> None:
    async with scripted(handshake_then(answer, b"")) as url, Client.from_url(url) as client:
        wire = Wire(client)
        with contextlib.suppress(InvalidResponse):
            assert await wire.ask(("GET", "key")) == [b"one"]
        assert not wire.connected


async def test_house_5_2_a_server_with_too_many_clients_refuses_by_name() -> None:
    full = b"-ERR max number of clients reached\r\n"
    async with scripted(lambda data: full) as url:
        with pytest.raises(RedisConnectionError, match="max number of clients"):
            await asked(url, ("PING",))


async def clients(redis: Redis) -> int:
    return len(await redis.client_list())


async def eventually(condition: Callable[[], Awaitable[bool]]) -> None:
    async with asyncio.timeout(60):
        while not await condition():
            await asyncio.sleep(0.01)


async def test_house_5_2_a_wire_is_closed_with_its_client_or_by_itself(
    redis: Redis, redis_url: str
) -> None:
    before = await clients(redis)

    async def as_before() -> bool:
        return await clients(redis) == before

    async with Client.from_url(redis_url) as client:
        blocked = asyncio.create_task(Wire(client).ask(("BLPOP", "list", 5)))
        await eventually(lambda: asyncio.sleep(0, True))
        while await clients(redis) == before:
            await asyncio.sleep(0)
    with pytest.raises(RedisConnectionError):
        await blocked
    await eventually(as_before)
    plain = Redis.from_url(redis_url)
    wire = Wire(plain)
    await wire.ask(("PING",))
    await wire.aclose()
    await eventually(as_before)
    await wire.ask(("PING",))
    del wire
    gc.collect()
    await eventually(as_before)
    await plain.aclose()


def test_house_5_2_connections_of_other_kinds_are_refused() -> None:
    class Other(Connection):
        pass

    class Another:
        def __init__(self, **kwargs: Any) -> None:
            pass

    another: Any = Another
    Wire(Redis(connection_pool=ConnectionPool(connection_class=Other)))
    with pytest.raises(TypeError, match="Another are not supported"):
        Wire(Redis(connection_pool=ConnectionPool(connection_class=another)))
