"""Streams on a real Redis: no gaps in numbers across attempts, fenced, followed by many readers."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError

from chatsite.redis_keys import stream_key
from chatsite.stream import hub as stream_hub
from chatsite.stream.entries import End, Vectors
from chatsite.stream.hub import GenerationFeed, Hub, QueuePosition
from chatsite.stream.publish import Publisher, StaleWriter, Writer
from chatsite.stream.wire import Client, Command, Wire
from tests.support.late_redis import LateRedis, late_redis


@pytest.fixture
def wire(redis: Redis) -> Wire:
    return Wire(redis)


@pytest.fixture
def publisher(redis: Redis, wire: Wire) -> Publisher:
    return Publisher(redis, ended_ttl_seconds=60, wire=wire)


@pytest.fixture
async def hub(redis: Redis) -> AsyncIterator[Hub]:
    async def nobody_waits(waiting: list[tuple[str, str]]) -> list[QueuePosition | None]:
        return [None] * len(waiting)

    hub = Hub(redis, nobody_waits)
    yield hub
    await hub.close()


@pytest.fixture
async def late(redis_url: str, tmp_path: Path) -> AsyncIterator[tuple[LateRedis, Publisher]]:
    """Yield a Redis that can lose its replies, and a publisher connected only to it."""
    socket = tmp_path / "late.sock"
    server = Path(redis_url.removeprefix("unix://"))
    async with late_redis(server, socket) as proxy, Client.from_url(f"unix://{socket}") as client:
        yield proxy, Publisher(client, ended_ttl_seconds=60)


async def write(publisher: Publisher, writer: Writer, *texts: str) -> None:
    for text in texts:
        publisher.append(writer, text, 1)
        await publisher.flush()


async def until_end(feed: GenerationFeed) -> str:
    async with asyncio.timeout(60):
        while feed.end is None:
            await feed.next_change().wait()
    return "".join(feed.texts)


async def test_a_later_attempt_continues_the_text_of_the_earlier(publisher: Publisher) -> None:
    first = await publisher.open("g", 1)
    await write(publisher, first, "Par", "is ")
    second = await publisher.open("g", 2)
    assert second.full_text() == "Paris "
    assert (second.seq, second.tokens) == (2, 2)
    await write(publisher, second, "it is.")
    assert second.seq == 3


async def test_a_fenced_writer_is_refused_and_notified(publisher: Publisher, redis: Redis) -> None:
    zombie = await publisher.open("g", 1)
    await write(publisher, zombie, "a")
    other = Publisher(redis, ended_ttl_seconds=60)
    writer = await other.open("g", 2)
    await write(publisher, zombie, "stale")
    assert zombie.fenced_off
    await write(other, writer, "b")
    with pytest.raises(StaleWriter):
        await publisher.end(zombie, End("done"))
    with pytest.raises(StaleWriter):
        await publisher.open("g", 1)
    entries = await redis.xrange(stream_key("g"))
    assert [id for id, _ in entries] == [b"1-0", b"1-1", b"2-0", b"2-2"]


async def test_text_is_neither_lost_nor_duplicated_when_a_reply_of_redis_is_lost(
    publisher: Publisher, wire: Wire, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = await publisher.open("g", 1)
    await write(publisher, writer, "one ")
    exchange = wire.exchange

    async def answer_lost(*commands: Command) -> list[Any]:
        await exchange(*commands)
        raise RedisConnectionError("the answer was lost")

    # Redis has stored the entry, but the writer never learns it.
    with monkeypatch.context() as patch:
        patch.setattr(wire, "exchange", answer_lost)
        publisher.append(writer, "two ", 1)
        with pytest.raises(RedisConnectionError):
            await publisher.flush()
    await write(publisher, writer, "three")
    await publisher.end(writer, End("done"))
    async with hub.follow("g", "m") as feed:
        assert await until_end(feed) == "one two three"


async def test_text_is_held_while_redis_is_unreachable(
    publisher: Publisher, wire: Wire, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = await publisher.open("g", 1)

    async def away(*_: object) -> None:
        raise RedisConnectionError("away")

    with monkeypatch.context() as patch:
        patch.setattr(wire, "exchange", away)
        publisher.append(writer, "kept", 1)
        with pytest.raises(RedisConnectionError):
            await publisher.flush()
    await publisher.flush()
    assert writer.pending == ""
    assert (await publisher.open("g", 2)).full_text() == "kept"


async def test_text_is_held_while_redis_has_no_memory(publisher: Publisher, redis: Redis) -> None:
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


async def test_publisher_and_hub_reconnect_when_redis_disconnects_them(
    publisher: Publisher, hub: Hub, redis: Redis
) -> None:
    writer = await publisher.open("g", 1)
    async with hub.follow("g", "m") as feed, asyncio.timeout(60):
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
    async with hub.follow("g", "m") as feed, asyncio.timeout(60):
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


async def test_a_feed_left_and_rejoined_immediately_misses_nothing(
    publisher: Publisher, hub: Hub
) -> None:
    writer = await publisher.open("g", 1)
    await write(publisher, writer, "a", "b")
    for expected in (2, 3, 4):
        async with hub.follow("g", "m") as feed:
            async with asyncio.timeout(60):
                while len(feed.texts) < expected:
                    await feed.next_change().wait()
            assert feed.read(0) is not None
        await write(publisher, writer, "c")
    await publisher.end(writer, End("done"))
    async with hub.follow("g", "m") as feed:
        assert await until_end(feed) == "abccc"


async def test_a_follower_that_leaves_immediately_does_not_close_the_feed(
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


async def test_ranges_merge_for_a_slow_reader(publisher: Publisher, hub: Hub) -> None:
    writer = await publisher.open("g", 1)
    await write(publisher, writer, "a", "b", "c")
    await publisher.end(writer, End("done"))
    async with hub.follow("g", "m") as feed:
        await until_end(feed)
        part = feed.read(1)
        assert part is not None
        assert (part.start, part.end, part.text) == (1, 3, "bc")
        assert feed.read(3) is None


async def test_queued_followers_get_their_position(redis: Redis) -> None:
    asked: list[tuple[str, str]] = []

    async def line(waiting: list[tuple[str, str]]) -> list[QueuePosition | None]:
        asked.extend(waiting)
        return [QueuePosition(ahead=4, model="loading", progress=0.5) for _ in waiting]

    hub = Hub(redis, line)
    async with hub.follow("g", "m") as feed, asyncio.timeout(60):
        while feed.place is None:
            await feed.next_change().wait()
        assert feed.place == QueuePosition(4, "loading", 0.5)
    assert asked[0] == ("m", "g")
    await hub.close()


async def test_an_ended_stream_expires(publisher: Publisher, redis: Redis) -> None:
    writer = await publisher.open("g", 1)
    await publisher.end(writer, End("done"))
    assert 0 < await redis.ttl(stream_key("g")) <= 60


async def test_h6_an_end_waits_for_all_text_though_a_shorter_try_had_arrived(
    late: tuple[LateRedis, Publisher], hub: Hub
) -> None:
    proxy, publisher = late
    writer = await publisher.open("g", 1)
    await write(publisher, writer, "one ")
    proxy.hold()
    publisher.append(writer, "two ", 1)
    flushing = asyncio.create_task(publisher.flush())
    await proxy.replied()
    publisher.append(writer, "three", 1)
    proxy.lose()
    with pytest.raises(RedisConnectionError):
        await flushing
    await publisher.end(writer, End("done"))
    assert not writer.unwritten
    async with hub.follow("g", "m") as feed:
        assert await until_end(feed) == "one two three"


@pytest.mark.parametrize("lost", [1, 3])
async def test_h6_an_end_whose_reply_is_lost_is_recognized(
    late: tuple[LateRedis, Publisher], redis: Redis, lost: int
) -> None:
    proxy, publisher = late
    writer = await publisher.open("g", 1)
    for _ in range(lost):
        proxy.hold()
        ending = asyncio.create_task(publisher.end(writer, End("done")))
        await proxy.replied()
        proxy.lose()
        with pytest.raises(RedisConnectionError):
            await ending
    await publisher.end(writer, End("done"))
    entries = await redis.xrange(stream_key("g"))
    assert [id for id, _ in entries] == [b"1-0", b"1-1"]
    assert 0 < await redis.ttl(stream_key("g")) <= 60


async def test_h6_vectors_whose_reply_is_lost_are_written_once(
    late: tuple[LateRedis, Publisher], redis: Redis
) -> None:
    proxy, publisher = late
    writer = await publisher.open("g", 1)
    proxy.hold()
    writing = asyncio.create_task(publisher.vectors(writer, Vectors(b"", 0, 1)))
    await proxy.replied()
    proxy.lose()
    with pytest.raises(RedisConnectionError):
        await writing
    await publisher.vectors(writer, Vectors(b"", 0, 1))
    await publisher.end(writer, End("done"))
    entries = await redis.xrange(stream_key("g"))
    assert [id for id, _ in entries] == [b"1-0", b"1-1", b"1-2"]


async def test_entries_that_a_restarted_redis_has_lost_are_written_again(
    publisher: Publisher, hub: Hub, redis: Redis
) -> None:
    """As after a crash before the last writes reached the disk, here with a lost fence too."""
    first = await publisher.open("g", 1)
    await write(publisher, first, "one ", "two ")
    writer = await publisher.open("g", 2)
    await write(publisher, writer, "three ")
    async with hub.follow("g", "m") as feed, asyncio.timeout(60):
        while len(feed.texts) < 3:
            await feed.next_change().wait()
        await redis.delete(stream_key("g"))
        await redis.xadd(stream_key("g"), {"e": first.entries[0][1]}, id="1-0")
        await redis.client_kill_filter(_type="normal", skipme=True)
        publisher.append(writer, "four", 1)
        with contextlib.suppress(RedisConnectionError):
            await publisher.flush()
        await publisher.end(writer, End("done"))
        assert await until_end(feed) == "one two three four"
        assert not feed.torn
    late = Hub(redis, lambda waiting: asyncio.sleep(0, [None] * len(waiting)))
    async with late.follow("g", "m") as feed:
        assert await until_end(feed) == "one two three four"
        assert (feed.torn, feed.end is not None) == (False, True)
    await late.close()


@pytest.mark.parametrize("lost", ["1-1", "1-2"])
async def test_a_reader_knows_that_entries_are_missing(
    publisher: Publisher, hub: Hub, redis: Redis, lost: str
) -> None:
    writer = await publisher.open("g", 1)
    await write(publisher, writer, "one ", "two ")
    await redis.xdel(stream_key("g"), lost)
    await publisher.end(writer, End("done"))
    async with hub.follow("g", "m") as feed:
        await until_end(feed)
        assert feed.torn


async def test_t101_a_stream_is_taken_over_whatever_attempt_has_its_fence(
    publisher: Publisher,
) -> None:
    abandoned = await publisher.open("g", 7)
    await write(publisher, abandoned, "so far")
    writer = await publisher.take_over("g", 1)
    assert (writer.attempt, writer.full_text()) == (8, "so far")
    await write(publisher, abandoned, "stale")
    assert abandoned.fenced_off
    assert (await publisher.take_over("new", 3)).attempt == 3
