"""Build the host from the settings and run it until a signal arrives."""

from __future__ import annotations

import asyncio
import fcntl
import os
import secrets
import signal
import socket
from io import TextIOWrapper
from pathlib import Path
from urllib.parse import urlsplit

from asgiref.sync import sync_to_async
from django.conf import settings

from chatsite.answers.queue.queue import Queue
from chatsite.capacity.budget import Budget
from chatsite.capacity.threads import default_threads
from chatsite.engine.tuning import requantized, store
from chatsite.engine.tuning.requantized import Copy
from chatsite.errors import ModelFileMissing
from chatsite.inference import file_fetcher
from chatsite.inference.file_server import FileServer
from chatsite.inference.host import LEASE_PART, Host
from chatsite.inference.model_spec import ModelSpec, RemoteModelRequested
from chatsite.redis_client import connect
from chatsite.stream.publish import Publisher
from models_admin import catalogue, load_preferences
from models_admin.models import ModelVersion
from models_admin.store import disk

ENV = settings.ENV

# Limits of a copy with faster weights: bytes, and the extra memory as a part of the models' budget.
# Decoding one answer of a large model is limited by memory bandwidth.
_MOST_COPIED = 8 << 30
_COPY_SHARE = 8
# Working memory for making a copy.
_TO_MAKE = 3 << 29


@sync_to_async
def resolve(name: str) -> ModelSpec:
    version = catalogue.resolve(name)
    if version.remote:
        raise RemoteModelRequested(name)
    if not disk.is_whole(version.path, version.size):
        raise ModelFileMissing(name, version.digest, version.size)
    wish = load_preferences.preferences_of(version)
    context, slots = wish.context or ENV.context, wish.slots or ENV.slots
    threads = ENV.threads or default_threads()
    tuning_file = ENV.data_dir / "tuning.json"
    copy = copy_for(version, store.find(tuning_file, version.digest, threads))
    # The device decides which tuning applies, so memory is computed for the one that takes most.
    tunings = [known.tuning for known in store.history(tuning_file, version.digest)]
    chosen = [tuning for tuning in tunings if tuning is not None]
    flash = bool(chosen) and all(tuning.flash_attention for tuning in chosen)
    rows = max((tuning.ubatch for tuning in chosen), default=store.UBATCH)
    options = load_preferences.options(
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


def copy_for(version: ModelVersion, known: store.Entry | None) -> Copy | None:
    """Return the location of the copy with faster weights.

    None if it would take too much memory or disk, or was measured and is not faster.
    """
    size = load_preferences.copy_bytes(version)
    room, available = Budget(ENV.memory_mb << 20).room()
    if not ENV.fast_weights or not 0 < size <= _MOST_COPIED:
        return None
    if size - version.size > room // _COPY_SHARE:
        return None
    if known is not None and known.tuning is not None:
        tried = any(one.tuning.weights for one in known.tried)
        if tried and not known.tuning.weights and not known.again:
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
    """Return the pinned models, then the default model if it is to be preloaded."""
    default = catalogue.default_name() if ENV.preload else None
    if default and catalogue.resolve(default).remote:
        default = None
    return list(dict.fromkeys([*load_preferences.pinned_names(), *([default] if default else [])]))


def tidy_copies() -> None:
    """Remove copies that are disabled, and those of models deleted while this host was down."""
    wanted = ModelVersion.objects.all() if ENV.fast_weights else ModelVersion.objects.none()
    requantized.tidy(disk.copies(), set(wanted.values_list("digest", flat=True)))


def host_id(run_dir: Path) -> str:
    """Return an ID that is stable for this data folder and unique per machine."""
    path = run_dir / "host-id"
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        fresh = f"{socket.gethostname()}-{secrets.token_hex(4)}"
        path.write_text(fresh)
        return fresh


def take_lock(run_dir: Path) -> TextIOWrapper:
    """Lock the data folder until exit. Raises `SystemExit` if another host holds it.

    Two hosts on one data folder would reclaim each other's jobs.
    """
    file = (run_dir / "inference.lock").open("a+")
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        raise SystemExit(
            f"Another inference host is using {run_dir.parent}. Stop it, or give this one "
            "its own data folder (CHATSITE_DATA_DIR)."
        ) from None
    file.truncate(0)
    file.write(str(os.getpid()))
    file.flush()
    return file


def serve_files() -> FileServer | None:
    """Start to serve model files to other hosts. Raises `SystemExit` if the address is not free."""
    if not ENV.files_address:
        return None
    parts = urlsplit(f"//{ENV.files_address}")
    try:
        return FileServer(parts.hostname or "", parts.port or 0, ENV.files_mb_per_second * 1e6)
    except OSError as error:
        raise SystemExit(
            f"CHATSITE_FILES_ADDRESS={ENV.files_address} can't be used ({error.strerror}): it must "
            "be an address of this machine with a free port."
        ) from None


async def serve() -> None:
    run_dir = ENV.data_dir / "run"
    run_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
    lock = take_lock(run_dir)
    await sync_to_async(tidy_copies)()
    await sync_to_async(file_fetcher.tidy)()
    server = serve_files()
    redis = connect()
    lease_ms = int(ENV.lease_seconds * LEASE_PART * 1000)
    queue = Queue(redis, max_attempts=ENV.max_attempts, lease_ms=lease_ms)
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
        files_url=f"http://{ENV.files_address}" if server else "",
    )
    task = asyncio.create_task(host.run(), name="host")
    drain: asyncio.Task[None] | None = None

    async def drain_and_end() -> None:
        await host.drain(ENV.drain_seconds)
        task.cancel()

    def on_signal() -> None:
        """Drain first; a second signal ends the host at once."""
        nonlocal drain
        if drain is None:
            drain = asyncio.create_task(drain_and_end(), name="drain")
        else:
            task.cancel()

    loop = asyncio.get_running_loop()
    for name in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(name, on_signal)
    try:
        await task
    except asyncio.CancelledError:
        pass
    finally:
        if server is not None:
            server.close()
        await redis.aclose()
        lock.close()
