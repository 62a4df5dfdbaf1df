"""Puts the host together from settings, and runs it until a signal comes."""

from __future__ import annotations

import asyncio
import fcntl
import os
import secrets
import signal
import socket
from io import TextIOWrapper
from pathlib import Path

from asgiref.sync import sync_to_async
from django.conf import settings

from chatsite.dispatch.connection import connect
from chatsite.dispatch.queue import Queue
from chatsite.engine import requantized, tuning_store
from chatsite.engine.requantized import Copy
from chatsite.engine.threads import default_threads
from chatsite.inference.budget import Budget
from chatsite.inference.host import Host
from chatsite.inference.spec import ModelSpec
from chatsite.stream.publish import Publisher
from models_admin import catalogue, disk, placing
from models_admin.models import ModelVersion

ENV = settings.ENV

# A copy with faster weights may have so many bytes, and a part of the memory for models more than
# its file: of a large model, one answer is as slow as its weights come from memory.
_MOST_COPIED = 8 << 30
_COPY_SHARE = 8
# Memory in which it is made.
_TO_MAKE = 3 << 29


@sync_to_async
def resolve(name: str) -> ModelSpec:
    version = catalogue.resolve(name)
    wish = placing.wish(version)
    context, slots = wish.context or ENV.context, wish.slots or ENV.slots
    threads = ENV.threads or default_threads()
    tuning_file = ENV.data_dir / "tuning.json"
    copy = _copy(version, tuning_store.find(tuning_file, version.digest, threads))
    # Which of them it will be depends on its devices: so what takes most memory counts.
    tunings = [known.tuning for known in tuning_store.history(tuning_file, version.digest)]
    chosen = [tuning for tuning in tunings if tuning is not None]
    flash = bool(chosen) and all(tuning.flash_attention for tuning in chosen)
    rows = max((tuning.ubatch for tuning in chosen), default=tuning_store.UBATCH)
    options = placing.options(
        *(version, context, slots),
        flash_attention=flash,
        fixed=bool(wish.context),
        rows=rows,
        copy=copy is not None,
    )
    return ModelSpec(
        name=name,
        digest=version.digest,
        path=version.path,
        context=options[0].context,
        slots=slots,
        threads=threads,
        step_target_ms=ENV.step_target_ms,
        cache_bytes=ENV.cache_mb * 2**20,
        backend=ENV.backend,
        tuning_file=tuning_file,
        options=options,
        keep_alive=ENV.keep_alive if wish.keep_alive is None else wish.keep_alive,
        pinned=wish.pinned,
        copy=copy,
    )


def _copy(version: ModelVersion, known: tuning_store.Entry | None) -> Copy | None:
    """Where a copy with faster weights may be; None where it would take too much, or was
    measured and does not pay."""
    size = placing.copy_bytes(version)
    room, available = Budget(ENV.memory_mb << 20).room()
    if not ENV.fast_weights or not 0 < size <= _MOST_COPIED:
        return None
    if size - version.size > room // _COPY_SHARE:
        return None
    if known is not None and known.tuning is not None:
        tried = any(one.tuning.weights for one in known.tried)
        if tried and not known.tuning.weights:
            return None
    copy = disk.copy_of(version.digest)
    return copy if copy.exists or (_has_space(size) and available > size + _TO_MAKE) else None


def _has_space(size: int) -> bool:
    try:
        disk.require_space(size)
    except disk.DiskFull:
        return False
    return True


@sync_to_async
def first_models() -> list[str]:
    """Those that are always loaded, then the one that people get who choose nothing."""
    default = catalogue.default_name() if ENV.preload else None
    return list(dict.fromkeys([*placing.pinned_names(), *([default] if default else [])]))


def tidy_copies() -> None:
    """Removes copies that are not wanted, and of models that went while this host was down."""
    wanted = ModelVersion.objects.all() if ENV.fast_weights else ModelVersion.objects.none()
    requantized.tidy(disk.copies(), set(wanted.values_list("digest", flat=True)))


def host_id(run_dir: Path) -> str:
    """The same on each start from this data folder, different on every machine."""
    path = run_dir / "host-id"
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        fresh = f"{socket.gethostname()}-{secrets.token_hex(4)}"
        path.write_text(fresh)
        return fresh


def take_lock(run_dir: Path) -> TextIOWrapper:
    """Two hosts on one data folder would take each other's jobs back. Held until exit."""
    file = (run_dir / "inference.lock").open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise SystemExit(
            f"Another inference host runs on {run_dir.parent}. Stop it, or give this one "
            "a data folder of its own (CHATSITE_DATA_DIR)."
        ) from None
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    return file


async def serve() -> None:
    run_dir = ENV.data_dir / "run"
    run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = take_lock(run_dir)
    await sync_to_async(tidy_copies)()
    redis = connect()
    queue = Queue(redis, max_attempts=ENV.max_attempts, lease_ms=int(ENV.lease_seconds * 1000))
    host = Host(
        host_id(run_dir),
        redis,
        queue,
        Publisher(redis, ended_ttl_seconds=ENV.stream_ttl),
        resolve=resolve,
        quarantine=sync_to_async(catalogue.quarantine),
        first_models=first_models,
        keep_loaded=ENV.keep_loaded,
        lease_seconds=ENV.lease_seconds,
        budget=Budget(
            ENV.memory_mb << 20,
            layers=None if ENV.gpu_layers == "auto" else ENV.gpu_layers,
            named=ENV.gpu_devices,
        ),
    )
    task = asyncio.create_task(host.run(), name="host")
    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, task.cancel)
    try:
        await task
    except asyncio.CancelledError:
        pass
    finally:
        await redis.aclose()
        lock.close()
