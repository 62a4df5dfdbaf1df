"""A limit on concurrent costly work, fair between users."""

from __future__ import annotations

import asyncio
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable, Hashable
from contextlib import asynccontextmanager

from chatsite.errors import ChatsiteError, ServerBusy


class FairSlots:
    """Slots for costly work on one event loop: ``total``, and ``per_owner`` for each owner.

    A free slot goes to the owner that has waited longest for a turn; that owner then moves behind
    all others. So twenty requests of one owner do not delay a single request of another.
    """

    def __init__(
        self,
        total: int,
        per_owner: int = 1,
        *,
        seconds: float = 60.0,
        busy: type[ChatsiteError] = ServerBusy,
    ) -> None:
        self._free, self._per_owner = total, per_owner
        self.seconds, self._busy = seconds, busy
        self._held: dict[Hashable, int] = {}
        self._waiting: OrderedDict[Hashable, deque[asyncio.Future[None]]] = OrderedDict()

    @asynccontextmanager
    async def hold(self, owner: Hashable) -> AsyncIterator[None]:
        """Hold a slot during the block. Raises as `acquire`."""
        release = await self.acquire(owner)
        try:
            yield
        finally:
            release()

    async def acquire(self, owner: Hashable) -> Callable[[], None]:
        """Return a function that releases the slot; further calls do nothing.

        Raises `ServerBusy`, or the configured error, if none is free in time.
        """
        turn: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.setdefault(owner, deque()).append(turn)
        self._grant()
        try:
            async with asyncio.timeout(self.seconds):
                await turn
        except BaseException as error:
            if turn.done() and not turn.cancelled():
                self._release(owner)
            else:
                self._leave(owner, turn)
            if isinstance(error, TimeoutError):
                raise self._busy from None
            raise
        held = True

        def release() -> None:
            nonlocal held
            if held:
                held = False
                self._release(owner)

        return release

    def _grant(self) -> None:
        for owner in list(self._waiting):
            if not self._free:
                return
            if self._held.get(owner, 0) >= self._per_owner:
                continue
            turns = self._waiting[owner]
            turn = turns.popleft()
            if turns:
                self._waiting.move_to_end(owner)
            else:
                del self._waiting[owner]
            self._held[owner] = self._held.get(owner, 0) + 1
            self._free -= 1
            turn.set_result(None)

    def _leave(self, owner: Hashable, turn: asyncio.Future[None]) -> None:
        turns = self._waiting[owner]
        turns.remove(turn)
        if not turns:
            del self._waiting[owner]

    def _release(self, owner: Hashable) -> None:
        self._free += 1
        self._held[owner] -= 1
        if not self._held[owner]:
            del self._held[owner]
        self._grant()
