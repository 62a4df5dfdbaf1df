"""The bare connection to Redis: replies find who asked, whoever left and whatever broke."""

from __future__ import annotations

import asyncio

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from chatsite.stream.wire import Wire


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


async def test_the_replies_of_who_left_go_to_nobody(redis: Redis) -> None:
    wire = Wire(redis)
    await wire.ask(("PING",))
    blocked = asyncio.create_task(wire.ask(("BLPOP", "list", 5), ("ECHO", "late")))
    waiting = asyncio.create_task(wire.ask(("ECHO", "mine")))
    await asyncio.sleep(0)
    blocked.cancel()
    await redis.rpush("list", "x")  # type: ignore[misc]
    assert await waiting == [b"mine"]


async def test_a_broken_connection_fails_who_waits_and_is_opened_anew(redis: Redis) -> None:
    wire = Wire(redis)
    [own] = await wire.ask(("CLIENT", "ID"))
    waiting = asyncio.create_task(wire.ask(("BLPOP", "list", 5)))
    await asyncio.sleep(0)
    await redis.execute_command("CLIENT", "KILL", "ID", own)
    with pytest.raises(RedisConnectionError):
        await waiting
    assert await wire.ask(("ECHO", "again")) == [b"again"]
    # The pool closes it in the end, and waits for that.
    async with asyncio.timeout(5):
        await redis.aclose()


async def test_a_connection_that_is_silent_for_too_long_is_given_up(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("chatsite.stream.wire._SECONDS", 0.05)
    wire = Wire(redis)
    with pytest.raises(RedisConnectionError):
        await wire.ask(("BLPOP", "list", 5))
