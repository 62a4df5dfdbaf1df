"""What a host has one engine child write beside its requests, while the slots for it are free.

Nobody waits for it and it has no stream: it comes back whole, or not at all when it had to give
way, when the child went, or when its time was over.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from chatsite.engine import messages as m
from chatsite.engine.frames import FrameTooLarge


@dataclass(frozen=True)
class Aside:
    """``end`` tells what it took; None where the child refused it."""

    text: str
    end: m.Finished | None


@dataclass
class _Open:
    answer: asyncio.Future[Aside | None]
    parts: list[str] = field(default_factory=list)


Send = Callable[[m.Generate | m.Cancel], Awaitable[None]]


class Asides:
    """Those of one child, by id."""

    def __init__(self) -> None:
        self._open: dict[str, _Open] = {}

    async def write(self, request: m.Generate, send: Send, seconds: float) -> Aside | None:
        own = _Open(asyncio.get_running_loop().create_future())
        self._open[request.id] = own
        try:
            await send(request)
            return await asyncio.wait_for(own.answer, seconds)
        except FrameTooLarge:
            return Aside("", None)
        except TimeoutError:
            await send(m.Cancel(request.id))
            return None
        finally:
            self._open.pop(request.id, None)

    async def give_way(self, send: Send) -> None:
        """Ends them: their slots are needed."""
        for id in tuple(self._open):
            await send(m.Cancel(id))
        self.lose()

    def lose(self) -> None:
        """The child is gone, or told to end them."""
        for own in self._open.values():
            if not own.answer.done():
                own.answer.set_result(None)
        self._open.clear()

    def take(self, frame: m.ToHost) -> bool:
        """Whether the frame is about one of them alone."""
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
            own.answer.set_result(Aside("".join(own.parts), end))
        return True
