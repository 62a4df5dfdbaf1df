"""The part of a host that counts tokens for web processes."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from contextlib import suppress
from typing import Protocol

import msgspec
from redis.asyncio import Redis
from redis.exceptions import RedisError

from chatsite.engine.contract.messages import CountTokens
from chatsite.hosts.token_counts import ANSWER_KEPT_MS, Answer, encode, question_of
from chatsite.redis_keys import measure_channel, measured_key

log = logging.getLogger(__name__)


class TokenCounter(Protocol):
    async def count_tokens(self, measure: CountTokens, seconds: float) -> Answer | None: ...


class TokenCountService:
    """Answers all token count requests to one host; `serve` runs until it is cancelled.

    ``find`` returns what counts the tokens of the model with a digest.
    """

    def __init__(self, host: str, redis: Redis, find: Callable[[str], TokenCounter | None]) -> None:
        self._host = host
        self._redis = redis
        self._find = find
        self._tasks: set[asyncio.Task[None]] = set()

    async def serve(self) -> None:
        pubsub = self._redis.pubsub(ignore_subscribe_messages=True)
        try:
            await pubsub.subscribe(measure_channel(self._host))
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
            question = question_of.decode(data)
        except msgspec.DecodeError:
            log.warning("Token count request can't be decoded; do all processes have one version?")
            return
        runner = self._find(question.digest)
        answer = await runner.count_tokens(question.measure, question.seconds) if runner else None
        if answer is None:
            return
        key = measured_key(question.measure.id)
        with suppress(RedisError):
            async with self._redis.pipeline(transaction=False) as pipe:
                pipe.rpush(key, encode(answer))
                pipe.pexpire(key, ANSWER_KEPT_MS)
                await pipe.execute()
