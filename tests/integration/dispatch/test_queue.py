"""The waiting line on a real Redis: fair, bounded, cancellable, and safe against lost hosts."""

from __future__ import annotations

import asyncio

import msgspec
import pytest
from redis.asyncio import Redis

from chatsite.dispatch.messages import Job
from chatsite.dispatch.queue import HINT_JOBS, Queue, UnreadableJob
from chatsite.engine.messages import ChatMessage
from chatsite.errors import QueueFull, TooManyRequests

LIMITS = {"queue_max": 100, "person_max": 50}


def job(id: str, owner: str = "ann", model: str = "m") -> Job:
    return Job(id, owner, model, (ChatMessage("user", "hi"),), queued_at=0.0)


@pytest.fixture
def queue(redis: Redis) -> Queue:
    return Queue(redis, max_attempts=2, lease_ms=60_000)


async def place(queue: Queue, id: str) -> int | None:
    return (await queue.places([("m", id)]))[0]


async def drain(queue: Queue, model: str = "m") -> list[str]:
    order = []
    while lease := await queue.lease(model, "h"):
        order.append(lease.job.id)
        await queue.finish(lease.job.id, lease.attempt)
    return order


async def test_a_job_comes_back_as_it_was_submitted(queue: Queue) -> None:
    await queue.submit(job("a"), **LIMITS)
    lease = await queue.lease("m", "h")
    assert lease is not None
    assert lease.job == job("a")
    assert (lease.attempt, lease.last_chance) == (1, False)
    assert await queue.lease("m", "h") is None


async def test_a_job_that_can_not_be_read_says_which_it_is(queue: Queue) -> None:
    await queue.submit(msgspec.structs.replace(job("a"), queued_at="never"), **LIMITS)
    with pytest.raises(UnreadableJob) as caught:
        await queue.lease("m", "h")
    assert (caught.value.id, caught.value.attempt) == ("a", 1)
    await queue.finish("a")
    assert await queue.lease("m", "h") is None


async def test_place_counts_those_ahead_and_submit_is_idempotent(queue: Queue) -> None:
    assert await queue.submit(job("a"), **LIMITS) == 0
    assert await queue.submit(job("b"), **LIMITS) == 1
    assert await queue.submit(job("b"), **LIMITS) == 1
    assert await place(queue, "b") == 1
    assert await queue.places([("m", "a"), ("m", "gone")]) == [0, None]


async def test_one_person_with_twenty_requests_delays_another_by_one_turn(queue: Queue) -> None:
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


async def test_two_people_with_backlogs_alternate(queue: Queue) -> None:
    for number in range(3):
        await queue.submit(job(f"ann{number}"), **LIMITS)
    for number in range(3):
        await queue.submit(job(f"bob{number}", owner="bob"), **LIMITS)
    assert await drain(queue) == ["ann0", "bob0", "ann1", "bob1", "ann2", "bob2"]


async def test_cancelled_requests_are_not_held_against_a_person(queue: Queue) -> None:
    for number in range(10):
        await queue.submit(job(f"ann{number}"), **LIMITS)
    for number in range(10):
        assert (await queue.cancel(f"ann{number}")).where == "queued"
    await queue.submit(job("bob1", owner="bob"), **LIMITS)
    await queue.submit(job("bob2", owner="bob"), **LIMITS)
    await queue.submit(job("ann"), **LIMITS)
    assert await drain(queue) == ["bob1", "ann", "bob2"]


async def test_the_line_and_each_persons_share_of_it_are_bounded(queue: Queue) -> None:
    await queue.submit(job("a"), queue_max=2, person_max=2)
    await queue.submit(job("b"), queue_max=2, person_max=2)
    with pytest.raises(QueueFull):
        await queue.submit(job("c", owner="bob"), queue_max=2, person_max=2)
    with pytest.raises(TooManyRequests):
        await queue.submit(job("c"), queue_max=9, person_max=2)
    # A running request is open too; an ended one is not.
    lease = await queue.lease("m", "h")
    assert lease
    with pytest.raises(TooManyRequests):
        await queue.submit(job("c"), queue_max=9, person_max=2)
    await queue.finish(lease.job.id, lease.attempt)
    assert await queue.submit(job("c"), queue_max=9, person_max=2) == 1


async def test_models_have_lines_of_their_own(queue: Queue) -> None:
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


async def test_a_restarted_host_takes_back_what_it_held(queue: Queue) -> None:
    for id in ("a", "b"):
        await queue.submit(job(id), **LIMITS)
    await queue.lease("m", "h1")
    await queue.lease("m", "h2")
    assert (await queue.reclaim_host("h1")).requeued == ("a",)
    assert await queue.heartbeat("h2", [("b", 1)]) == ["ok"]


async def test_leases_run_out_when_a_host_falls_silent(redis: Redis) -> None:
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
    await pubsub.get_message(timeout=1)
    await queue.submit(job("a"), **LIMITS)
    message = await pubsub.get_message(timeout=5)
    assert message
    assert message["data"] == b"m"
    await pubsub.aclose()


async def test_nothing_is_left_in_redis_when_all_has_ended(queue: Queue, redis: Redis) -> None:
    for number in range(5):
        await queue.submit(job(f"j{number}"), **LIMITS)
    await queue.cancel("j4")
    await drain(queue)
    left = {key.decode() for key in await redis.keys("*")}
    assert left <= {"cs:arrivals"}
