"""Finds processes that hang: alive for the kernel, but without a sign of life for long.

A slow process does not hang: a probe waits for its response up to the limit, and any response
counts. Time in which the supervisor itself did not run (suspend, or no CPU time) does not count,
nor does downtime of a server that the process needs for its heartbeats.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from chatsite.supervisor import heartbeat

_TICK_SECONDS: Final = 1.0
# In longer ticks the supervisor itself did not run.
_LONGEST_TICK_SECONDS: Final = 2.0
# A process gets more time before its first sign of life: a start is slow on a busy machine.
_START_FACTOR: Final = 3.0
_ASK_AGAIN_SECONDS: Final = 5.0

Question = Callable[[], Awaitable[bool]]


@dataclass
class Silence:
    """Observed seconds without a sign of life, of which ``limit`` are tolerated."""

    limit: float
    seconds: float = 0.0
    seen: bool = False

    def observe(self, sign: bool | None, elapsed: float) -> bool:
        """Add ``elapsed`` seconds with ``sign``, None if unknown; return whether it hangs."""
        self.seen = self.seen or bool(sign)
        if sign is None or sign:
            self.seconds = 0.0
        else:
            self.seconds += min(elapsed, _LONGEST_TICK_SECONDS)
        return self.seconds > self.limit * (1.0 if self.seen else _START_FACTOR)


@dataclass
class Asking:
    """Probes without a timeout, and again some time after each response."""

    question: Question
    _task: asyncio.Task[bool] | None = None
    _next: float = 0.0

    async def sign(self) -> bool:
        """Whether a response has arrived since the last call, or none is due."""
        now = asyncio.get_running_loop().time()
        if self._task is None:
            if now < self._next:
                return True
            self._task = asyncio.ensure_future(self.question())
        await asyncio.wait([self._task], timeout=0)
        if not self._task.done():
            return False
        answered = self._task.exception() is None and self._task.result()
        self._task = None
        if answered:
            self._next = now + _ASK_AGAIN_SECONDS
        return answered

    def close(self) -> None:
        if self._task is not None:
            self._task.cancel()


@dataclass
class Beating:
    """Watches heartbeats.

    ``pauses`` are their names, with the longest seconds between two beats. ``needed`` tells whether
    the server that they depend on answers.
    """

    data_dir: Path
    pauses: Mapping[str, float]
    needed: Question | None = None
    _seen: dict[str, int] = field(default_factory=dict)
    # The time of each last beat, by the loop's clock; absent before the first of this process.
    _changed: dict[str, float] = field(default_factory=dict)

    async def sign(self) -> bool | None:
        now = asyncio.get_running_loop().time()
        for name in self.pauses:
            beat = heartbeat.read(self.data_dir, name)
            if beat != self._seen.setdefault(name, beat):
                self._seen[name], self._changed[name] = beat, now
        if all(
            name in self._changed and now - self._changed[name] <= pause
            for name, pause in self.pauses.items()
        ):
            return True
        return None if self.needed is not None and not await self.needed() else False

    def close(self) -> None:
        """Do nothing: no resources are held."""


Sign = Asking | Beating


async def wait_for_hang(sign: Sign, limit: float) -> None:
    """Return once the process has shown no sign of life for ``limit`` seconds."""
    silence, clock = Silence(limit), asyncio.get_running_loop().time
    last = clock()
    try:
        while True:
            await asyncio.sleep(min(_TICK_SECONDS, limit / 10))
            found = await sign.sign()
            now = clock()
            if silence.observe(found, now - last):
                return
            last = now
    finally:
        sign.close()
