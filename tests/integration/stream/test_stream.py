"""Streams on a real Redis: numbered without gaps through attempts, fenced, followed by many."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from chatsite.stream import hub as stream_hub
from chatsite.stream.hub import Feed, Hub, Place
from chatsite.stream.messages import End
from chatsite.stream.publish import FencedOff, Publisher, Writer, stream_key
from chatsite.stream.wire import Command


@pytest.fixture
def publisher(redis: Redis) -> Publisher:
    return Publisher(redis, ended_ttl_seconds=60)


@pytest.fixture
async def hub(redis: Redis) -> AsyncIterator[Hub]:
    async def nobody_waits(waiting: list[tuple[str, str]]) -> list[Place | None]:
        return [None] * len(waiting)

    hub = Hub(redis, nobody_waits)
    yield hub
    await hub.close()


async def write(publisher: Publisher, writer: Writer, *texts: str) -> None:
    for text in texts:
        publisher.append(writer, text, 1)
        await publisher.flush()


async def until_end(feed: Feed) -> str:
    async with asyncio.timeout(10):
        while feed.end is None:
            await feed.next_change().wait()
    return "".join(feed.texts)


async def test_a_later_attempt_goes_on_from_the_text_of_the_earlier(publisher: Publisher) -> None:
    first = await publisher.open("g", 1)
    await write(publisher, first, "Par", "is ")
    second = await publisher.open("g", 2)
    assert second.full_text() == "Paris "
    assert (second.seq, second.tokens) == (2, 2)
    await write(publisher, second, "it is.")
    assert second.seq == 3


async def test_a_zombie_writer_is_refused_and_told(publisher: Publisher, redis: Redis) -> None:
    zombie = await publisher.open("g", 1)
    await write(publisher, zombie, "a")
    other = Publisher(redis, ended_ttl_seconds=60)
    writer = await other.open("g", 2)
    await write(publisher, zombie, "stale")
    assert zombie.fenced_off
    await write(other, writer, "b")
    with pytest.raises(FencedOff):
        await publisher.end(zombie, End("done"))
    with pytest.raises(FencedOff):
        await publisher.open("g", 1)
    entries = await redis.xrange(stream_key("g"))
    assert [id for id, _ in entries] == [b"1-0", b"1-1", b"2-0", b"2-2"]


async def test_text_is_neither_lost_nor_doubled_when_an_answer_of_redis_is_lost(
    publisher: Publisher, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = await publisher.open("g", 1)
    await write(publisher, writer, "one ")
    exchange = publisher._wire.exchange

    async def answer_lost(*commands: Command) -> list[Any]:
        await exchange(*commands)
        raise RedisConnectionError("the answer was lost")

    # Redis has taken the entry, but the writer never hears of it.
    with monkeypatch.context() as patch:
        patch.setattr(publisher._wire, "exchange", answer_lost)
        publisher.append(writer, "two ", 1)
        with pytest.raises(RedisConnectionError):
            await publisher.flush()
    await write(publisher, writer, "three")
    await publisher.end(writer, End("done"))
    async with hub.follow("g", "m") as feed:
        assert await until_end(feed) == "one two three"


async def test_text_waits_while_redis_is_away(
    publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = await publisher.open("g", 1)

    async def away(*_: object) -> None:
        raise RedisConnectionError("away")

    with monkeypatch.context() as patch:
        patch.setattr(publisher._wire, "exchange", away)
        publisher.append(writer, "kept", 1)
        with pytest.raises(RedisConnectionError):
            await publisher.flush()
    await publisher.flush()
    assert writer.pending == ""
    assert (await publisher.open("g", 2)).full_text() == "kept"


async def test_text_waits_while_redis_has_no_memory(publisher: Publisher, redis: Redis) -> None:
    """One writer alone, and two in one transaction."""
    one, two = await publisher.open("one", 1), await publisher.open("two", 1)
    try:
        await redis.config_set("maxmemory", 1)
        publisher.append(one, "kept", 1)
        with pytest.raises(ResponseError):
            await publisher.flush()
        publisher.append(two, "too", 1)
        with pytest.raises(ResponseError):
            await publisher.flush()
    finally:
        await redis.config_set("maxmemory", 0)
    await publisher.flush()
    assert (one.pending, two.pending, one.fenced_off, two.fenced_off) == ("", "", False, False)
    assert (await publisher.open("one", 2)).full_text() == "kept"
    assert (await publisher.open("two", 2)).full_text() == "too"


async def test_publisher_and_hub_connect_again_when_redis_cuts_them_off(
    publisher: Publisher, hub: Hub, redis: Redis
) -> None:
    writer = await publisher.open("g", 1)
    async with hub.follow("g", "m") as feed, asyncio.timeout(10):
        await write(publisher, writer, "before ")
        while not feed.texts:
            await feed.next_change().wait()
        await redis.client_kill_filter(_type="normal", skipme=True)
        publisher.append(writer, "after", 1)
        await publisher.end(writer, End("done"))
        assert await until_end(feed) == "before after"


async def test_readers_are_woken_now_and_then_without_news(
    hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_hub, "QUIET_SECONDS", 0.01)
    async with hub.follow("g", "m") as feed, asyncio.timeout(10):
        await feed.next_change().wait()
        await feed.next_change().wait()
    assert not feed.texts


async def test_many_followers_see_the_same_text_whenever_they_come(
    publisher: Publisher, hub: Hub
) -> None:
    async def follow(generation: str) -> str:
        async with hub.follow(generation, "m") as feed:
            return await until_end(feed)

    writers = [await publisher.open(f"g{n}", 1) for n in range(5)]
    early = [asyncio.create_task(follow(f"g{n}")) for n in range(5) for _ in range(3)]
    for step in range(10):
        for writer in writers:
            publisher.append(writer, f"{writer.generation}:{step} ", 1)
        await publisher.flush()
        await asyncio.sleep(0)
    late = [asyncio.create_task(follow(f"g{n}")) for n in range(5)]
    for writer in writers:
        await publisher.end(writer, End("done"))
    results = await asyncio.gather(*early, *late)
    for number in range(5):
        expected = "".join(f"g{number}:{step} " for step in range(10))
        assert results[number * 3 : number * 3 + 3] == [expected] * 3
        assert results[15 + number] == expected


async def test_a_feed_left_and_joined_again_at_once_misses_nothing(
    publisher: Publisher, hub: Hub
) -> None:
    writer = await publisher.open("g", 1)
    await write(publisher, writer, "a", "b")
    for expected in (2, 3, 4):
        async with hub.follow("g", "m") as feed:
            async with asyncio.timeout(10):
                while len(feed.texts) < expected:
                    await feed.next_change().wait()
            assert feed.read(0) is not None
        await write(publisher, writer, "c")
    await publisher.end(writer, End("done"))
    async with hub.follow("g", "m") as feed:
        assert await until_end(feed) == "abccc"


async def test_one_who_leaves_at_once_does_not_take_the_feed_away(
    publisher: Publisher, hub: Hub
) -> None:
    async def glance() -> None:
        async with hub.follow("g", "m"):
            pass

    async def stay() -> str:
        async with hub.follow("g", "m") as feed:
            return await until_end(feed)

    writer = await publisher.open("g", 1)
    staying = asyncio.create_task(stay())
    glancing = asyncio.create_task(glance())
    await glancing
    await write(publisher, writer, "here")
    await publisher.end(writer, End("done"))
    assert await staying == "here"


async def test_ranges_merge_what_a_slow_reader_has_not_taken(
    publisher: Publisher, hub: Hub
) -> None:
    writer = await publisher.open("g", 1)
    await write(publisher, writer, "a", "b", "c")
    await publisher.end(writer, End("done"))
    async with hub.follow("g", "m") as feed:
        await until_end(feed)
        part = feed.read(1)
        assert part is not None
        assert (part.start, part.end, part.text) == (1, 3, "bc")
        assert feed.read(3) is None


async def test_those_who_wait_are_told_their_place(redis: Redis) -> None:
    asked: list[tuple[str, str]] = []

    async def line(waiting: list[tuple[str, str]]) -> list[Place | None]:
        asked.extend(waiting)
        return [Place(ahead=4, model="loading", progress=0.5) for _ in waiting]

    hub = Hub(redis, line)
    async with hub.follow("g", "m") as feed, asyncio.timeout(10):
        while feed.place is None:
            await feed.next_change().wait()
        assert feed.place == Place(4, "loading", 0.5)
    assert asked[0] == ("m", "g")
    await hub.close()


async def test_an_ended_stream_expires(publisher: Publisher, redis: Redis) -> None:
    writer = await publisher.open("g", 1)
    await publisher.end(writer, End("done"))
    assert 0 < await redis.ttl(stream_key("g")) <= 60
