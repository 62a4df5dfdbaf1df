"""The queue on a real Redis: fair, bounded, cancellable, and safe when hosts die."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest
from redis.asyncio import Redis

from chatsite.answers.queue.queue import BATCH_BAND, Queue, UnreadableRequest
from chatsite.answers.queue.request import QueuedRequest
from chatsite.engine.contract.messages import (
    ChatMessage,
    Embed,
    PromptOptions,
    SamplingParams,
    Tool,
)
from chatsite.errors import (
    QueueFull,
    QueueMemoryFull,
    TooManyRequests,
    TooMuchQueued,
    UnusableValue,
)
from chatsite.redis_keys import HINT_JOBS
from chatsite.stream.entries import End
from chatsite.stream.publish import Publisher

LIMITS = {"queue_max": 100, "person_max": 50}


def job(id: str, owner: str = "ann", model: str = "m") -> QueuedRequest:
    return QueuedRequest(id, owner, model, (ChatMessage("user", "hi"),), queued_at=0.0)


@pytest.fixture
def queue(redis: Redis) -> Queue:
    return Queue(redis, max_attempts=2, lease_ms=60_000)


async def place(queue: Queue, id: str) -> int | None:
    return (await queue.positions([("m", id)]))[0]


async def drain(queue: Queue, model: str = "m") -> list[str]:
    order = []
    while lease := await queue.lease(model, "h"):
        order.append(lease.job.id)
        await queue.finish(lease.job.id, lease.attempt)
    return order


async def test_a_share_weight_divides_the_cost_of_a_turn(queue: Queue) -> None:
    for number in range(6):
        await queue.submit(job(f"ann{number}"), **LIMITS)
    for number in range(6):
        await queue.submit(job(f"bob{number}", owner="bob"), weight=2, **LIMITS)
    first = (await drain(queue))[:6]
    # In the time of two turns of Ann's, Bob has four.
    assert sorted(first) == ["ann0", "ann1", "bob0", "bob1", "bob2", "bob3"]


async def test_batches_are_behind_all_requests_of_users(queue: Queue) -> None:
    await queue.submit(job("batch1", owner="0"), priority=BATCH_BAND, **LIMITS)
    await queue.submit(job("low", owner="bob"), priority=-1, **LIMITS)
    await queue.submit(job("batch2", owner="0"), priority=BATCH_BAND, **LIMITS)
    for number in range(3):
        await queue.submit(job(f"ann{number}"), **LIMITS)
    assert await drain(queue) == ["ann0", "ann1", "ann2", "low", "batch1", "batch2"]


async def test_a_batch_of_a_dead_host_returns_behind_users(queue: Queue) -> None:
    await queue.submit(job("batch1", owner="0"), priority=BATCH_BAND, **LIMITS)
    await queue.submit(job("batch2", owner="0"), priority=BATCH_BAND, **LIMITS)
    assert (await queue.lease("m", "h")) is not None
    await queue.submit(job("ann"), **LIMITS)
    assert (await queue.reclaim_host("h")).requeued == ("batch1",)
    assert await place(queue, "batch1") == 1
    assert await drain(queue) == ["ann", "batch1", "batch2"]


async def test_a_request_of_a_dead_host_returns_ahead_of_batches(queue: Queue) -> None:
    await queue.submit(job("ann"), **LIMITS)
    assert (await queue.lease("m", "h")) is not None
    await queue.submit(job("batch", owner="0"), priority=BATCH_BAND, **LIMITS)
    assert (await queue.reclaim_host("h")).requeued == ("ann",)
    await queue.submit(job("bob", owner="bob"), **LIMITS)
    assert await drain(queue) == ["ann", "bob", "batch"]


async def test_a_small_share_weight_is_not_starved(queue: Queue) -> None:
    await queue.submit(job("ann", owner="ann"), weight=0.5, **LIMITS)
    for number in range(4):
        await queue.submit(job(f"bob{number}", owner="bob"), **LIMITS)
    order = await drain(queue)
    assert order.index("ann") == 1


async def test_a_higher_priority_is_served_first(queue: Queue) -> None:
    await queue.submit(job("low", owner="eve"), priority=-1, **LIMITS)
    for number in range(3):
        await queue.submit(job(f"ann{number}"), **LIMITS)
    assert await queue.submit(job("high1", owner="bob"), priority=1, **LIMITS) == 0
    await queue.submit(job("high2", owner="bob"), priority=1, **LIMITS)
    assert await drain(queue) == ["high1", "high2", "ann0", "ann1", "ann2", "low"]


async def test_a_job_of_high_priority_that_comes_back_moves_no_clock(queue: Queue) -> None:
    await queue.submit(job("high", owner="bob"), priority=1, **LIMITS)
    await queue.submit(job("ann1"), **LIMITS)
    lease = await queue.lease("m", "h")
    assert lease
    await queue.give_back("h", [("high", lease.attempt)], fault=False)
    assert (await queue.lease("m", "h")).job.id == "high"  # type: ignore[union-attr]
    await queue.submit(job("eve1", owner="eve"), **LIMITS)
    await queue.submit(job("ann2"), **LIMITS)
    assert await drain(queue) == ["ann1", "eve1", "ann2"]


async def test_a_job_comes_back_as_it_was_submitted(queue: Queue) -> None:
    await queue.submit(job("a"), **LIMITS)
    lease = await queue.lease("m", "h")
    assert lease is not None
    assert lease.job == job("a")
    assert (lease.attempt, lease.last_chance) == (1, False)
    assert await queue.lease("m", "h") is None


async def test_a_job_that_can_not_be_decoded_is_named(queue: Queue, redis: Redis) -> None:
    await queue.submit(job("a"), **LIMITS)
    await redis.execute_command("HSET", "cs:job:a", "payload", "of another version")
    with pytest.raises(UnreadableRequest) as caught:
        await queue.lease("m", "h")
    assert (caught.value.id, caught.value.attempt) == ("a", 1)
    await queue.finish("a")
    assert await queue.lease("m", "h") is None


async def test_place_counts_those_ahead_and_submit_is_idempotent(queue: Queue) -> None:
    assert await queue.submit(job("a"), **LIMITS) == 0
    assert await queue.submit(job("b"), **LIMITS) == 1
    assert await queue.submit(job("b"), **LIMITS) == 1
    assert await place(queue, "b") == 1
    assert await queue.positions([("m", "a"), ("m", "gone")]) == [0, None]


async def test_a_user_with_twenty_requests_delays_another_by_one_turn(queue: Queue) -> None:
    for number in range(20):
        await queue.submit(job(f"ann{number:02}"), **LIMITS)
    await queue.submit(job("bob", owner="bob"), **LIMITS)
    assert await place(queue, "bob") == 1
    order = await drain(queue)
    assert order.index("bob") == 1
    assert [id for id in order if id != "bob"] == [f"ann{n:02}" for n in range(20)]


async def test_a_late_comer_waits_one_turn_in_the_middle_of_a_backlog_too(queue: Queue) -> None:
    for number in range(20):
        await queue.submit(job(f"ann{number:02}"), **LIMITS)
    for _ in range(7):
        lease = await queue.lease("m", "h")
        assert lease
    await queue.submit(job("bob", owner="bob"), **LIMITS)
    assert await place(queue, "bob") in {0, 1}


async def test_two_users_with_backlogs_alternate(queue: Queue) -> None:
    for number in range(3):
        await queue.submit(job(f"ann{number}"), **LIMITS)
    for number in range(3):
        await queue.submit(job(f"bob{number}", owner="bob"), **LIMITS)
    assert await drain(queue) == ["ann0", "bob0", "ann1", "bob1", "ann2", "bob2"]


async def test_cancelled_requests_do_not_count_against_a_user(queue: Queue) -> None:
    for number in range(10):
        await queue.submit(job(f"ann{number}"), **LIMITS)
    for number in range(10):
        assert (await queue.cancel(f"ann{number}")).where == "queued"
    await queue.submit(job("bob1", owner="bob"), **LIMITS)
    await queue.submit(job("bob2", owner="bob"), **LIMITS)
    await queue.submit(job("ann"), **LIMITS)
    assert await drain(queue) == ["bob1", "ann", "bob2"]


async def test_the_queue_and_each_users_share_of_it_are_bounded(queue: Queue) -> None:
    await queue.submit(job("a"), queue_max=2, person_max=2)
    await queue.submit(job("b"), queue_max=2, person_max=2)
    with pytest.raises(QueueFull):
        await queue.submit(job("c", owner="bob"), queue_max=2, person_max=2)
    with pytest.raises(TooManyRequests):
        await queue.submit(job("c"), queue_max=9, person_max=2)
    # A running request counts as open; an ended one does not.
    lease = await queue.lease("m", "h")
    assert lease
    with pytest.raises(TooManyRequests):
        await queue.submit(job("c"), queue_max=9, person_max=2)
    await queue.finish(lease.job.id, lease.attempt)
    assert await queue.submit(job("c"), queue_max=9, person_max=2) == 1


async def test_models_have_separate_queues(queue: Queue) -> None:
    await queue.submit(job("a", model="m"), **LIMITS)
    await queue.submit(job("b", model="n"), **LIMITS)
    assert await queue.models() == ["m", "n"]
    assert await drain(queue, "n") == ["b"]
    assert await place(queue, "a") == 0


async def test_cancel_of_a_running_job_reaches_its_host_even_if_the_hint_is_lost(
    queue: Queue,
) -> None:
    await queue.submit(job("a"), **LIMITS)
    await queue.lease("m", "h")
    assert (await queue.cancel("a")).where == "running"
    assert await queue.heartbeat("h", [("a", 1)]) == ["cancel"]
    assert (await queue.cancel("unknown")).where == "gone"


async def test_a_job_given_back_is_next_and_its_old_attempt_is_lost(queue: Queue) -> None:
    for id in ("a", "b", "c"):
        await queue.submit(job(id), **LIMITS)
    await queue.lease("m", "h")
    given = await queue.give_back("h", [("a", 1)], fault=True)
    assert given.requeued == ("a",)
    assert await place(queue, "a") == 0
    lease = await queue.lease("m", "other")
    assert lease
    assert (lease.job.id, lease.attempt, lease.last_chance) == ("a", 2, True)
    assert await queue.heartbeat("h", [("a", 1)]) == ["lost"]
    assert not await queue.finish("a", 1)
    assert await queue.heartbeat("other", [("a", 2)]) == ["ok"]
    assert await queue.finish("a", 2)


async def test_a_job_that_fails_too_often_is_exhausted_not_requeued(queue: Queue) -> None:
    await queue.submit(job("a"), **LIMITS)
    await queue.lease("m", "h")
    assert (await queue.give_back("h", [("a", 1)], fault=True)).requeued == ("a",)
    await queue.lease("m", "h")
    given = await queue.give_back("h", [("a", 2)], fault=True)
    assert given.exhausted == ("a",)
    assert (await queue.state("a")).state == "ending"
    assert await queue.lease("m", "h") is None


async def test_an_orderly_return_is_not_a_fault(queue: Queue) -> None:
    await queue.submit(job("a"), **LIMITS)
    for attempt in range(1, 6):
        await queue.lease("m", "h")
        assert (await queue.give_back("h", [("a", attempt)], fault=False)).requeued == ("a",)


async def test_a_restarted_host_gets_its_leases_back(queue: Queue) -> None:
    for id in ("a", "b"):
        await queue.submit(job(id), **LIMITS)
    await queue.lease("m", "h1")
    await queue.lease("m", "h2")
    assert (await queue.reclaim_host("h1")).requeued == ("a",)
    assert await queue.heartbeat("h2", [("b", 1)]) == ["ok"]


async def test_leases_expire_when_a_host_stops_its_heartbeats(redis: Redis) -> None:
    queue = Queue(redis, max_attempts=3, lease_ms=1)
    await queue.submit(job("a"), **LIMITS)
    await queue.lease("m", "h")
    await asyncio.sleep(0.01)
    assert (await queue.reclaim_expired()).requeued == ("a",)
    patient = Queue(redis, lease_ms=60_000)
    await patient.lease("m", "h")
    assert (await patient.reclaim_expired()).requeued == ()


async def test_a_stopped_job_is_not_started_again_after_a_fault(queue: Queue) -> None:
    await queue.submit(job("a"), **LIMITS)
    await queue.lease("m", "h")
    await queue.cancel("a")
    given = await queue.give_back("h", [("a", 1)], fault=True)
    assert given.exhausted == ("a",)
    assert (await queue.state("a")).cancel_requested


async def test_many_hosts_never_lease_one_job_twice(queue: Queue) -> None:
    for number in range(40):
        await queue.submit(job(f"j{number}", owner=f"p{number % 5}"), **LIMITS)

    async def host(name: str) -> list[str]:
        got = []
        while lease := await queue.lease("m", name):
            got.append(lease.job.id)
        return got

    taken = await asyncio.gather(*(host(f"h{n}") for n in range(4)))
    every = [id for ids in taken for id in ids]
    assert sorted(every) == sorted(f"j{n}" for n in range(40))


async def test_submit_wakes_hosts(queue: Queue, redis: Redis) -> None:
    pubsub = redis.pubsub(ignore_subscribe_messages=True)
    await pubsub.subscribe(HINT_JOBS)
    await pubsub.get_message(timeout=30)
    await queue.submit(job("a"), **LIMITS)
    message = await pubsub.get_message(timeout=30)
    assert message
    assert message["data"] == b"m"
    await pubsub.aclose()


async def test_nothing_is_left_in_redis_when_all_has_ended(queue: Queue, redis: Redis) -> None:
    for number in range(5):
        await queue.submit(job(f"j{number}"), **LIMITS)
    await queue.cancel("j4")
    await queue.finish("j4")  # as the canceller does once the end is saved
    await drain(queue)
    left = {key.decode() for key in await redis.keys("*")}
    assert left <= {"cs:arrivals"}


async def test_m5_the_open_jobs_of_a_user_are_bounded_in_bytes(queue: Queue) -> None:
    def large(id: str, owner: str = "ann") -> QueuedRequest:
        return QueuedRequest(id, owner, "m", (ChatMessage("user", "x" * 400_000),), queued_at=0.0)

    limits = {**LIMITS, "person_bytes": 1 << 20}
    await queue.submit(large("a"), **limits)
    await queue.submit(large("b"), **limits)
    with pytest.raises(TooMuchQueued, match="1 MiB"):
        await queue.submit(large("c"), **limits)
    await queue.submit(large("b"), **limits)  # it is in the queue already
    await queue.submit(job("small"), **limits)
    await queue.submit(large("d", "bob"), **limits)
    lease = await queue.lease("m", "h")
    assert lease
    with pytest.raises(TooMuchQueued):
        await queue.submit(large("c"), **limits)
    await queue.finish(lease.job.id, lease.attempt)
    await queue.submit(large("c"), **limits)


@pytest.fixture
async def small_redis(redis: Redis) -> AsyncIterator[Redis]:
    """Yield a Redis with room for 20 MB more."""
    used = int((await redis.info("memory"))["used_memory"])
    await redis.config_set("maxmemory", str(used + 20_000_000))
    yield redis
    await redis.config_set("maxmemory", "0")


async def test_m5_a_full_redis_refuses_new_jobs_and_finishes_those_it_has(
    queue: Queue, small_redis: Redis
) -> None:
    accepted: list[str] = []

    async def fill() -> None:
        for number in range(40):
            text = f"{number} ".ljust(1_000_000, "x")
            one = QueuedRequest(
                f"j{number}", "ann", "m", (ChatMessage("user", text),), queued_at=0.0
            )
            await queue.submit(one, **LIMITS)
            accepted.append(one.id)

    with pytest.raises(QueueMemoryFull, match="Try again in a minute"):
        await fill()
    assert len(accepted) > 5
    lease = await queue.lease("m", "h")
    assert lease
    assert lease.job.id == accepted[0]
    publisher = Publisher(small_redis, ended_ttl_seconds=60)
    writer = await publisher.open(lease.job.id, lease.attempt)
    for _ in range(200):
        publisher.append(writer, "word " * 20, 20)
        await publisher.flush()
    await publisher.end(writer, End("done"))
    assert await queue.heartbeat("h", [(lease.job.id, lease.attempt)]) == ["ok"]
    assert await queue.finish(lease.job.id, lease.attempt)
    assert await drain(queue) == accepted[1:]
    assert await queue.submit(job("again"), **LIMITS) == 0


async def test_m5_memory_that_is_full_beyond_the_share_is_the_same_refusal(
    queue: Queue, small_redis: Redis
) -> None:
    await queue.submit(job("under way"), **LIMITS)
    await queue.submit(job("waits"), **LIMITS)
    lease = await queue.lease("m", "h")
    assert lease
    await small_redis.config_set("maxmemory", "1mb")
    with pytest.raises(QueueMemoryFull):
        await queue.submit(job("a"), **LIMITS)
    assert await queue.heartbeat("h", [("under way", lease.attempt)]) == ["ok"]
    assert (await queue.cancel("waits")).where == "queued"
    assert (await queue.cancel("under way")).where == "running"
    assert await queue.finish("under way", lease.attempt)
    await small_redis.config_set("maxmemory", "0")
    assert await queue.submit(job("a"), **LIMITS) == 0


def nested(depth: int) -> dict[str, object]:
    found: dict[str, object] = {}
    for _ in range(depth):
        found = {"a": found}
    return found


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"params": SamplingParams(json_schema={"enum": [2**70]})}, None),
        ({"params": SamplingParams(json_schema=nested(3000))}, None),
        ({"options": PromptOptions(tools=tuple(Tool(f"f{n}") for n in range(200)))}, "tools"),
        ({"options": PromptOptions(tools=(Tool(""),))}, "tools[0].name"),
        ({"embed": Embed("a", "ann", ("x",) * 2049)}, "inputs"),
    ],
)
async def test_low_a_job_that_no_host_could_decode_is_refused_by_name(
    queue: Queue, change: dict[str, Any], param: str | None
) -> None:
    with pytest.raises(UnusableValue) as caught:
        await queue.submit(msgspec.structs.replace(job("a"), **change), **LIMITS)
    assert caught.value.status == 400
    assert caught.value.details.get("param") == param
    assert await queue.lease("m", "h") is None
