"""Prepares requests on threads: fair between owners, one at a time per owner, with a deadline.

Preparation means rendering a template, compiling a schema and tokenizing. It can take long, and the
client determines how long. So each owner has a lane: its requests are prepared in order, and lanes
take turns on the threads. A request that exceeds the deadline fails. Its thread can't be killed, so
another thread replaces it, and the lane refuses requests until the work has ended.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from queue import SimpleQueue
from typing import Final

from chatsite.engine.batching.loop import Item
from chatsite.engine.contract.messages import (
    Cancel,
    CountTokens,
    Embed,
    Failed,
    Finished,
    Generate,
    Usage,
)

log = logging.getLogger(__name__)

Request = Generate | Embed | CountTokens

THREADS: Final = 8
# Overdue threads that are replaced; with more of them, requests wait for a free thread.
_OVERDUE: Final = 16
DEADLINE_S: Final = 30.0


@dataclass(eq=False, slots=True)
class _Job:
    request: Request
    arrived: float
    started: float = 0.0  # monotonic time
    cancelled: bool = False
    overdue: bool = False


class Preparation:
    """Puts the result of ``prepare`` for each request into ``inbox``.

    ``prepare`` is called with the request and its arrival time by ``clock``, and must not raise.
    All methods must be called on one thread. ``deadline`` is in seconds per request.
    """

    def __init__(
        self,
        prepare: Callable[[Request, float], Item],
        inbox: SimpleQueue[Item],
        clock: Callable[[], float],
        *,
        threads: int = THREADS,
        deadline: float = DEADLINE_S,
    ) -> None:
        self._prepare = prepare
        self._inbox = inbox
        self._clock = clock
        self._most = threads
        self._deadline = deadline
        lock = threading.RLock()
        self._changed = threading.Condition(lock)
        self._begun = threading.Condition(lock)
        # Guarded by the lock that both conditions share.
        self._lanes: dict[str, deque[_Job]] = {}
        self._turns: deque[str] = deque()  # owners with a waiting request and none in progress
        self._working: dict[str, _Job] = {}
        self._jobs: dict[str, _Job] = {}
        self._idle = self._threads = self._overdue = 0
        self._closed = False
        self._watched = False

    def submit(self, request: Request) -> None:
        owner = request.owner
        job = _Job(request, self._clock())
        with self._changed:
            if owner in self._working and self._working[owner].overdue:
                self._fail(job, "an earlier request of the same user is still being prepared")
                return
            self._jobs[request.id] = job
            lane = self._lanes.setdefault(owner, deque())
            lane.append(job)
            if len(lane) == 1 and owner not in self._working:
                self._turns.append(owner)
            self._start_threads()
            self._changed.notify()

    def cancel(self, id: str) -> None:
        """Cancel a request before, during or after its preparation."""
        with self._changed:
            job = self._jobs.get(id)
            if job is None:
                self._inbox.put(Cancel(id))
            elif job.started:
                job.cancelled = True  # the `Cancel` follows the prompt into the inbox
            else:
                self._drop(job)
                waited_ms = (self._clock() - job.arrived) * 1e3
                self._inbox.put(Finished(id, "cancelled", Usage(0, 0, 0, waited_ms, 0.0, 0.0)))

    def close(self) -> None:
        """Prepare nothing more; work in progress is discarded."""
        with self._changed:
            self._closed = True
            self._changed.notify_all()
            self._begun.notify_all()

    def _start_threads(self) -> None:
        allowed = self._most + min(self._overdue, _OVERDUE)
        if self._idle < len(self._turns) and self._threads < allowed:
            self._threads += 1
            threading.Thread(target=self._work, name="prepare", daemon=True).start()
        if not self._watched:
            self._watched = True
            threading.Thread(target=self._watch, name="deadlines", daemon=True).start()

    def _work(self) -> None:
        while (job := self._next()) is not None:
            item = self._prepare(job.request, job.arrived)
            with self._changed:
                owner = job.request.owner
                del self._working[owner]
                if job.overdue:
                    self._overdue -= 1
                elif not self._closed:
                    self._jobs.pop(job.request.id, None)
                    self._inbox.put(item)
                    if job.cancelled:
                        self._inbox.put(Cancel(job.request.id))
                if self._lanes.get(owner):
                    self._turns.append(owner)
                else:
                    self._lanes.pop(owner, None)

    def _next(self) -> _Job | None:
        """Wait for the next request in turn; return None if this thread is no longer needed."""
        with self._changed:
            self._idle += 1
            try:
                while not self._turns and not self._closed:
                    self._changed.wait()
            finally:
                self._idle -= 1
            if self._closed or self._threads > self._most + self._overdue:
                self._threads -= 1
                if self._turns:
                    self._changed.notify()
                return None
            owner = self._turns.popleft()
            job = self._lanes[owner].popleft()
            job.started = time.monotonic()
            self._working[owner] = job
            self._begun.notify()
            return job

    def _watch(self) -> None:
        with self._begun:
            while not self._closed:
                now = time.monotonic()
                left = [
                    job.started + self._deadline - now
                    for job in self._working.values()
                    if not job.overdue
                ]
                due = min(left, default=None)
                if due is None or due > 0:
                    self._begun.wait(due)
                    continue
                for job in list(self._working.values()):
                    if not job.overdue and job.started + self._deadline <= now:
                        self._give_up(job)

    def _give_up(self, job: _Job) -> None:
        owner = job.request.owner
        log.error(
            "Preparing the request timed out",
            extra={"run": job.request.id, "seconds": self._deadline},
        )
        job.overdue = True
        self._overdue += 1
        self._jobs.pop(job.request.id, None)
        why = f"preparing it took more than {self._deadline:g} s"
        self._fail(job, f"{why}: shorten the text, or simplify the template or JSON schema")
        for waiting in self._lanes.pop(owner, ()):
            self._jobs.pop(waiting.request.id, None)
            self._fail(waiting, "an earlier request of the same user is still being prepared")
        self._start_threads()

    def _fail(self, job: _Job, why: str) -> None:
        self._inbox.put(
            Failed(job.request.id, "request_refused", f"The request was refused: {why}.")
        )

    def _drop(self, job: _Job) -> None:
        """Remove a request that was not begun from its lane."""
        owner = job.request.owner
        self._jobs.pop(job.request.id, None)
        lane = self._lanes[owner]
        lane.remove(job)
        if not lane:
            del self._lanes[owner]
            if owner in self._turns:
                self._turns.remove(owner)
