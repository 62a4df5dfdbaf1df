"""How many tokens texts are, asked by web processes and answered by the engine child.

A question goes to one host by publish, its answer into a list of its own. Both may be lost:
whoever asks waits `ANSWER_SECONDS` at most and then goes without.
"""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import Final

import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError

from chatsite.dispatch.queue import PREFIX
from chatsite.engine import messages as m
from chatsite.inference.placement import Placement
from chatsite.inference.questions import ANSWER_SECONDS, Answer
from chatsite.inference.status import HostStatus

log = logging.getLogger(__name__)

_ANSWER_KEPT_MS: Final = 5000
# Redis cuts off a listener that more than some MiB wait for.
_QUESTION_BYTES: Final = 4 << 20


class _Question(msgspec.Struct, frozen=True):
    digest: str
    measure: m.Measure


_encode = msgspec.msgpack.Encoder().encode
_question_of = msgspec.msgpack.Decoder(_Question)
_answer_of: msgspec.msgpack.Decoder[Answer] = msgspec.msgpack.Decoder(Answer)


def _channel(host: str) -> str:
    return f"{PREFIX}measure:{host}"


def _reply(id: str) -> str:
    return f"{PREFIX}measured:{id}"


# The web process's side.


async def ask(
    redis: Redis, hosts: list[HostStatus], digest: str, measure: m.Measure
) -> m.Measured | None:
    """Tokens by the model itself; None where it isn't loaded, refuses, or is too slow, and for
    some MiB of text.
    ``measure.id`` must be used once."""
    ready = [
        host.id
        for host in hosts
        if any(one.digest == digest and one.state == "ready" for one in host.models)
    ]
    asked = _encode(_Question(digest, measure))
    if not ready or len(asked) > _QUESTION_BYTES:
        return None
    heard = await redis.publish(_channel(ready[0]), asked)
    if not heard:
        return None
    found = await redis.blpop([_reply(measure.id)], timeout=ANSWER_SECONDS)  # type: ignore[misc]
    answer = _answer_of.decode(found[1]) if found else None
    return answer if isinstance(answer, m.Measured) else None


# The host's side.


class Desk:
    """Answers all questions that come to one host; `serve` until it is cancelled."""

    def __init__(self, host: str, redis: Redis, placement: Placement) -> None:
        self._host = host
        self._redis = redis
        self._placement = placement
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self) -> None:
        pubsub = self._redis.pubsub(ignore_subscribe_messages=True)
        try:
            await pubsub.subscribe(_channel(self._host))
            while True:
                message = await pubsub.get_message(timeout=10)
                if message is not None:
                    task = asyncio.create_task(self._answer(message["data"]))
                    self._tasks.add(task)
                    task.add_done_callback(self._tasks.discard)
        finally:
            await pubsub.aclose()  # type: ignore[no-untyped-call]

    async def _answer(self, data: bytes) -> None:
        try:
            question = _question_of.decode(data)
        except msgspec.DecodeError:
            log.warning("a question about tokens can't be read; are all processes of one version?")
            return
        runner = self._placement.loaded(question.digest)
        answer = await runner.measure(question.measure) if runner else None
        if answer is None:
            return
        key = _reply(question.measure.id)
        with suppress(RedisError):
            async with self._redis.pipeline(transaction=False) as pipe:
                pipe.rpush(key, _encode(answer))
                pipe.pexpire(key, _ANSWER_KEPT_MS)
                await pipe.execute()
