"""Whether this host loads, or fetches the file of, a model that other hosts serve.

A model is replicated by demand: as long as another host has a free slot for it, requests wait for
that one for a moment. Only when they keep waiting does this host fetch the file and load a replica.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Collection
from typing import Final

from redis.asyncio import Redis

from chatsite.errors import ChatsiteError, ModelFileMissing, ModelUnavailable
from chatsite.hosts import status
from chatsite.hosts.status import HostStatus
from chatsite.inference.file_fetcher import FileFetcher

log = logging.getLogger(__name__)

# Seconds that requests wait before a second host loads a model, or fetches its file.
LOAD_SECONDS: Final = 2.0
FETCH_SECONDS: Final = 5.0
# A host with the file may be restarting: requests wait that long before they are refused.
NO_SOURCE_SECONDS: Final = 60.0
_FRESH_SECONDS: Final = 1.0


class Replicas:
    """What the host ``id`` knows of the others, at most `_FRESH_SECONDS` old."""

    def __init__(
        self,
        id: str,
        redis: Redis,
        fetcher: FileFetcher,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._id, self._redis, self.fetcher, self._clock = id, redis, fetcher, clock
        self._others: list[HostStatus] = []
        self._read_at: float | None = None
        self._since: dict[str, float] = {}
        self._no_source: dict[str, float] = {}

    def set_waiting_models(self, names: Collection[str]) -> None:
        """Set which models have queued requests; those that keep waiting are in demand."""
        now = self._clock()
        self._since = {name: self._since.get(name, now) for name in names}
        self._no_source = {n: since for n, since in self._no_source.items() if n in self._since}

    def _waited(self, name: str) -> float:
        now = self._clock()
        return now - self._since.get(name, now)

    async def others(self) -> list[HostStatus]:
        """Return the other hosts that take requests."""
        now = self._clock()
        if self._read_at is None or now - self._read_at > _FRESH_SECONDS:
            alive = await status.alive(self._redis)
            self._others = [host for host in alive if host.id != self._id and not host.draining]
            self._read_at = now
        return self._others

    async def served_elsewhere(self, name: str) -> bool:
        """Whether queued requests of ``name`` should wait for a host that has it loaded."""
        if self._waited(name) >= LOAD_SECONDS:
            return False
        return any(
            one.name == name and one.state == "ready" and one.busy < one.slots
            for host in await self.others()
            for one in host.models
        )

    async def fetch(self, missing: ModelFileMissing, *, now: bool = False) -> ChatsiteError | None:
        """Fetch a missing file if the demand or ``now`` says so; return why it can't be had.

        None while it may still come: requests then stay queued, also for other hosts.
        """
        name, digest = missing.model, missing.digest
        having = [host for host in await self.others() if digest in host.files]
        urls = [host.files_url for host in having if host.files_url]
        if having:
            self._no_source.pop(name, None)
            if now or self._waited(name) >= FETCH_SECONDS:
                if not urls:
                    log.warning(
                        "Model file is on other hosts, but none of them serves files: set "
                        "CHATSITE_FILES_ADDRESS there",
                        extra={"model": name, "hosts": [host.hostname for host in having]},
                    )
                self.fetcher.fetch(name, digest, missing.size, urls)
            return None
        since = self._no_source.setdefault(name, self._clock())
        if self._clock() - since < NO_SOURCE_SECONDS:
            return None
        log.error("No host has the file of this model", extra={"model": name, "digest": digest})
        return ModelUnavailable()
