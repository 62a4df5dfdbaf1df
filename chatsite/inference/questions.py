"""What a host asks one engine child beside its requests: how many tokens texts are."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

from chatsite.engine import messages as m

ANSWER_SECONDS: Final = 1.5
# Questions that one child may have before it; more are not asked.
_MOST_OPEN: Final = 16

Answer = m.Measured | m.Failed


class Questions:
    """What one child is asked, by id."""

    def __init__(self) -> None:
        self._open: dict[str, asyncio.Future[Answer]] = {}

    async def ask(
        self, measure: m.Measure, send: Callable[[m.Measure], Awaitable[None]]
    ) -> Answer | None:
        if len(self._open) >= _MOST_OPEN or measure.id in self._open:
            return None
        future = self._open[measure.id] = asyncio.get_running_loop().create_future()
        try:
            await send(measure)
            return await asyncio.wait_for(future, ANSWER_SECONDS)
        except TimeoutError:
            return None
        finally:
            del self._open[measure.id]

    def take(self, frame: m.ToHost) -> bool:
        """Whether the frame answers, or answered, one of them."""
        if isinstance(frame, m.Failed) and frame.id not in self._open:
            return False
        if not isinstance(frame, Answer):
            return False
        future = self._open.get(frame.id)
        if future is not None and not future.done():
            future.set_result(frame)
        return True
