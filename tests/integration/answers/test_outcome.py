"""Starts and ends across SQL, stream and queue, and the reaper that repairs inconsistencies."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from pathlib import Path
from unittest.mock import Mock

import pytest
from asgiref.sync import sync_to_async
from django.db import OperationalError
from django.utils import timezone
from redis.asyncio import Redis
from redis.exceptions import ConnectionError as RedisConnectionError

from chatsite.accounts.models import User
from chatsite.answers import outcome as outcomes
from chatsite.answers.outcome import Outcome, conclude, conclude_unheld, save_start
from chatsite.answers.queue.queue import Queue
from chatsite.answers.reaper import reap
from chatsite.chat import turns
from chatsite.chat.protocol import Send
from chatsite.chat.tasks import rebuild
from chatsite.conversations.models import Conversation, Generation, GenerationState, Message, Via
from chatsite.engine.contract.messages import Usage
from chatsite.redis_keys import stream_key
from chatsite.stream.entries import End
from chatsite.stream.publish import Publisher, decode_entry
from chatsite.stream.wire import Client
from models_admin.models import ModelName, ModelVersion
from tests.support.late_redis import late_redis

LIMITS = {"queue_max": 10, "person_max": 10}
USAGE = Usage(
    prompt_tokens=5,
    cached_tokens=2,
    completion_tokens=1,
    queue_ms=1.0,
    prefill_ms=2.0,
    decode_ms=3.0,
)


@pytest.fixture
def turn(transactional_db: None) -> turns.Turn:
    version = ModelVersion.objects.create(digest="a" * 64, size=1)
    ModelName.objects.create(name="tiny:latest", version=version)
    user = User.objects.create_user("alice", password="x")
    return turns.make(user, Send("r", "hi", "tiny:latest"))


@pytest.fixture
def queue(redis: Redis) -> Queue:
    return Queue(redis, max_attempts=2, lease_ms=60_000)


@pytest.fixture
def publisher(redis: Redis) -> Publisher:
    return Publisher(redis, ended_ttl_seconds=60)


async def last_entry(redis: Redis, turn: turns.Turn) -> object:
    entries = await redis.xrevrange(stream_key(str(turn.generation.pk)), count=1)
    return decode_entry(entries[0][1][b"e"])


async def grown_old(turn: turns.Turn) -> None:
    rows = Generation.objects.filter(pk=turn.generation.pk)
    await rows.aupdate(queued_at=timezone.now() - timedelta(minutes=5))


async def test_an_end_is_in_sql_stream_and_queue(
    turn: turns.Turn, queue: Queue, publisher: Publisher, redis: Redis
) -> None:
    id = str(turn.generation.pk)
    await queue.submit(await sync_to_async(turns.queued_request)(turn), **LIMITS)
    lease = await queue.lease("tiny:latest", "h")
    assert lease
    writer = await publisher.open(id, lease.attempt)
    assert await save_start(id, attempt=1, version="a" * 64, engine="cluster")
    publisher.append(writer, "Hello", 1)
    outcome = Outcome(GenerationState.DONE, "stop", usage=USAGE, ttft_ms=12.34)
    await conclude(queue, publisher, writer, outcome)
    row = await Generation.objects.select_related("message").aget()
    assert row.message
    assert (row.state, row.message.content, row.finish_reason) == ("done", "Hello", "stop")
    assert (row.prompt_tokens, row.cached_tokens, row.completion_tokens) == (5, 2, 1)
    assert row.timings["ttft"] == 12.3
    assert (row.model_version, row.engine) == ("a" * 64, "cluster")
    end = await last_entry(redis, turn)
    assert isinstance(end, End)
    assert end.state == "done"
    assert end.usage["completion_tokens"] == 1
    assert (await queue.state(id)).state is None


async def test_a_zombie_can_save_nothing(
    turn: turns.Turn, queue: Queue, publisher: Publisher, redis: Redis
) -> None:
    id = str(turn.generation.pk)
    zombie = await publisher.open(id, 1)
    await save_start(id, attempt=1, version="")
    began = (await Generation.objects.aget()).started_at
    publisher.append(zombie, "stale", 1)
    await save_start(id, attempt=2, version="")
    await conclude(queue, publisher, zombie, Outcome(GenerationState.DONE, "stop"))
    row = await Generation.objects.select_related("message").aget()
    assert row.message
    assert (row.state, row.message.content) == ("running", "")
    assert row.started_at == began is not None
    assert not isinstance(await last_entry(redis, turn), End)


async def test_an_end_that_was_saved_but_not_published_is_published_unchanged(
    turn: turns.Turn, queue: Queue, publisher: Publisher, redis: Redis
) -> None:
    id = str(turn.generation.pk)
    await Message.objects.filter(pk=turn.answer.pk).aupdate(content="whole")
    advance = sync_to_async(Generation.advance)
    assert await advance(id, to=GenerationState.DONE, attempt=1, finish_reason="stop")
    writer = await publisher.open(id, 2)
    await conclude(queue, publisher, writer, Outcome(GenerationState.INTERRUPTED))
    row = await Generation.objects.select_related("message").aget()
    assert row.message
    assert (row.state, row.message.content) == ("done", "whole")
    end = await last_entry(redis, turn)
    assert isinstance(end, End)
    assert end.state == "done"


async def test_h6_a_saved_end_does_not_complete_an_api_answer_whose_text_was_lost(
    turn: turns.Turn, queue: Queue, publisher: Publisher, redis: Redis
) -> None:
    """The host died after it had saved the end and before it had published the last text."""
    id = str(turn.generation.pk)
    await Generation.objects.aupdate(message=None, via=Via.API)
    first = await publisher.open(id, 1)
    publisher.append(first, "one two ", 2)
    await publisher.flush()
    publisher.append(first, "three", 1)
    assert await outcomes.save_end(
        id,
        attempt=1,
        text=first.full_text(),
        tokens=first.tokens,
        outcome=Outcome(GenerationState.DONE, "length", usage=USAGE),
    )
    second = Publisher(redis, ended_ttl_seconds=60)
    writer = await second.open(id, 2)
    assert writer.tokens == 2
    await conclude(queue, second, writer, Outcome(GenerationState.INTERRUPTED))
    end = await last_entry(redis, turn)
    assert isinstance(end, End)
    assert (end.state, end.finish_reason) == ("interrupted", "")
    assert end.error
    assert end.error["code"] == "interrupted"


async def test_a_saved_end_completes_an_api_answer_whose_text_is_there(
    turn: turns.Turn, queue: Queue, publisher: Publisher, redis: Redis
) -> None:
    id = str(turn.generation.pk)
    await Generation.objects.aupdate(message=None, via=Via.API)
    first = await publisher.open(id, 1)
    publisher.append(first, "one two three", 3)
    await publisher.flush()
    done = Outcome(GenerationState.DONE, "length", usage=USAGE)
    await outcomes.save_end(id, attempt=1, text="", tokens=first.tokens, outcome=done)
    second = Publisher(redis, ended_ttl_seconds=60)
    await conclude(queue, second, await second.open(id, 2), Outcome(GenerationState.INTERRUPTED))
    end = await last_entry(redis, turn)
    assert isinstance(end, End)
    assert (end.state, end.finish_reason) == ("done", "length")


async def test_reasoning_tokens_are_reported_by_an_attempt_that_resumes_after_the_reasoning(
    turn: turns.Turn, queue: Queue, publisher: Publisher, redis: Redis
) -> None:
    id = str(turn.generation.pk)
    first = await publisher.open(id, 1)
    publisher.append(first, "<think>hm</think>", 4)
    publisher.reasoned(first, 12.0)
    await publisher.flush()
    writer = await publisher.open(id, 2)
    publisher.append(writer, "yes", 2)
    await save_start(id, attempt=2, version="")
    await conclude(queue, publisher, writer, Outcome(GenerationState.DONE, "stop", usage=USAGE))
    end = await last_entry(redis, turn)
    assert isinstance(end, End)
    assert (end.usage["completion_tokens"], end.usage["reasoning_tokens"]) == (6, 4)
    assert end.timings["queue"] > USAGE.queue_ms


async def test_a_deleted_conversation_ends_quietly(
    turn: turns.Turn, queue: Queue, publisher: Publisher
) -> None:
    writer = await publisher.open(str(turn.generation.pk), 1)
    await Conversation.objects.all().adelete()
    await conclude(queue, publisher, writer, Outcome(GenerationState.DONE, "stop"))
    assert not await Message.objects.aexists()


async def test_the_reaper_queues_generations_that_were_saved_but_not_queued(
    turn: turns.Turn, queue: Queue, publisher: Publisher
) -> None:
    await reap(queue, publisher, rebuild)
    assert await queue.positions([("tiny:latest", str(turn.generation.pk))]) == [None]
    await grown_old(turn)
    await reap(queue, publisher, rebuild)
    assert await queue.positions([("tiny:latest", str(turn.generation.pk))]) == [0]


async def test_a_job_that_the_reaper_cannot_rebuild_ends_and_delays_no_other(
    turn: turns.Turn,
    queue: Queue,
    publisher: Publisher,
    redis: Redis,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    await grown_old(turn)
    monkeypatch.setattr(turns, "admitted", Mock(side_effect=RuntimeError("odd")))
    await reap(queue, publisher, rebuild)
    end = await last_entry(redis, turn)
    assert isinstance(end, End)
    assert end.error
    assert (end.state, end.error["code"]) == ("failed", "error")


async def test_the_reaper_ends_orphaned_generations_and_keeps_their_text(
    turn: turns.Turn, queue: Queue, publisher: Publisher, redis: Redis
) -> None:
    id = str(turn.generation.pk)
    writer = await publisher.open(id, 1)
    await save_start(id, attempt=1, version="")
    publisher.append(writer, "half an ans", 3)
    await publisher.flush()
    await grown_old(turn)
    await reap(queue, publisher, rebuild)
    row = await Generation.objects.select_related("message").aget()
    assert row.message
    assert (row.state, row.message.content) == ("interrupted", "half an ans")
    assert row.error
    assert row.error["code"] == "interrupted"
    end = await last_entry(redis, turn)
    assert isinstance(end, End)
    assert end.state == "interrupted"


async def test_the_reaper_ignores_generations_that_a_host_runs(
    turn: turns.Turn, queue: Queue, publisher: Publisher
) -> None:
    await queue.submit(await sync_to_async(turns.queued_request)(turn), **LIMITS)
    await queue.lease("tiny:latest", "h")
    await grown_old(turn)
    await reap(queue, publisher, rebuild)
    assert (await Generation.objects.aget()).state == "queued"


async def test_a_lost_api_request_is_interrupted(
    turn: turns.Turn, queue: Queue, publisher: Publisher, redis: Redis
) -> None:
    row = await Generation.objects.acreate(
        owner_id=turn.generation.owner_id,
        via=Via.API,
        model="tiny:latest",
        queued_at=timezone.now() - timedelta(minutes=5),
    )
    await reap(queue, publisher, rebuild)
    await row.arefresh_from_db()
    assert row.state == "interrupted"
    assert await queue.positions([("tiny:latest", str(row.pk))]) == [None]


async def test_a_continued_answer_that_is_stopped_in_the_queue_keeps_its_text(
    turn: turns.Turn, queue: Queue, publisher: Publisher
) -> None:
    id = str(turn.generation.pk)
    await Message.objects.filter(pk=turn.answer.pk).aupdate(content="so far")
    await conclude_unheld(
        queue, publisher, id, attempt=0, outcome=Outcome(GenerationState.CANCELLED, "cancelled")
    )
    assert (await Message.objects.aget(pk=turn.answer.pk)).content == "so far"


async def test_h6_a_job_is_forgotten_though_redis_failed_after_the_end_was_written(
    turn: turns.Turn, queue: Queue, redis_url: str, tmp_path: Path
) -> None:
    id = str(turn.generation.pk)
    await queue.submit(await sync_to_async(turns.queued_request)(turn), **LIMITS)
    lease = await queue.lease("tiny:latest", "h")
    assert lease
    outcome = Outcome(GenerationState.DONE, "stop", usage=USAGE)
    server = Path(redis_url.removeprefix("unix://"))
    async with (
        late_redis(server, tmp_path / "late.sock") as proxy,
        Client.from_url(f"unix://{tmp_path / 'late.sock'}") as client,
    ):
        publisher = Publisher(client, ended_ttl_seconds=60)
        writer = await publisher.open(id, lease.attempt)
        publisher.append(writer, "Hello", 1)
        await publisher.flush()
        proxy.hold()
        ending = asyncio.create_task(conclude(queue, publisher, writer, outcome))
        await proxy.replied()
        proxy.lose()
        with pytest.raises(RedisConnectionError):
            await ending
        assert (await queue.state(id)).state == "running"
        assert await conclude(queue, publisher, writer, outcome)
    assert (await queue.state(id)).state is None


@pytest.mark.parametrize("attempt", [1, 2, 9])
async def test_t101_an_answer_whose_end_could_not_be_saved_is_ended_by_the_reaper(
    turn: turns.Turn, queue: Queue, publisher: Publisher, attempt: int
) -> None:
    """``attempt`` has written the fence and saved nothing, as with a locked database."""
    await save_start(str(turn.generation.pk), attempt=1, version="")
    await publisher.open(str(turn.generation.pk), attempt)
    row = await Generation.objects.acreate(
        owner_id=turn.generation.owner_id,
        via=Via.API,
        model="tiny:latest",
        queued_at=timezone.now() - timedelta(minutes=5),
    )
    await publisher.open(str(row.pk), attempt)
    await grown_old(turn)
    await reap(queue, publisher, rebuild)
    assert [row.state async for row in Generation.objects.all()] == ["interrupted"] * 2


async def test_t101_a_stop_that_could_not_be_saved_is_a_stop_later(
    turn: turns.Turn, queue: Queue, publisher: Publisher, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It must not become an answer after all."""
    id = str(turn.generation.pk)
    await queue.submit(await sync_to_async(turns.queued_request)(turn), **LIMITS)
    cancelled = await queue.cancel(id)
    assert cancelled.where == "queued"
    stopped = Outcome(GenerationState.CANCELLED, "cancelled")
    with monkeypatch.context() as patch:
        patch.setattr(outcomes, "save_end", Mock(side_effect=OperationalError("locked")))
        with pytest.raises(OperationalError):
            await conclude_unheld(queue, publisher, id, attempt=0, outcome=stopped)
    assert (await queue.cancel(id)).where == "gone"
    await grown_old(turn)
    await reap(queue, publisher, rebuild)
    row = await Generation.objects.aget()
    assert (row.state, row.finish_reason) == ("cancelled", "cancelled")
    assert (await queue.state(id)).state is None


async def test_t101_a_generation_that_cannot_be_ended_delays_no_other(
    turn: turns.Turn, queue: Queue, publisher: Publisher, redis: Redis
) -> None:
    row = await Generation.objects.acreate(
        owner_id=turn.generation.owner_id,
        via=Via.API,
        model="tiny:latest",
        queued_at=timezone.now() - timedelta(minutes=9),
    )
    await redis.xadd(stream_key(str(row.pk)), {"e": b"not ours"}, id="1-1")
    await save_start(str(turn.generation.pk), attempt=1, version="")
    await grown_old(turn)
    await reap(queue, publisher, rebuild)
    assert (await Generation.objects.aget(pk=turn.generation.pk)).state == "interrupted"


async def test_answers_of_a_disabled_user_are_stopped(turn: turns.Turn, queue: Queue) -> None:
    """By whomever the user was disabled: `answers.leavers` listens."""
    await queue.submit(await sync_to_async(turns.queued_request)(turn), **LIMITS)

    def disable() -> None:
        user = turn.generation.owner
        assert user is not None
        user.is_active = False
        user.save()

    await sync_to_async(disable)()
    row = await Generation.objects.aget(pk=turn.generation.pk)
    assert (row.state, row.finish_reason) == ("cancelled", "cancelled")
    assert await queue.lease("tiny:latest", "h") is None
