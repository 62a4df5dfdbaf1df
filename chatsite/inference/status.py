"""What an inference host says of itself, and what others read: key ``cs:host:<id>``, JSON.

The key expires when the host falls silent, so what can be read is alive.
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from redis.asyncio import Redis

from chatsite.engine.messages import Stats
from chatsite.inference import expect
from chatsite.inference.latency import Histogram

ModelState = Literal["measuring", "loading", "ready", "waiting", "failed"]

_HOSTS = "cs:hosts"
ALIVE_SECONDS = 6.0
ANNOUNCE_SECONDS = 1.0


class ModelStatus(msgspec.Struct, frozen=True):
    """One model on one host. ``progress`` is 0 to 1 while measuring or loading; ``context`` is
    tokens per slot; ``rss_bytes`` what the engine child holds; ``reason`` why it failed,
    ``error`` the refusal if there was one (`ChatsiteError.as_dict`);
    ``stats`` what the child has counted since it was loaded. ``promised_bytes`` are what it may
    take; ``wanted_context`` is the context that did not fit memory, 0 if all is as wanted;
    ``expires_at`` when it is let go unless somebody asks, in seconds since the epoch.
    ``typical_seconds`` is what an answer had its slot for lately, and ``openings`` the seconds
    after which slots get free for those in line by that measure. ``latency`` is how long its
    requests took since it was loaded, stage by stage. ``device_layers`` of its
    ``layers`` are on ``devices`` (bytes by name); ``device_problem`` is why there are not more of
    them, where a device did not take what it had room for. ``weights`` are those of a copy that is
    computed in place of its file."""

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


class HostMemory(msgspec.Struct, frozen=True):
    """Bytes: of the machine, or of the part of it that the host may use; what models may take of
    it in all (``budget``), and what is promised to those that are loaded or being loaded."""

    total: int
    available: int
    budget: int
    committed: int = 0


class HostDevice(msgspec.Struct, frozen=True):
    """Bytes: of a device, ``free`` when it was last asked, and ``promised`` to models.
    ``shared``: they are the machine's own."""

    name: str
    description: str
    free: int
    total: int
    promised: int
    shared: bool = False


class HostStatus(msgspec.Struct, frozen=True):
    id: str
    hostname: str
    pid: int
    models: tuple[ModelStatus, ...] = ()
    memory: HostMemory | None = None
    devices: tuple[HostDevice, ...] = ()

    @property
    def room(self) -> int:
        """Bytes that models may take, wherever."""
        own = sum(device.total for device in self.devices if not device.shared)
        return own + (self.memory.budget if self.memory else 0)


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(HostStatus).decode


async def announce(redis: Redis, status: HostStatus) -> None:
    async with redis.pipeline(transaction=False) as pipe:
        pipe.set(f"cs:host:{status.id}", _encode(status), px=int(ALIVE_SECONDS * 1000))
        pipe.sadd(_HOSTS, status.id)
        await pipe.execute()


async def withdraw(redis: Redis, host: str) -> None:
    """The host leaves in good order."""
    async with redis.pipeline(transaction=False) as pipe:
        pipe.delete(f"cs:host:{host}")
        pipe.srem(_HOSTS, host)
        await pipe.execute()


async def alive(redis: Redis) -> list[HostStatus]:
    """All hosts that have announced themselves within `ALIVE_SECONDS`."""
    ids: set[bytes] = await redis.smembers(_HOSTS)  # type: ignore[misc]
    if not ids:
        return []
    found = await redis.mget([f"cs:host:{id.decode()}" for id in sorted(ids)])
    return [_decode(status) for status in found if status]


def seconds_in_line(hosts: list[HostStatus], model: str, ahead: int) -> float | None:
    """When one with ``ahead`` others before it gets a slot for ``model``; None while nobody has
    measured it."""
    ready = [
        (known.openings, known.typical_seconds / max(known.slots, 1))
        for host in hosts
        for known in host.models
        if known.name == model and known.state == "ready" and known.typical_seconds is not None
    ]
    return expect.seconds_in_line(ready, ahead)


def best(hosts: list[HostStatus], model: str) -> ModelStatus | None:
    """The state nearest to an answer that any host has ``model`` in."""
    nearest: tuple[ModelState, ...] = ("ready", "loading", "measuring", "waiting", "failed")
    found = [status for host in hosts for status in host.models if status.name == model]
    return min(found, key=lambda status: nearest.index(status.state), default=None)
