"""The progress of a running job: JSON in Redis that expires unless it is renewed."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterable
from typing import Final

import msgspec
from redis import Redis
from redis.asyncio import Redis as AsyncRedis

from chatsite.redis_keys import download_progress_key

_ALIVE_MS: Final = 10_000
# Averaging window of the speed: short enough to show a change, long enough to be readable.
_WINDOW_SECONDS: Final = 8.0


class Progress(msgspec.Struct, frozen=True):
    """``done`` of ``total`` bytes in this ``stage``.

    ``speed`` is in bytes per second and ``left`` in seconds; both are None while unknown.
    """

    stage: str
    done: int
    total: int
    speed: float | None = None
    left: float | None = None


class Speed:
    """The average speed in bytes per second over the last `_WINDOW_SECONDS`."""

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
    redis.set(download_progress_key(id), msgspec.json.encode(progress), px=_ALIVE_MS)


def clear(redis: Redis, id: str) -> None:
    redis.delete(download_progress_key(id))


def read(redis: Redis, ids: Iterable[str]) -> dict[str, Progress]:
    """Return the progress of the running jobs among ``ids``, by ID."""
    wanted = list(ids)
    keys = [download_progress_key(id) for id in wanted]
    found: list[bytes | None] = redis.mget(keys) if keys else []  # type: ignore[assignment]
    return _decoded(wanted, found)


async def read_async(redis: AsyncRedis, ids: Iterable[str]) -> dict[str, Progress]:
    """Return the progress of the running jobs among ``ids`` without blocking."""
    wanted = list(ids)
    found: list[bytes | None] = (
        await redis.mget([download_progress_key(id) for id in wanted]) if wanted else []
    )
    return _decoded(wanted, found)


def _decoded(ids: list[str], found: list[bytes | None]) -> dict[str, Progress]:
    return {
        id: msgspec.json.decode(data, type=Progress)
        for id, data in zip(ids, found, strict=True)
        if data
    }
