"""The one way to ask for an answer, and the one way to stop it."""

from __future__ import annotations

from asgiref.sync import sync_to_async
from django.conf import settings
from redis.exceptions import RedisError

from chatsite.accounts.models import User
from chatsite.chat import turns
from chatsite.chat.models import OPEN_STATES, Generation, GenerationState
from chatsite.chat.protocol import Making
from chatsite.chat.runtime import Runtime
from chatsite.chat.turns import Turn
from chatsite.dispatch.messages import Job
from chatsite.dispatch.outcome import Outcome, conclude_unheld
from chatsite.errors import ChatsiteError, NotFound, StreamsUnavailable


async def submit(runtime: Runtime, user: User, command: Making) -> Turn:
    """Saves and queues a turn. If it can't be queued nothing of it stays.

    A request that was taken before is answered again; if the process had died between saving
    and queueing, this queues it.
    """

    def save() -> tuple[Turn, Job | None]:
        turn = turns.make(user, command)
        waits = turn.generation.state == GenerationState.QUEUED
        return turn, turns.job(turn) if waits else None

    turn, job = await sync_to_async(save)()
    if job is None:
        return turn
    try:
        await enqueue(runtime, job)
    except ChatsiteError:
        await sync_to_async(turns.discard)(turn)
        raise
    return turn


async def enqueue(runtime: Runtime, job: Job) -> int:
    """Puts a saved generation in line; returns how many stand before it.

    Raises `QueueFull`, `TooManyRequests` or `StreamsUnavailable`: nothing is queued then.
    """
    try:
        return await runtime.queue.submit(
            job,
            queue_max=settings.ENV.queue_max,
            person_max=settings.ENV.queue_max_per_person,
        )
    except RedisError as error:
        raise StreamsUnavailable from error


async def stop(runtime: Runtime, user: User, generation: str) -> None:
    """Ends an answer where it stands. Stopping what has ended does nothing."""
    row = await Generation.objects.of(user).filter(pk=generation).afirst()
    if row is None:
        raise NotFound
    if row.state not in OPEN_STATES:
        return
    try:
        cancelled = await runtime.queue.cancel(generation)
        if cancelled.where != "running":
            await conclude_unheld(
                runtime.queue,
                runtime.publisher,
                generation,
                attempt=max(cancelled.attempt, row.attempt),
                outcome=Outcome(GenerationState.CANCELLED, finish_reason="cancelled"),
            )
    except RedisError as error:
        raise StreamsUnavailable from error
