"""Token counts that a host has requested from an engine child, beside generations."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from chatsite.engine.contract import messages as m
from chatsite.hosts.token_counts import ANSWER_SECONDS, Answer

# Open requests per child; further ones are refused.
_MOST_OPEN: Final = 16


class PendingTokenCounts:
    """The open token counts of one child, by ID."""

    def __init__(self) -> None:
        self._open: dict[str, asyncio.Future[Answer]] = {}

    async def ask(
        self,
        measure: m.CountTokens,
        send: Callable[[m.CountTokens], Awaitable[None]],
        seconds: float = ANSWER_SECONDS,
    ) -> Answer | None:
        if len(self._open) >= _MOST_OPEN or measure.id in self._open:
            return None
        future: asyncio.Future[Answer] = asyncio.get_running_loop().create_future()
        self._open[measure.id] = future
        try:
            await send(measure)
            async with asyncio.timeout(seconds):
                return await future
        except TimeoutError:
            return None
        finally:
            del self._open[measure.id]

    def take(self, frame: m.ToHost) -> bool:
        """Consume a frame; return whether it answers a token count, even one that timed out."""
        if isinstance(frame, m.Failed) and frame.id not in self._open:
            return False
        if not isinstance(frame, Answer):
            return False
        future = self._open.get(frame.id)
        if future is not None and not future.done():
            future.set_result(frame)
        return True
