"""`/healthz`: whether a chat would work now, and `/healthz/<part>`: whether one part works.

`live` and `ready` are for orchestrators: `live` asks only whether this process answers, `ready`
whether this web server can serve (its database, Redis and disk), whatever the inference hosts do.
`queue` and `celery` send a job that does nothing the whole way, at most once in five seconds for
all who ask.
"""

from __future__ import annotations

import asyncio
import logging
import os
import tempfile
import time
import uuid
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Final, TypeVar

from asgiref.sync import sync_to_async
from django.conf import settings
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe

from chatsite.answers.queue.queue import Queue
from chatsite.answers.queue.request import PROBE_MODEL, QueuedRequest
from chatsite.audit import verification
from chatsite.hosts import status
from chatsite.redis_client import connect_briefly
from chatsite.redis_keys import probe_key
from chatsite.tasks import answer_probe
from models_admin import catalogue

logger = logging.getLogger(__name__)

# Timeout of each check.
PATIENCE_SECONDS = 3.0

# Free space that a chat needs at least: SQLite and Redis write their logs in such steps.
_ROOM_BYTES = 1 << 20

# A job is sent at most this often, and the result of the last one is reported meanwhile.
_PROBE_SECONDS: Final = 5.0
_POLL_SECONDS: Final = 0.02
# Probes in the queue at most; each leaves it after `PATIENCE_SECONDS`.
_PROBES_MAX: Final = 100

T = TypeVar("T")


@never_cache
@require_safe
async def healthz(request: HttpRequest) -> HttpResponse:
    """Return 200 if a chat would work, else 503 with the parts that are ``missing``.

    Also 200 (``no_model``) if only a model is missing: an operator installs one while the site
    runs. ``audit`` is added while audit events can't be stored. The endpoint is public: the
    response has counts, no names.
    """
    models, hosts, writable = await asyncio.gather(
        _answer("database", sync_to_async(catalogue.offered)()),
        _answer("redis", status.ask()),
        _answer("disk", asyncio.to_thread(_write)),
    )
    missing = []
    if models is None:
        missing.append("database")
    if hosts is None:
        missing.append("redis")
    elif not hosts:
        missing.append("inference")
    if writable is None:
        missing.append("disk")
    if missing:
        return JsonResponse({"status": "unavailable", "missing": missing}, status=503)
    answer = {
        "status": "ok" if models else "no_model",
        "models": len(models or ()),
        "hosts": len(hosts or ()),
    }
    spooled = await _answer("audit", asyncio.to_thread(verification.spool_state))
    if spooled is None or spooled.is_delayed:
        answer["audit"] = "delayed"
    return JsonResponse(answer)


def _write() -> bool:
    """Allocate space in the data folder for what a chat writes, and free it again.

    Raises `OSError` if the disk or the quota is full, or the file system is read-only.
    """
    with tempfile.TemporaryFile(dir=settings.DATA_DIR) as file:
        if hasattr(os, "posix_fallocate"):
            os.posix_fallocate(file.fileno(), 0, _ROOM_BYTES)
        else:
            file.write(bytes(_ROOM_BYTES))
            file.flush()
    return True


async def _answer(name: str, part: Awaitable[T]) -> T | None:
    """Return the result of a check; None after any error or a timeout."""
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await part
    except Exception as error:  # noqa: BLE001  (a probe must answer whatever is wrong)
        logger.warning("Health check failed", extra={"part": name, "error": repr(error)})
        return None


@never_cache
@require_safe
async def part(request: HttpRequest, name: str) -> HttpResponse:
    """Return 200 or 503 for one part, with the milliseconds that its check took.

    404 with the names of all parts for an unknown one. Public, as `healthz`.
    """
    if name == "live":
        return JsonResponse({"status": "ok"})
    if name != "ready" and name not in CHECKS:
        known = ["live", "ready", *CHECKS]
        return JsonResponse({"status": "unknown_part", "parts": known}, status=404)
    began = time.monotonic()
    names = _OF_WEB_SERVER if name == "ready" else (name,)
    answers = await asyncio.gather(*(_answer(one, CHECKS[one]()) for one in names))
    missing = [one for one, works in zip(names, answers, strict=True) if not works]
    if missing:
        return JsonResponse({"status": "unavailable", "missing": missing}, status=503)
    return JsonResponse({"status": "ok", "ms": round((time.monotonic() - began) * 1e3)})


async def _database() -> bool:
    await sync_to_async(catalogue.offered)()
    return True


async def _redis() -> bool:
    async with connect_briefly() as redis:
        await redis.time()
    return True


async def _inference() -> bool:
    return bool(await status.ask())


async def _disk() -> bool:
    return await asyncio.to_thread(_write)


async def _audit() -> bool:
    return not (await asyncio.to_thread(verification.spool_state)).is_delayed


async def _through_queue() -> bool:
    """Queue a job that does nothing, and wait until a host has leased and finished it."""
    job = QueuedRequest(str(uuid.uuid4()), "0", PROBE_MODEL, (), time.time())
    async with connect_briefly() as redis:
        queue = Queue(redis)
        await queue.submit(job, queue_max=_PROBES_MAX, person_max=_PROBES_MAX)
        try:
            while (await queue.state(job.id)).state is not None:
                await asyncio.sleep(_POLL_SECONDS)
        finally:
            # Also after a timeout: no host shall find probes that nobody waits for.
            await asyncio.shield(queue.finish(job.id))
    return True


async def _through_celery() -> bool:
    """Send a task that does nothing, and wait until a worker has run it."""
    id = str(uuid.uuid4())
    await asyncio.to_thread(
        answer_probe.apply_async, (id,), expires=PATIENCE_SECONDS, retry=False, ignore_result=True
    )
    async with connect_briefly() as redis:
        while not await redis.delete(probe_key(id)):
            await asyncio.sleep(_POLL_SECONDS)
    return True


class SharedCheck:
    """Runs a check once for all who ask meanwhile, and at most every `_PROBE_SECONDS`."""

    def __init__(self, check: Callable[[], Coroutine[Any, Any, bool]]) -> None:
        self.check = check
        self._loop: asyncio.AbstractEventLoop | None = None
        self._task: asyncio.Task[bool] | None = None
        self._began = 0.0

    async def __call__(self) -> bool:
        loop, now = asyncio.get_running_loop(), time.monotonic()
        stale = self._task is None or (self._task.done() and now - self._began >= _PROBE_SECONDS)
        if self._task is None or stale or self._loop is not loop:
            self._loop, self._began = loop, now
            self._task = asyncio.create_task(self._bounded())
        return await asyncio.shield(self._task)

    async def _bounded(self) -> bool:
        async with asyncio.timeout(PATIENCE_SECONDS * 0.9):
            return await self.check()


CHECKS: Final[dict[str, Callable[[], Coroutine[Any, Any, bool]]]] = {
    "database": _database,
    "redis": _redis,
    "disk": _disk,
    "inference": _inference,
    "audit": _audit,
    "queue": SharedCheck(_through_queue),
    "celery": SharedCheck(_through_celery),
}
_OF_WEB_SERVER: Final = ("database", "redis", "disk")
