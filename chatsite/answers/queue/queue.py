"""The queue in Redis: submit, position, cancel, lease, heartbeat, give back, finish.

Each operation is one Lua script (`lua/`), so each is atomic. `redis_keys` lists the keys.

Needs one Redis server, not a cluster: the scripts derive keys from what they read.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import msgspec
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from chatsite.answers.queue.request import QueuedRequest
from chatsite.errors import (
    QueueFull,
    QueueMemoryFull,
    TooManyRequests,
    TooMuchQueued,
    UnusableValue,
)
from chatsite.redis_keys import MODELS, PREFIX, job_key, queue_key
from chatsite.stream.wire import Wire

_JOB_TTL_S = 24 * 3600
_ANY_BYTES = 2**50
# The virtual time of one job of an owner whose weight is 1.
_TURN = 100
# The share of Redis' `maxmemory` that jobs may fill; the rest is for the text of answers.
_MEMORY_PERCENT = 75
# The band of batches (`contract.messages.BATCH`), behind those of all users; `give_back.lua` knows
# its scores.
BATCH_BAND = -8

_encode = msgspec.msgpack.Encoder().encode
_decode_job = msgspec.msgpack.Decoder(QueuedRequest).decode

Beat = Literal["ok", "cancel", "lost"]


class UnreadableRequest(Exception):
    """A leased request can't be decoded: another version, or an invalid value."""

    def __init__(self, id: str, attempt: int) -> None:
        self.id, self.attempt = id, attempt
        super().__init__(f"the job of generation {id} can't be read")


@dataclass(frozen=True)
class Lease:
    """A job that a host holds.

    ``attempt`` counts leases from 1 and fences the stream. With ``last_chance`` the job is given up
    after one more fault.
    """

    job: QueuedRequest
    attempt: int
    last_chance: bool


@dataclass(frozen=True)
class Cancelled:
    """The result of a cancellation.

    ``where`` the job was: "queued" (now removed: the caller saves its end, then calls
    `Queue.finish`), "running" (its host is notified and does both) or "gone". ``attempt`` is the
    number of leases so far.
    """

    where: Literal["queued", "running", "gone"]
    attempt: int


@dataclass(frozen=True)
class GivenBack:
    """IDs of returned jobs. End ``exhausted`` ones: save their end, then call `Queue.finish`."""

    requeued: tuple[str, ...]
    exhausted: tuple[str, ...]


def _checked(job: QueuedRequest) -> bytes:
    """Return the encoded job. Raises `UnusableValue` if hosts could not decode it."""
    try:
        data = _encode(job)
        _decode_job(data)
    except (OverflowError, RecursionError, UnicodeEncodeError) as error:
        reason = "a number has more than 64 bits" if isinstance(error, OverflowError) else error
        raise UnusableValue(reason=str(reason)) from error
    except msgspec.ValidationError as error:
        reason, _at, path = str(error).rpartition(" - at `$.")
        # Clients don't know ``options``; its fields are top-level in API requests.
        param = path.removesuffix("`").partition(".")[2] or path.removesuffix("`")
        raise UnusableValue(reason=f"{param}: {reason}", param=param) from error
    return data


@cache
def _script(name: str) -> tuple[str, str]:
    """Return the script's text and its SHA-1, by which Redis caches it."""
    text = (Path(__file__).parent / "lua" / f"{name}.lua").read_text()
    return text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


@dataclass(frozen=True)
class JobState:
    """The state of a job in Redis.

    ``state`` is queued, running, ending (cancelled or exhausted, end not yet saved) or None;
    ``attempt`` is the number of leases.
    """

    state: str | None
    attempt: int
    cancel_requested: bool


class Queue:
    def __init__(self, redis: Redis, *, max_attempts: int = 3, lease_ms: int = 10_000) -> None:
        self._wire = Wire(redis)
        self._max_attempts = max_attempts
        self._lease_ms = lease_ms

    async def _call(self, script: str, *args: str | int | bytes) -> Any:
        text, digest = _script(script)
        [answer] = await self._wire.exchange(("EVALSHA", digest, 0, PREFIX, *args))
        if isinstance(answer, ResponseError) and str(answer).startswith("NOSCRIPT"):
            [answer] = await self._wire.exchange(("EVAL", text, 0, PREFIX, *args))
        if isinstance(answer, ResponseError):
            raise answer
        return answer

    async def submit(
        self,
        job: QueuedRequest,
        *,
        queue_max: int,
        person_max: int,
        person_bytes: int = _ANY_BYTES,
        weight: float = 1.0,
        priority: int = 0,
    ) -> int:
        """Queue a job; return how many jobs are ahead of it.

        ``weight`` is the owner's share of the queue relative to other owners. Jobs of a higher
        ``priority`` are ahead of all jobs of lower ones.

        Raises `QueueFull`; `TooManyRequests` or `TooMuchQueued` if the owner's open jobs are too
        many or exceed ``person_bytes``; `QueueMemoryFull` before Redis is full, so that running
        answers can still be written; `UnusableValue`. Nothing is queued then.
        """
        try:
            answer = await self._call(
                *("submit", job.id, job.owner, job.model, _checked(job)),
                *(queue_max, person_max, _JOB_TTL_S, person_bytes, _MEMORY_PERCENT),
                *(max(1, round(_TURN / weight)), priority),
            )
        except ResponseError as error:
            if str(error).startswith("OOM"):
                raise QueueMemoryFull from error
            raise
        match answer:
            case b"queue_full":
                raise QueueFull
            case b"too_many_requests":
                raise TooManyRequests(limit=person_max)
            case b"too_much_queued":
                raise TooMuchQueued(limit=person_bytes >> 20)
            case b"memory_full":
                raise QueueMemoryFull
        return int(answer)

    async def positions(self, waiting: list[tuple[str, str]]) -> list[int | None]:
        """Return how many jobs are ahead of each (model, ID); None for jobs that are not queued."""
        ranks = await self._wire.ask(*(("ZRANK", queue_key(model), id) for model, id in waiting))
        return [None if rank is None else int(rank) for rank in ranks]

    async def models(self) -> list[str]:
        """Return the models with queued jobs, or whose queue was emptied a moment ago."""
        [members] = await self._wire.ask(("SMEMBERS", MODELS))
        return sorted(member.decode() for member in members)

    async def depths(self, models: Sequence[str]) -> dict[str, int]:
        """Return the number of queued jobs for each of ``models``."""
        counts = await self._wire.ask(*(("ZCARD", queue_key(model)) for model in models))
        return dict(zip(models, map(int, counts), strict=True))

    async def state(self, id: str) -> JobState:
        """Return the state of a job, and whether its cancellation was requested."""
        fields = ("HMGET", job_key(id), "state", "attempt", "cancel")
        [[state, attempt, cancel]] = await self._wire.ask(fields)
        return JobState(state.decode() if state else None, int(attempt or 0), cancel is not None)

    async def cancel(self, id: str) -> Cancelled:
        where, attempt = await self._call("cancel", id)
        return Cancelled(where.decode(), int(attempt))

    async def lease(self, model: str, host: str) -> Lease | None:
        """Lease the next job. Raises `UnreadableRequest` if the leased job can't be decoded."""
        answer = await self._call("lease", model, host, self._lease_ms)
        if not answer:
            return None
        id, attempt, faults, payload = answer
        last_chance = 0 < faults >= self._max_attempts - 1
        try:
            return Lease(_decode_job(payload), int(attempt), last_chance)
        except msgspec.DecodeError as error:
            raise UnreadableRequest(id.decode(), int(attempt)) from error

    async def heartbeat(self, host: str, held: list[tuple[str, int]]) -> list[Beat]:
        """Extend leases; return "ok", "cancel" or "lost" for each (ID, attempt)."""
        if not held:
            return []
        pairs = [part for id, attempt in held for part in (id, attempt)]
        answers = await self._call("heartbeat", host, self._lease_ms, *pairs)
        return [answer.decode() for answer in answers]

    async def give_back(self, host: str, held: list[tuple[str, int]], *, fault: bool) -> GivenBack:
        """Return jobs to the head of the queue.

        ``fault`` counts against the job: true after a crash of the engine child, false in an
        orderly shutdown.
        """
        pairs = [part for id, attempt in held for part in (id, attempt)]
        return await self._give_back("jobs", fault, host, *pairs)

    async def reclaim_host(self, host: str) -> GivenBack:
        """Reclaim the jobs that an earlier process of this host held when it died."""
        return await self._give_back("host", True, host)

    async def reclaim_expired(self) -> GivenBack:
        """Reclaim the jobs whose leases have expired."""
        return await self._give_back("expired", True)

    async def _give_back(self, mode: str, fault: bool, *args: str | int) -> GivenBack:
        requeued, exhausted = await self._call(
            "give_back", mode, int(fault), self._max_attempts, *args
        )
        return GivenBack(
            tuple(id.decode() for id in requeued), tuple(id.decode() for id in exhausted)
        )

    async def finish(self, id: str, attempt: int | None = None) -> bool:
        """Delete a job whose end is saved; False if a later attempt has it."""
        return bool(await self._call("finish", id, "" if attempt is None else attempt))
