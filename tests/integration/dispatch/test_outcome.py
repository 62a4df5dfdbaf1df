"""Beginnings and ends in SQL, stream and queue together, and the reaper that mends the rest."""

from __future__ import annotations

from datetime import timedelta
from unittest.mock import Mock

import pytest
from asgiref.sync import sync_to_async
from django.utils import timezone
from redis.asyncio import Redis

from chatsite.accounts.models import User
from chatsite.chat import turns
from chatsite.chat.models import Conversation, Generation, GenerationState, Message, Via
from chatsite.chat.protocol import Send
from chatsite.dispatch.outcome import Outcome, conclude, conclude_unheld, save_start
from chatsite.dispatch.queue import Queue
from chatsite.dispatch.tasks import reap
from chatsite.engine.messages import Usage
from chatsite.stream.messages import End
from chatsite.stream.publish import Publisher, decode_entry, stream_key
from models_admin.models import ModelName, ModelVersion

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
    await queue.submit(await sync_to_async(turns.job)(turn), **LIMITS)
    lease = await queue.lease("tiny:latest", "h")
    assert lease
    writer = await publisher.open(id, lease.attempt)
    assert await save_start(id, attempt=1, version="a" * 64)
    publisher.append(writer, "Hello", 1)
    outcome = Outcome(GenerationState.DONE, "stop", usage=USAGE, ttft_ms=12.34)
    await conclude(queue, publisher, writer, outcome)
    row = await Generation.objects.select_related("message").aget()
    assert row.message
    assert (row.state, row.message.content, row.finish_reason) == ("done", "Hello", "stop")
    assert (row.prompt_tokens, row.cached_tokens, row.completion_tokens) == (5, 2, 1)
    assert row.timings["ttft"] == 12.3
    assert row.model_version == "a" * 64
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


async def test_an_end_that_was_saved_but_not_told_is_told_unchanged(
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


async def test_tokens_of_reasoning_are_told_also_by_an_attempt_that_goes_on_behind_it(
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


async def test_the_reaper_queues_what_was_saved_but_not_queued(
    turn: turns.Turn, queue: Queue, publisher: Publisher
) -> None:
    await reap(queue, publisher)
    assert await queue.places([("tiny:latest", str(turn.generation.pk))]) == [None]
    await grown_old(turn)
    await reap(queue, publisher)
    assert await queue.places([("tiny:latest", str(turn.generation.pk))]) == [0]


async def test_what_the_reaper_cannot_make_again_ends_and_holds_up_no_other(
    turn: turns.Turn, queue: Queue, publisher: Publisher, redis: Redis, monkeypatch
) -> None:
    await grown_old(turn)
    monkeypatch.setattr(turns, "job", Mock(side_effect=RuntimeError("odd")))
    await reap(queue, publisher)
    end = await last_entry(redis, turn)
    assert isinstance(end, End)
    assert end.error
    assert (end.state, end.error["code"]) == ("failed", "error")


async def test_the_reaper_ends_what_nobody_holds_and_keeps_its_text(
    turn: turns.Turn, queue: Queue, publisher: Publisher, redis: Redis
) -> None:
    id = str(turn.generation.pk)
    writer = await publisher.open(id, 1)
    await save_start(id, attempt=1, version="")
    publisher.append(writer, "half an ans", 3)
    await publisher.flush()
    await grown_old(turn)
    await reap(queue, publisher)
    row = await Generation.objects.select_related("message").aget()
    assert row.message
    assert (row.state, row.message.content) == ("interrupted", "half an ans")
    assert row.error
    assert row.error["code"] == "interrupted"
    end = await last_entry(redis, turn)
    assert isinstance(end, End)
    assert end.state == "interrupted"


async def test_the_reaper_leaves_alone_what_a_host_works_on(
    turn: turns.Turn, queue: Queue, publisher: Publisher
) -> None:
    await queue.submit(await sync_to_async(turns.job)(turn), **LIMITS)
    await queue.lease("tiny:latest", "h")
    await grown_old(turn)
    await reap(queue, publisher)
    assert (await Generation.objects.aget()).state == "queued"


async def test_a_lost_request_of_a_program_is_interrupted(
    turn: turns.Turn, queue: Queue, publisher: Publisher, redis: Redis
) -> None:
    row = await Generation.objects.acreate(
        owner_id=turn.generation.owner_id,
        via=Via.API,
        model="tiny:latest",
        queued_at=timezone.now() - timedelta(minutes=5),
    )
    await reap(queue, publisher)
    await row.arefresh_from_db()
    assert row.state == "interrupted"
    assert await queue.places([("tiny:latest", str(row.pk))]) == [None]


async def test_a_continued_answer_that_is_stopped_in_line_keeps_its_text(
    turn: turns.Turn, queue: Queue, publisher: Publisher
) -> None:
    id = str(turn.generation.pk)
    await Message.objects.filter(pk=turn.answer.pk).aupdate(content="so far")
    await conclude_unheld(
        queue, publisher, id, attempt=0, outcome=Outcome(GenerationState.CANCELLED, "cancelled")
    )
    assert (await Message.objects.aget(pk=turn.answer.pk)).content == "so far"
