"""Files of models that this host lacks, fetched from hosts that have them.

A transfer resumes after a restart, uses several connections, and its result is verified by its
SHA-256 (`models_admin.sources.transfer`). Partial files are locked, so hosts that share a data
folder fetch a file once.
"""

from __future__ import annotations

import asyncio
import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from django.db import close_old_connections

from chatsite.audit.record import record
from chatsite.errors import ChatsiteError
from chatsite.hosts.status import ModelStatus
from chatsite.inference.file_server import token_for
from models_admin.models import ModelVersion
from models_admin.sources import egress, transfer
from models_admin.sources.base import Blob
from models_admin.store import disk, partial

log = logging.getLogger(__name__)

# After a failure the next attempt, with another host if there is one, waits this long.
RETRY_SECONDS: Final = 10.0


class Removed(Exception):
    """The model was removed while its file was fetched."""


@dataclass
class _Watcher:
    """The progress of one transfer, and the request to stop it."""

    model: str
    stop_requested: threading.Event = field(default_factory=threading.Event)
    progress: float = 0.0

    def report(self, done: int, total: int) -> None:
        self.progress = done / total if total else 1.0

    def log(self, code: str, **values: object) -> None:
        log.info(
            "Transfer of a model file",
            extra={"model": self.model, "event": code, "values": values},
        )


@dataclass
class _Fetch:
    watcher: _Watcher
    task: asyncio.Task[None]


class FileFetcher:
    """Transfers of this host, at most one for each file. ``changed`` is called at each end."""

    def __init__(self, changed: Callable[[], None]) -> None:
        self._changed = changed
        self._fetches: dict[str, _Fetch] = {}
        self._failed: dict[str, float] = {}
        self._attempts = 0

    def statuses(self) -> tuple[ModelStatus, ...]:
        """Return the models whose files are being fetched, as loading."""
        return tuple(
            ModelStatus(fetch.watcher.model, digest, "loading", round(fetch.watcher.progress, 3))
            for digest, fetch in self._fetches.items()
        )

    def fetch(self, model: str, digest: str, size: int, urls: Sequence[str]) -> None:
        """Begin to fetch a file from one of the hosts at ``urls``, unless that is under way."""
        waited = time.monotonic() - self._failed.get(digest, -RETRY_SECONDS)
        if digest in self._fetches or not urls or waited < RETRY_SECONDS:
            return
        self._attempts += 1
        url = urls[self._attempts % len(urls)]
        log.info("Fetching a model file from another host", extra={"model": model, "url": url})
        watcher = _Watcher(model)
        task = asyncio.create_task(
            self._run(model, digest, size, url, watcher), name=f"fetch {model}"
        )
        self._fetches[digest] = _Fetch(watcher, task)

    async def _run(self, model: str, digest: str, size: int, url: str, watcher: _Watcher) -> None:
        began = time.monotonic()
        try:
            await asyncio.to_thread(fetch_into_store, digest, size, url, watcher)
        except partial.PartialBusy:
            log.info("Another process is fetching this file", extra={"model": model})
            self._failed[digest] = time.monotonic()
        except (transfer.Stopped, Removed):
            pass
        except (ChatsiteError, OSError) as error:
            log.warning("Model file can't be fetched", extra={"model": model, "error": error})
            self._failed[digest] = time.monotonic()
        else:
            seconds = round(time.monotonic() - began, 1)
            log.info("Model file fetched", extra={"model": model, "seconds": seconds})
            target = ("version", digest, model)
            record("model.fetched", via="system", target=target, bytes=size, source=url)
        finally:
            del self._fetches[digest]
            self._changed()

    async def stop(self) -> None:
        """Stop all transfers; what has arrived is kept."""
        for fetch in self._fetches.values():
            fetch.watcher.stop_requested.set()
        await asyncio.gather(
            *(fetch.task for fetch in self._fetches.values()), return_exceptions=True
        )


def fetch_into_store(digest: str, size: int, url: str, watcher: transfer.Watcher) -> None:
    """Fetch the file ``digest`` from the host at ``url`` into the store. Blocks.

    Raises `PartialBusy`, `Removed`, `DiskFull`, `OSError` and the errors of `transfer.fill`.
    """
    egress.trust_host(url)
    address = f"{url}/models/sha256-{digest}"

    def blob() -> Blob:
        return Blob(address, digest, size, "model", token_for(digest))

    try:
        with partial.hold(digest, size) as arriving:
            if disk.is_whole(disk.path_of(digest), size):
                return
            transfer.fill(arriving, blob(), watcher, renew=blob)
            _install(arriving.path, digest)
    finally:
        close_old_connections()


def _install(path: Path, digest: str) -> None:
    with disk.locked():
        if not ModelVersion.objects.filter(digest=digest).exists():
            raise Removed
        target = disk.path_of(digest)
        target.unlink(missing_ok=True)  # a damaged file: a complete one would have been used
        path.chmod(0o600)
        os.link(path, target)
        _mark(digest).touch()
        disk.flush_folder()


def _mark(digest: str) -> Path:
    """Return the file that tells that this machine fetched its copy from another host."""
    folder = disk.folder() / "fetched"
    folder.mkdir(mode=0o700, exist_ok=True)
    return folder / digest


def tidy() -> list[str]:
    """Remove fetched files whose models were removed on the site; return their digests.

    Files that were downloaded or imported here belong to the jobs of this machine.
    """
    gone = []
    with disk.locked():
        fetched = {path.name: path for path in (disk.folder() / "fetched").glob("*")}
        known = set(
            ModelVersion.objects.filter(digest__in=fetched).values_list("digest", flat=True)
        )
        for digest, mark in fetched.items():
            if digest not in known:
                disk.path_of(digest).unlink(missing_ok=True)
                mark.unlink()
                gone.append(digest)
    return gone


def held() -> tuple[str, ...]:
    """Return the digests of the files in the store of this machine."""
    with suppress(OSError):
        names = [entry.name for entry in os.scandir(disk.folder())]
        prefix = "sha256-"
        return tuple(sorted(n.removeprefix(prefix) for n in names if n.startswith(prefix)))
    return ()
