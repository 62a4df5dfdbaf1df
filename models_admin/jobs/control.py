"""What the work of a job tells, and how it hears that it is to end."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

from django.conf import settings
from django.db import Error, connections
from redis import Redis
from redis.exceptions import RedisError

from models_admin import probe
from models_admin.jobs import lines, progress, states
from models_admin.models import Job

log = logging.getLogger(__name__)

_TICK: Final = 0.5
_BEAT_SECONDS: Final = 5.0
_REDIS_SECONDS: Final = 5.0


class Control:
    """Of one attempt at one job. A thread of it keeps the lease, shows the progress and sets
    ``leaving`` when the work shall end; ``wanted`` is then the state to go to, None when the job
    is another worker's now. ``show`` is called with the progress in this process."""

    def __init__(self, job: Job, show: Callable[[progress.Progress], None] | None = None) -> None:
        self.job = job
        self._show_here = show
        self.leaving = threading.Event()
        self.wanted: str | None = ""
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

    def tell(self, done: int, total: int) -> None:
        """Bytes of this stage; cheap, from any thread."""
        self._done, self._total = done, total

    def tell_or_leave(self, done: int, total: int) -> None:
        """`tell` for work that ends by raising: `Leaving` where it shall."""
        self.leave_if_asked()
        self.tell(done, total)

    def at(self, stage: str) -> None:
        """A new stage begins: one of `live.snapshot.STAGES`."""
        self.stage = stage

    def say(self, code: str, **values: object) -> None:
        lines.write(self.job, code, **values)
        if threading.get_ident() != self._owner:
            # A thread of a transfer ends without giving its connection back to the pool.
            connections.close_all()

    def test(self, path: Path) -> None:
        """Loads the file once; raises `ImportRefused` when it is no model that works here."""
        self.leave_if_asked()
        self.at("testing")
        if probe.check(path):
            self.say("probed")
        self.leave_if_asked()

    def leave_if_asked(self) -> None:
        """Raises `Leaving` where the work shall end."""
        if self.leaving.is_set():
            raise Leaving

    @property
    def done(self) -> int:
        return self._done

    def _watch(self) -> None:
        redis = Redis.from_url(
            settings.REDIS_URL, socket_timeout=_REDIS_SECONDS, socket_connect_timeout=_REDIS_SECONDS
        )
        speed, beaten = progress.Speed(), 0.0
        try:
            while not self._ended.wait(_TICK):
                if time.monotonic() - beaten >= _BEAT_SECONDS or self._is_asked():
                    self._beat()
                    beaten = time.monotonic()
                self._show(redis, speed)
            self._beat()
            progress.clear(redis, str(self.job.pk))
        except RedisError:
            pass  # what is not cleared ends by itself
        finally:
            redis.close()
            connections.close_all()

    def _is_asked(self) -> bool:
        try:
            found = Job.objects.filter(pk=self.job.pk).values_list("wanted", flat=True).first()
        except Error:
            connections.close_all()
            return False
        return bool(found) and not self.leaving.is_set()

    def _beat(self) -> None:
        try:
            wanted = states.beat(self.job, stage=self.stage, done=self._done, total=self._total)
        except Error as error:
            log.warning("the lease of job %s is not renewed: %s", self.job.pk, error)
            connections.close_all()  # this thread's: a broken one would stay so
            return
        if wanted is None or wanted:
            self.wanted = wanted
            self.leaving.set()

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
            log.debug("the progress of job %s is not shown: %s", self.job.pk, error)


class Leaving(Exception):
    """The work ends here because somebody asked for it."""
