"""Progress, lease and cancellation of one attempt at a job."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from typing import Final

from django.db import Error, connections
from redis import Redis
from redis.exceptions import RedisError

from chatsite.redis_client import connect_blocking
from models_admin.jobs import job_log, progress, states
from models_admin.models import Job

log = logging.getLogger(__name__)

_TICK: Final = 0.5
_BEAT_SECONDS: Final = 5.0


class Control:
    """The context of one attempt at a job.

    Its thread renews the lease, publishes the progress and sets ``stop_requested`` when the work
    must end; ``requested_state`` is then the state to change to, or None if another worker has
    taken over the job. ``show`` is called with the progress in this process.
    """

    def __init__(self, job: Job, show: Callable[[progress.Progress], None] | None = None) -> None:
        self.job = job
        self._show_here = show
        self.stop_requested = threading.Event()
        self.requested_state: str | None = ""
        self.stage = ""
        self._done, self._total = job.done, job.total
        self._ended = threading.Event()
        self._owner = threading.get_ident()
        self._thread = threading.Thread(target=self._watch, name="beat")

    def __enter__(self) -> Control:
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self._ended.set()
        self._thread.join()

    def report(self, done: int, total: int) -> None:
        """Set the progress of this stage in bytes. Cheap and thread-safe."""
        self._done, self._total = done, total

    def report_or_stop(self, done: int, total: int) -> None:
        """Report the progress, or raise `JobInterrupted` if the work must end."""
        self.raise_if_stopped()
        self.report(done, total)

    def enter_stage(self, stage: str) -> None:
        """Begin a stage, one of `live.snapshot.STAGES`."""
        self.stage = stage

    def log(self, code: str, **values: object) -> None:
        """Write a line to the job's log (`job_log`). Thread-safe."""
        job_log.write(self.job, code, **values)
        if threading.get_ident() != self._owner:
            # A transfer's thread ends without closing its database connection.
            connections.close_all()

    def raise_if_stopped(self) -> None:
        """Raise `JobInterrupted` if the work must end."""
        if self.stop_requested.is_set():
            raise JobInterrupted

    @property
    def done(self) -> int:
        return self._done

    def _watch(self) -> None:
        redis = connect_blocking()
        speed, beaten = progress.Speed(), 0.0
        try:
            while not self._ended.wait(_TICK):
                if time.monotonic() - beaten >= _BEAT_SECONDS or self._is_stop_pending():
                    self.beat()
                    beaten = time.monotonic()
                self._show(redis, speed)
            self.beat()
            progress.clear(redis, str(self.job.pk))
        except RedisError:
            pass  # the key expires
        finally:
            redis.close()
            connections.close_all()

    def _is_stop_pending(self) -> bool:
        try:
            found = Job.objects.filter(pk=self.job.pk).values_list("wanted", flat=True).first()
        except Error:
            connections.close_all()
            return False
        return bool(found) and not self.stop_requested.is_set()

    def beat(self) -> None:
        try:
            wanted = states.beat(self.job, stage=self.stage, done=self._done, total=self._total)
        except Error as error:
            log.warning("Lease can't be renewed", extra={"job": self.job.pk, "error": error})
            connections.close_all()  # of this thread; a broken one would not recover
            return
        if wanted is None or wanted:
            self.requested_state = wanted
            self.stop_requested.set()

    def _show(self, redis: Redis, speed: progress.Speed) -> None:
        done, total = self._done, self._total
        rate = speed.at(done)
        left = (total - done) / rate if rate and total > done else None
        shown = progress.Progress(self.stage, done, total, rate, left)
        if self._show_here:
            self._show_here(shown)
        try:
            progress.write(redis, str(self.job.pk), shown)
        except RedisError as error:
            log.debug("Progress can't be published", extra={"job": self.job.pk, "error": error})


class JobInterrupted(Exception):
    """The work ends because of a pause, a cancellation or a lost lease."""
