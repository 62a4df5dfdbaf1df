"""What an inference host announces: JSON under `redis_keys.host_key`.

The key expires unless it is renewed, so a host with a status is alive.
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Literal

import msgspec
from asgiref.sync import async_to_sync
from redis.asyncio import Redis
from redis.exceptions import RedisError

from chatsite.engine.contract.messages import Stats
from chatsite.errors import ChatsiteError, ModelDoesNotFit, NoPlaceForModel
from chatsite.hosts import wait_estimate
from chatsite.hosts.latency import Histogram
from chatsite.redis_client import PATIENCE_SECONDS, connect_briefly
from chatsite.redis_keys import HOSTS, host_key
from chatsite.sandbox.protection import Protection

log = logging.getLogger(__name__)

# ``unreachable``: no engine that has the model responds.
ModelState = Literal["tuning", "loading", "ready", "waiting", "failed", "unreachable"]
EngineState = Literal["checking", "ready", "down"]

ALIVE_SECONDS = 6.0
ANNOUNCE_SECONDS = 1.0


class ModelStatus(msgspec.Struct, frozen=True):
    """One model on one host.

    ``progress`` is 0 to 1 while tuning or loading; ``context`` is tokens per slot; ``rss_bytes``
    the child's resident memory; ``reason`` why it failed, and ``error`` the refusal if there was
    one (`ChatsiteError.as_dict`); ``stats`` the child's counters since it was loaded.
    ``promised_bytes`` is the memory promised to it; ``wanted_context`` the configured context if
    it did not fit, else 0; ``expires_at`` when it is unloaded if it stays idle, in seconds since
    the epoch. ``typical_seconds`` is the mean time that recent answers held their slots, and
    ``openings`` the estimated seconds until slots become free for queued requests. ``latency`` has
    its requests' latency by stage since it was loaded. ``device_layers`` of its ``layers`` are on
    ``devices`` (bytes by name); ``device_problem`` is why there are not more of them, if a device
    refused layers that should have fitted. ``weights`` is the type of the copy that is loaded in
    place of the file. ``protection`` and ``renderer_protection`` are the sandboxes of its child
    and of its template renderer. ``empty_answers`` counts answers without text since it was
    loaded. ``rough`` is true until its settings are measured; a model that was unloaded for that
    has state ``tuning``. A ``remote`` model is computed by engines of this host.
    """

    name: str
    digest: str
    state: ModelState
    progress: float | None = None
    slots: int = 0
    busy: int = 0
    context: int = 0
    rss_bytes: int = 0
    reason: str = ""
    error: dict[str, Any] = {}
    stats: Stats | None = None
    promised_bytes: int = 0
    wanted_context: int = 0
    pinned: bool = False
    expires_at: float | None = None
    typical_seconds: float | None = None
    openings: tuple[float, ...] = ()
    latency: dict[str, Histogram] = {}
    layers: int = 0
    device_layers: int = 0
    devices: dict[str, int] = {}
    device_problem: str = ""
    weights: str = ""
    protection: Protection | None = None
    renderer_protection: Protection | None = None
    empty_answers: int = 0
    rough: bool = False
    remote: bool = False


class HostMemory(msgspec.Struct, frozen=True):
    """Memory in bytes of the machine, or of the part of it that the host may use.

    ``budget`` is for models, of which ``committed`` is promised to loaded and loading ones.
    """

    total: int
    available: int
    budget: int
    committed: int = 0


class HostDevice(msgspec.Struct, frozen=True):
    """Memory in bytes of a device.

    ``free`` is from the last query, ``promised`` what models may take. ``shared`` if it is the
    machine's own memory.
    """

    name: str
    description: str
    free: int
    total: int
    promised: int
    shared: bool = False


class HostCpu(msgspec.Struct, frozen=True):
    """``busy`` is the share of all processors in use since the last announcement, 0 to 1."""

    cores: int
    busy: float


class HostDisk(msgspec.Struct, frozen=True):
    """Size and free space in bytes of the file system of the data folder."""

    total: int
    free: int


class EngineStatus(msgspec.Struct, frozen=True):
    """A remote engine that this host serves.

    ``busy`` of ``slots`` requests run. ``error`` is why it is down, ``retry_at`` when it is checked
    again, in seconds since the epoch.
    """

    id: int
    name: str
    state: EngineState
    error: str = ""
    busy: int = 0
    slots: int = 0
    retry_at: float | None = None


class HostStatus(msgspec.Struct, frozen=True):
    """``draining``: it ends soon, so it takes no more requests.

    ``files`` are the digests of the model files that it has, ``files_url`` is where other hosts get
    them; empty if it serves none.
    """

    id: str
    hostname: str
    pid: int
    models: tuple[ModelStatus, ...] = ()
    memory: HostMemory | None = None
    devices: tuple[HostDevice, ...] = ()
    cpu: HostCpu | None = None
    disk: HostDisk | None = None
    draining: bool = False
    files: tuple[str, ...] = ()
    files_url: str = ""
    engines: tuple[EngineStatus, ...] = ()

    @property
    def room(self) -> int:
        """Bytes that models may take, in memory and on devices."""
        own = sum(device.total for device in self.devices if not device.shared)
        return own + (self.memory.budget if self.memory else 0)


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(HostStatus).decode


async def announce(redis: Redis, status: HostStatus) -> None:
    async with redis.pipeline(transaction=False) as pipe:
        pipe.set(host_key(status.id), _encode(status), px=int(ALIVE_SECONDS * 1000))
        pipe.sadd(HOSTS, status.id)
        await pipe.execute()


async def withdraw(redis: Redis, host: str) -> None:
    """Remove the host's status in an orderly shutdown."""
    async with redis.pipeline(transaction=False) as pipe:
        pipe.delete(host_key(host))
        pipe.srem(HOSTS, host)
        await pipe.execute()


async def alive(redis: Redis) -> list[HostStatus]:
    """Return all hosts that have announced themselves within `ALIVE_SECONDS`.

    IDs of silent hosts are removed; a host that was only late is added by its next announcement.
    """
    members: set[bytes] = await redis.smembers(HOSTS)  # type: ignore[misc]
    if not members:
        return []
    ids = sorted(members)
    found = await redis.mget([host_key(id.decode()) for id in ids])
    if silent := [id for id, status in zip(ids, found, strict=True) if status is None]:
        await redis.srem(HOSTS, *silent)  # type: ignore[misc]
    return [_decode(status) for status in found if status]


async def alive_or_none(redis: Redis) -> list[HostStatus] | None:
    """Return `alive` for pages and probes; None without a reply within `PATIENCE_SECONDS`."""
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            return await alive(redis)
    except (RedisError, OSError, TimeoutError) as error:
        log.warning("Redis is not responding", extra={"error": error})
        return None


async def ask() -> list[HostStatus] | None:
    """Return `alive_or_none` over a separate connection."""
    async with connect_briefly() as redis:
        return await alive_or_none(redis)


def ask_from_thread() -> list[HostStatus] | None:
    """Return what `ask` returns, to a thread without an event loop."""
    return async_to_sync(ask)()


def seconds_in_line(hosts: list[HostStatus], model: str, ahead: int) -> float | None:
    """Return the seconds until a request with ``ahead`` others before it gets a slot of ``model``.

    None while no host has measured it.
    """
    ready = [
        (known.openings, known.typical_seconds / max(known.slots, 1))
        for host in hosts
        for known in host.models
        if known.name == model and known.state == "ready" and known.typical_seconds is not None
    ]
    return wait_estimate.seconds_in_line(ready, ahead)


def best(hosts: list[HostStatus], model: str) -> ModelStatus | None:
    """Return the status of ``model`` that is nearest to an answer on any host."""
    nearest: tuple[ModelState, ...] = (
        *("ready", "loading", "tuning", "waiting", "unreachable", "failed"),
    )
    found = [status for host in hosts for status in host.models if status.name == model]
    return min(found, key=lambda status: nearest.index(status.state), default=None)


async def fits_elsewhere(redis: Redis, host: str, model: str, error: ChatsiteError) -> bool:
    """Whether ``model``, for which ``host`` has no memory, may fit another host that is alive.

    Hosts that refuse it themselves don't count, or two would wait for each other indefinitely.
    """
    if not isinstance(error, ModelDoesNotFit | NoPlaceForModel):
        return False
    needed = int(error.details.get("needed_mb", 0)) << 20
    return any(
        other.room >= needed and not _refuses(other, model)
        for other in await alive(redis)
        if other.id != host and other.memory and not other.draining
    )


def _refuses(host: HostStatus, model: str) -> bool:
    return any(one.name == model and one.state == "failed" for one in host.models)
