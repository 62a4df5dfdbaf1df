"""Tells the open pages of a web process when the notices above them change.

An announcement begins and ends by the clock, so one task per event loop compares what is shown now
with what was shown before. It reads the settings of the process and costs no query.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Iterator
from typing import Final
from weakref import WeakKeyDictionary

from chatsite.site_settings import banner

PERIOD_SECONDS: Final = 2.0

Changed = Callable[[str], None]


class _Watch:
    """The subscribers of one event loop; its task runs while there is one."""

    def __init__(self) -> None:
        self._subscribers: set[Changed] = set()
        self._task: asyncio.Task[None] | None = None

    def add(self, changed: Changed) -> None:
        self._subscribers.add(changed)
        if self._task is None:
            self._task = asyncio.create_task(self._compare())

    def remove(self, changed: Changed) -> None:
        self._subscribers.discard(changed)
        if not self._subscribers and self._task is not None:
            self._task.cancel()
            self._task = None

    async def _compare(self) -> None:
        shown = banner.notices_digest()
        while True:
            await asyncio.sleep(PERIOD_SECONDS)
            now = banner.notices_digest()
            if now != shown:
                shown = now
                for changed in tuple(self._subscribers):
                    changed(now)


_watches: WeakKeyDictionary[asyncio.AbstractEventLoop, _Watch] = WeakKeyDictionary()


@contextlib.contextmanager
def subscribed(changed: Changed) -> Iterator[None]:
    """Call ``changed`` with the new digest on the running event loop at each change."""
    watch = _watches.setdefault(asyncio.get_running_loop(), _Watch())
    watch.add(changed)
    try:
        yield
    finally:
        watch.remove(changed)
