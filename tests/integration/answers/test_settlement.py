"""A quota's reservation becomes what the request took, however the request ends."""

from __future__ import annotations

import uuid
from datetime import timedelta

import pytest
from asgiref.sync import sync_to_async
from django.utils import timezone
from redis.asyncio import Redis

from chatsite.accounts.models import User
from chatsite.answers.outcome import Outcome, abandoned, conclude
from chatsite.answers.queue.queue import Queue
from chatsite.answers.reaper import reap
from chatsite.chat import turns
from chatsite.chat.protocol import Send
from chatsite.chat.tasks import rebuild
from chatsite.conversations.models import Conversation, Generation, GenerationState
from chatsite.engine.contract.messages import Usage
from chatsite.errors import EngineFailed
from chatsite.policy import quotas
from chatsite.policy.models import Consumption, Quota, Reservation
from chatsite.stream.publish import Publisher
from models_admin.models import ModelName, ModelVersion

LIMITS = {"queue_max": 10, "person_max": 10}
USAGE = Usage(5, 2, 3, queue_ms=1.0, prefill_ms=2.0, decode_ms=3.0)


@pytest.fixture
def turn(transactional_db: None) -> turns.Turn:
    """A saved turn whose request is admitted: all of its quota's tokens may be reserved."""
    version = ModelVersion.objects.create(digest="a" * 64, size=1)
    ModelName.objects.create(name="tiny:latest", version=version)
    for unit, amount in (("tokens", 1000), ("requests", 10)):
        Quota.objects.create(unit=unit, period="month", amount=amount)
    user = User.objects.create_user("alice", password="x")
    turn = turns.make(user, Send("r", "hi", "tiny:latest"))
    turns.admitted(turn)
    return turn


@pytest.fixture
def queue(redis: Redis) -> Queue:
    return Queue(redis, max_attempts=2, lease_ms=60_000)


@pytest.fixture
def publisher(redis: Redis) -> Publisher:
    return Publisher(redis, ended_ttl_seconds=60)


@sync_to_async
def consumed() -> dict[str, tuple[int, int]]:
    """Return used and reserved by unit."""
    rows = Consumption.objects.select_related("quota")
    return {row.quota.unit: (row.used, row.reserved) for row in rows}


@sync_to_async
def grown_old(*generations: uuid.UUID) -> None:
    moment = timezone.now() - timedelta(minutes=5)
    Generation.objects.update(queued_at=moment)
    Reservation.objects.update(created_at=moment)


async def test_an_admitted_request_holds_what_it_may_take(turn: turns.Turn) -> None:
    assert await consumed() == {"tokens": (0, 1000), "requests": (0, 1)}
    request = (await sync_to_async(turns.admitted)(turn)).job
    assert request.options.context == 1000  # the engine keeps to the budget


@pytest.mark.parametrize(
    ("outcome", "written", "tokens", "requests"),
    [
        (Outcome(GenerationState.DONE, "stop", usage=USAGE), 3, 8, 1),
        (Outcome(GenerationState.CANCELLED, "cancelled", usage=USAGE), 3, 8, 1),
        (Outcome(GenerationState.FAILED, error=EngineFailed().as_dict()), 0, 0, 0),
        (Outcome(GenerationState.FAILED, error=EngineFailed().as_dict()), 3, 3, 1),
        (abandoned(cancelled=False), 3, 3, 1),
        (abandoned(cancelled=True), 0, 0, 0),
    ],
)
async def test_an_end_settles_what_was_used(
    turn: turns.Turn,
    queue: Queue,
    publisher: Publisher,
    outcome: Outcome,
    written: int,
    tokens: int,
    requests: int,
) -> None:
    writer = await publisher.open(str(turn.generation.pk), 1)
    if written:
        publisher.append(writer, "text", written)
    for _again in range(2):  # a repeated end counts once
        await conclude(queue, publisher, writer, outcome)
        assert await consumed() == {"tokens": (tokens, 0), "requests": (requests, 0)}
    assert not await Reservation.objects.aexists()


async def test_a_crash_between_reserving_and_queueing_is_settled_at_the_end(
    turn: turns.Turn, queue: Queue, publisher: Publisher
) -> None:
    await grown_old()
    await reap(queue, publisher, rebuild)  # queues it, with the reservation that it has
    assert await consumed() == {"tokens": (0, 1000), "requests": (0, 1)}
    lease = await queue.lease("tiny:latest", "h")
    assert lease
    assert lease.job.options.context == 1000
    writer = await publisher.open(lease.job.id, lease.attempt)
    publisher.append(writer, "text", 3)
    await conclude(queue, publisher, writer, Outcome(GenerationState.DONE, "stop", usage=USAGE))
    assert await consumed() == {"tokens": (8, 0), "requests": (1, 0)}


async def test_a_host_that_never_returns_is_settled_by_the_reaper(
    turn: turns.Turn, queue: Queue, publisher: Publisher
) -> None:
    id = str(turn.generation.pk)
    await Generation.objects.filter(pk=id).aupdate(state="running", attempt=1)
    writer = await publisher.open(id, 1)
    publisher.append(writer, "half", 2)
    await publisher.flush()
    await grown_old()
    await reap(queue, publisher, rebuild)
    assert (await Generation.objects.aget()).state == "interrupted"
    assert await consumed() == {"tokens": (2, 0), "requests": (1, 0)}


async def test_a_reservation_without_a_generation_is_given_back(
    turn: turns.Turn, queue: Queue, publisher: Publisher
) -> None:
    lost = uuid.uuid4()  # its process died before it saved the generation
    await sync_to_async(quotas.release)(turn.generation.pk)
    await Generation.objects.all().adelete()
    estimate = quotas.Estimate(100, 10)
    await sync_to_async(quotas.reserve)(lost, turn.conversation.owner_id, estimate)
    await reap(queue, publisher, rebuild)
    assert await consumed() == {"tokens": (0, 100), "requests": (0, 1)}  # too young to tell
    await grown_old()
    await reap(queue, publisher, rebuild)
    assert await consumed() == {"tokens": (0, 0), "requests": (0, 0)}


async def test_a_deleted_conversation_gives_its_reservation_back(
    turn: turns.Turn, queue: Queue, publisher: Publisher
) -> None:
    writer = await publisher.open(str(turn.generation.pk), 1)
    await Conversation.objects.all().adelete()
    await conclude(queue, publisher, writer, Outcome(GenerationState.DONE, "stop"))
    assert await consumed() == {"tokens": (0, 0), "requests": (0, 0)}
