"""What others see of a running job: key ``cs:job:<id>`` in Redis, JSON, gone when nobody writes."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable
from typing import Final

import msgspec
from redis import Redis
from redis.asyncio import Redis as AsyncRedis

_ALIVE_MS: Final = 10_000
# Of the bytes of the last seconds: quick to show a change, slow enough to be read.
_WINDOW_SECONDS: Final = 8.0


class Progress(msgspec.Struct, frozen=True):
    """``done`` of ``total`` bytes in this ``stage``; ``speed`` in bytes per second, ``left`` in
    seconds, both None while they can't be told."""

    stage: str
    done: int
    total: int
    speed: float | None = None
    left: float | None = None


class Speed:
    """Bytes per second over the last seconds."""

    def __init__(self) -> None:
        self._samples: deque[tuple[float, int]] = deque()

    def at(self, done: int, now: float | None = None) -> float | None:
        now = time.monotonic() if now is None else now
        if self._samples and done < self._samples[-1][1]:
            self._samples.clear()
        self._samples.append((now, done))
        while now - self._samples[0][0] > _WINDOW_SECONDS and len(self._samples) > 2:
            self._samples.popleft()
        first, before = self._samples[0]
        return (done - before) / (now - first) if now - first >= 0.5 else None


def write(redis: Redis, id: str, progress: Progress) -> None:
    redis.set(_key(id), msgspec.json.encode(progress), px=_ALIVE_MS)


def clear(redis: Redis, id: str) -> None:
    redis.delete(_key(id))


def read(redis: Redis, ids: Iterable[str]) -> dict[str, Progress]:
    """Of those that run now."""
    wanted = list(ids)
    found: list[bytes | None] = redis.mget([_key(id) for id in wanted]) if wanted else []  # type: ignore[assignment]
    return _decoded(wanted, found)


async def read_async(redis: AsyncRedis, ids: Iterable[str]) -> dict[str, Progress]:
    """The same on a process's own connections."""
    wanted = list(ids)
    found: list[bytes | None] = await redis.mget([_key(id) for id in wanted]) if wanted else []
    return _decoded(wanted, found)


def _decoded(ids: list[str], found: list[bytes | None]) -> dict[str, Progress]:
    return {
        id: msgspec.json.decode(data, type=Progress)
        for id, data in zip(ids, found, strict=True)
        if data
    }


def _key(id: str) -> str:
    return f"cs:job:{id}"
