"""What a page receives of an answer that makes no progress, over a real Redis."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest
from redis.asyncio import Redis

from chatsite.chat import follow
from chatsite.chat.follow import Follower
from chatsite.chat.protocol import Alive, AnyEvent, Waiting
from chatsite.stream import hub as stream_hub
from chatsite.stream.entries import End
from chatsite.stream.hub import Hub, QueuePosition
from chatsite.stream.publish import Publisher


@pytest.fixture
def place() -> list[QueuePosition | None]:
    """Return the answer's positions as reported by the queue and the hosts."""
    return [None]


@pytest.fixture
async def hub(
    redis: Redis, place: list[QueuePosition | None], monkeypatch: pytest.MonkeyPatch
) -> AsyncIterator[Hub]:
    async def line(waiting: list[tuple[str, str]]) -> list[QueuePosition | None]:
        return [place[0] for _ in waiting]

    monkeypatch.setattr(stream_hub, "QUIET_SECONDS", 0.1)
    monkeypatch.setattr(follow, "QUIET_SECONDS", 0.1)
    monkeypatch.setattr(stream_hub, "WAITING_SECONDS", 0.05)
    hub = Hub(redis, line)
    yield hub
    await hub.close()


async def test_an_end_that_redis_has_lost_is_found_in_sql(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(stream_hub, "QUIET_SECONDS", 0.05)
    monkeypatch.setattr(stream_hub, "WAITING_SECONDS", 0.01)
    asked: list[list[str]] = []

    async def running(waiting: list[tuple[str, str]]) -> list[QueuePosition | None]:
        return [None] * len(waiting)

    async def saved(generations: list[str]) -> dict[str, End]:
        asked.append(generations)
        return {"g": End("done")} if len(asked) == 2 else {}

    publisher = Publisher(redis, ended_ttl_seconds=60)
    writer = await publisher.open("g", 1)
    publisher.append(writer, "half", 1)
    await publisher.flush()
    hub = Hub(redis, running, saved)
    async with hub.follow("g", "m") as feed, asyncio.timeout(60):
        while feed.end is None:
            await feed.next_change().wait()
    assert (feed.torn, asked) == (True, [["g"], ["g"]])
    await hub.close()


async def until(events: list[AnyEvent], kind: type[AnyEvent], count: int = 1) -> None:
    async with asyncio.timeout(60):
        while sum(isinstance(event, kind) for event in events) < count:
            await asyncio.sleep(0.01)


async def test_page_9_a_stalled_answer_gets_updates_while_its_model_reloads(
    hub: Hub, redis: Redis, place: list[QueuePosition | None]
) -> None:
    publisher = Publisher(redis, ended_ttl_seconds=60)
    events: list[AnyEvent] = []

    async def send(event: AnyEvent) -> None:
        events.append(event)

    writer = await publisher.open("g", 1)
    publisher.append(writer, "half", 1)
    await publisher.flush()
    async with hub.follow("g", "m") as feed:
        following = asyncio.create_task(Follower(feed, 0, send).run())
        await until(events, Alive, 2)
        assert not any(isinstance(event, Waiting) for event in events)
        place[0] = QueuePosition(0, "loading", 0.5)
        await until(events, Waiting)
        place[0] = None
        second = await publisher.open("g", 2)
        publisher.append(second, " and whole", 2)
        await publisher.end(second, End("done"))
        async with asyncio.timeout(60):
            assert await following == 2
    [waiting] = [event for event in events if isinstance(event, Waiting)]
    assert (waiting.ahead, waiting.model) == (0, "loading")
