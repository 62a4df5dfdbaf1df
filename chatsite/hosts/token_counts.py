"""Token counts of texts, requested from the engine child that has the model loaded.

A question goes to one host by publish, its answer to a list of its own. Both may be lost: `ask`
waits at most `ANSWER_SECONDS`, then returns None.
"""

from __future__ import annotations

from typing import Final

import msgspec
from redis.asyncio import Redis

from chatsite.engine.contract import messages as m
from chatsite.hosts.status import HostStatus
from chatsite.redis_keys import measure_channel, measured_key

ANSWER_SECONDS: Final = 1.5
ANSWER_KEPT_MS: Final = 5000
# Redis disconnects a subscriber whose output buffer exceeds some MiB.
_QUESTION_BYTES: Final = 4 << 20

Answer = m.TokenCounts | m.Failed


class Question(msgspec.Struct, frozen=True):
    digest: str
    measure: m.CountTokens
    seconds: float = ANSWER_SECONDS


encode = msgspec.msgpack.Encoder().encode
question_of = msgspec.msgpack.Decoder(Question)
_answer_of: msgspec.msgpack.Decoder[Answer] = msgspec.msgpack.Decoder(Answer)


async def ask(
    redis: Redis, hosts: list[HostStatus], digest: str, measure: m.CountTokens
) -> m.TokenCounts | None:
    """Return token counts by the model's own tokenizer.

    None if the model isn't loaded, refuses, or is too slow, and for more than 4 MiB of text.
    ``measure.id`` must be unique.
    """
    found = await answer(redis, hosts, digest, measure)
    return found if isinstance(found, m.TokenCounts) else None


async def answer(
    redis: Redis,
    hosts: list[HostStatus],
    digest: str,
    measure: m.CountTokens,
    seconds: float = ANSWER_SECONDS,
) -> Answer | None:
    """Return what `ask` returns, or the refusal; wait at most ``seconds``."""
    ready = [
        host.id
        for host in hosts
        if any(one.digest == digest and one.state == "ready" for one in host.models)
    ]
    asked = encode(Question(digest, measure, seconds))
    if not ready or len(asked) > _QUESTION_BYTES:
        return None
    heard = await redis.publish(measure_channel(ready[0]), asked)
    if not heard:
        return None
    found = await redis.blpop([measured_key(measure.id)], timeout=seconds)  # type: ignore[misc]
    return _answer_of.decode(found[1]) if found else None
