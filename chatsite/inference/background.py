"""Background generations: text that an engine child generates in slots that no request needs.

They have no stream and no waiting client. The result is returned whole, or not at all after
preemption, the end of the child, or a timeout.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from chatsite.engine.contract import messages as m
from chatsite.engine.contract.frames import FrameTooLarge


@dataclass(frozen=True)
class BackgroundGeneration:
    """Generated text. ``end`` has usage and finish reason; None if the request was refused."""

    text: str
    end: m.Finished | None


@dataclass
class _Open:
    answer: asyncio.Future[BackgroundGeneration | None]
    parts: list[str] = field(default_factory=list)


Send = Callable[[m.Generate | m.Cancel], Awaitable[None]]


class BackgroundGenerations:
    """The background generations of one child, by ID."""

    def __init__(self) -> None:
        self._open: dict[str, _Open] = {}

    @property
    def open(self) -> bool:
        return bool(self._open)

    async def write(
        self, request: m.Generate, send: Send, seconds: float
    ) -> BackgroundGeneration | None:
        own = _Open(asyncio.get_running_loop().create_future())
        self._open[request.id] = own
        try:
            await send(request)
            async with asyncio.timeout(seconds):
                return await own.answer
        except FrameTooLarge:
            return BackgroundGeneration("", None)
        except TimeoutError:
            await send(m.Cancel(request.id))
            return None
        finally:
            self._open.pop(request.id, None)

    async def preempt(self, send: Send) -> None:
        """Cancel all of them: requests need their slots."""
        for id in tuple(self._open):
            await send(m.Cancel(id))
        self.abandon()

    def abandon(self) -> None:
        """Resolve all of them to None: the child has ended or is cancelling them."""
        for own in self._open.values():
            if not own.answer.done():
                own.answer.set_result(None)
        self._open.clear()

    def take(self, frame: m.ToHost) -> bool:
        """Consume a frame; return whether it concerns background generations only."""
        if isinstance(frame, m.Step):
            for delta in frame.deltas:
                if own := self._open.get(delta.id):
                    own.parts.append(delta.text)
            return False
        if not isinstance(frame, m.Finished | m.Failed) or frame.id not in self._open:
            return False
        own = self._open.pop(frame.id)
        if not own.answer.done():
            end = frame if isinstance(frame, m.Finished) else None
            own.answer.set_result(BackgroundGeneration("".join(own.parts), end))
        return True
