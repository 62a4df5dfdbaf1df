"""The waiting line in Redis: submit, place, cancel, lease, heartbeat, give back, finish.

Each step is one Lua script (`lua/`), so each is atomic. Keys, all behind `PREFIX`:

==================  ======  =====================================================================
``queue:<model>``   zset    waiting generation ids by virtual finish time: the line
``line:M:<owner>``  zset    the same, one person's part of it
``clock:<model>``   string  virtual start time of the job leased last
``job:<id>``        hash    payload, owner, model, state, host, attempt, faults, cancel
``open:<owner>``    set     the person's waiting and running ids
``leases``          zset    running ids by the time (ms) at which their lease runs out
``models``          set     models that somebody may wait for
==================  ======  =====================================================================

Needs one Redis server, not a cluster: the scripts derive keys from what they read.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal

import msgspec
from redis.asyncio import Redis
from redis.exceptions import ResponseError

from chatsite.dispatch.messages import Job
from chatsite.errors import QueueFull, TooManyRequests
from chatsite.stream.wire import Wire

PREFIX = "cs:"
HINT_JOBS = f"{PREFIX}hint:jobs"
_JOB_TTL_S = 24 * 3600

_encode = msgspec.msgpack.Encoder().encode
_decode_job = msgspec.msgpack.Decoder(Job).decode

Beat = Literal["ok", "cancel", "lost"]


def host_hints(host: str) -> str:
    return f"{PREFIX}hint:host:{host}"


class UnreadableJob(Exception):
    """Of another version, or with a value that it can't have."""

    def __init__(self, id: str, attempt: int) -> None:
        self.id, self.attempt = id, attempt
        super().__init__(f"the job of generation {id} can't be read")


@dataclass(frozen=True)
class Lease:
    """A job that a host holds. ``attempt`` counts leases from 1 and fences the stream;
    ``last_chance``: after one more fault it is given up."""

    job: Job
    attempt: int
    last_chance: bool


@dataclass(frozen=True)
class Cancelled:
    """``where`` the job was: "queued" (now out of the line: the caller saves its end), "running"
    (its host has been told and will) or "gone". ``attempt``: leases so far."""

    where: Literal["queued", "running", "gone"]
    attempt: int


@dataclass(frozen=True)
class GivenBack:
    """``exhausted`` jobs won't be tried again: save their end, then `Queue.finish` them."""

    requeued: tuple[str, ...]
    exhausted: tuple[str, ...]


@cache
def _script(name: str) -> tuple[str, str]:
    """Its text, and the digest that Redis knows it by."""
    text = (Path(__file__).parent / "lua" / f"{name}.lua").read_text()
    return text, hashlib.sha1(text.encode(), usedforsecurity=False).hexdigest()


@dataclass(frozen=True)
class JobState:
    """``state`` is queued, running, ending (exhausted, its end not yet saved) or None;
    ``attempt`` counts its leases."""

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

    async def submit(self, job: Job, *, queue_max: int, person_max: int) -> int:
        """Returns how many jobs stand before this one; raises `QueueFull`, `TooManyRequests`."""
        answer = await self._call(
            "submit", job.id, job.owner, job.model, _encode(job), queue_max, person_max, _JOB_TTL_S
        )
        if answer == b"queue_full":
            raise QueueFull
        if answer == b"too_many_requests":
            raise TooManyRequests(limit=person_max)
        return int(answer)

    async def places(self, waiting: list[tuple[str, str]]) -> list[int | None]:
        """How many stand before each (model, id); None for what does not wait (any more)."""
        ranks = await self._wire.ask(
            *(("ZRANK", f"{PREFIX}queue:{model}", id) for model, id in waiting)
        )
        return [None if rank is None else int(rank) for rank in ranks]

    async def models(self) -> list[str]:
        """Models that somebody waits for (or did a moment ago)."""
        [members] = await self._wire.ask(("SMEMBERS", f"{PREFIX}models"))
        return sorted(member.decode() for member in members)

    async def state(self, id: str) -> JobState:
        """Where a job stands, and whether somebody asked for its end."""
        fields = ("HMGET", f"{PREFIX}job:{id}", "state", "attempt", "cancel")
        [[state, attempt, cancel]] = await self._wire.ask(fields)
        return JobState(state.decode() if state else None, int(attempt or 0), cancel is not None)

    async def cancel(self, id: str) -> Cancelled:
        where, attempt = await self._call("cancel", id)
        return Cancelled(where.decode(), int(attempt))

    async def lease(self, model: str, host: str) -> Lease | None:
        """Raises `UnreadableJob` when what it leased can't be read."""
        answer = await self._call("lease", model, host, self._lease_ms)
        if not answer:
            return None
        id, attempt, faults, payload = answer
        last_chance = 0 < faults >= self._max_attempts - 1
        try:
            return Lease(_decode_job(payload), int(attempt), last_chance)
        except msgspec.DecodeError as error:
            raise UnreadableJob(id.decode(), int(attempt)) from error

    async def heartbeat(self, host: str, held: list[tuple[str, int]]) -> list[Beat]:
        """For each (id, attempt): still ours, to be cancelled, or lost to another attempt."""
        if not held:
            return []
        pairs = [part for id, attempt in held for part in (id, attempt)]
        answers = await self._call("heartbeat", host, self._lease_ms, *pairs)
        return [answer.decode() for answer in answers]

    async def give_back(self, host: str, held: list[tuple[str, int]], *, fault: bool) -> GivenBack:
        """Returns jobs to the head of the line, as after a crash of the engine child
        (``fault``, which counts against the job) or in an orderly shutdown."""
        pairs = [part for id, attempt in held for part in (id, attempt)]
        return await self._give_back("jobs", fault, host, *pairs)

    async def reclaim_host(self, host: str) -> GivenBack:
        """Takes back what an earlier process of this host held when it died."""
        return await self._give_back("host", True, host)

    async def reclaim_expired(self) -> GivenBack:
        """Takes back what hosts hold that have fallen silent."""
        return await self._give_back("expired", True)

    async def _give_back(self, mode: str, fault: bool, *args: str | int) -> GivenBack:
        requeued, exhausted = await self._call(
            "give_back", mode, int(fault), self._max_attempts, *args
        )
        return GivenBack(
            tuple(id.decode() for id in requeued), tuple(id.decode() for id in exhausted)
        )

    async def finish(self, id: str, attempt: int | None = None) -> bool:
        """Forgets a job whose end is saved; False when a later attempt has it."""
        return bool(await self._call("finish", id, "" if attempt is None else attempt))
