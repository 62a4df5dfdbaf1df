"""What models may take on this host, and what another host may take in its place."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from redis.asyncio import Redis

from chatsite.engine import devices
from chatsite.engine.devices import Device, Hardware
from chatsite.errors import ChatsiteError, ModelDoesNotFit, NoPlaceForModel
from chatsite.inference import machine, status
from chatsite.inference.status import HostDevice, HostMemory

# A device is asked again after this time; to ask takes its driver a moment.
_FRESH_SECONDS = 5.0
# Memory is asked for this often when models are looked after; others are told the same.
_TOLD_SECONDS = 2.0
# One that did not say anything may take long to say nothing again.
_PROBLEM_SECONDS = 60.0


async def _hardware() -> Hardware:
    return await devices.find() if devices.built_for() else Hardware()


@dataclass
class Budget:
    """``fixed`` bytes of memory in all, as an administrator has set it; 0 follows the machine.
    At most ``layers`` of a model are on devices, None for as many as there is room for; only the
    devices that are ``named`` are used, in that order, or all, the one with most room first."""

    fixed: int = 0
    memory: Callable[[], machine.Memory] = machine.memory
    layers: int | None = None
    named: tuple[str, ...] = ()
    find: Callable[[], Awaitable[Hardware]] = _hardware
    known: tuple[Device, ...] = field(default=(), init=False)
    _memory: tuple[float, machine.Memory] | None = field(default=None, init=False)
    _asked: float = field(default=float("-inf"), init=False)
    _without: bool = field(default=False, init=False)

    def room(self) -> tuple[int, int]:
        """Bytes that models may take in all, and those that the machine has left."""
        found = self.memory()
        self._memory = (time.monotonic(), found)
        return self.fixed or found.budget, found.available

    async def devices(self, *, fresh: bool = False) -> tuple[Device, ...]:
        """Those that layers may be on, with what they have left; ``fresh`` asks again."""
        if self.layers == 0 or self._without:
            return ()
        if fresh or time.monotonic() - self._asked >= _FRESH_SECONDS:
            found = await self.find()
            self.known = _chosen(found.devices, self.named)
            self._without = not self.known and not found.problem
            self._asked = time.monotonic() + (_PROBLEM_SECONDS if found.problem else 0)
        return self.known

    def status(self, committed: int) -> HostMemory:
        """As it was when it was last decided on, if that is not long ago."""
        if self._memory and time.monotonic() - self._memory[0] < _TOLD_SECONDS:
            found = self._memory[1]
        else:
            found = self.memory()
        budget = self.fixed or found.budget
        return HostMemory(found.total, found.available, budget, committed)

    def device_status(self, promised: Mapping[str, int]) -> tuple[HostDevice, ...]:
        return tuple(
            HostDevice(
                name=one.name,
                description=one.description,
                free=one.free,
                total=one.total,
                promised=promised.get(one.name, 0),
                shared=one.shared,
            )
            for one in self.known
        )


def _chosen(found: tuple[Device, ...], named: tuple[str, ...]) -> tuple[Device, ...]:
    if not named:
        return tuple(sorted(found, key=lambda device: -device.free))
    by_name = {device.name.lower(): device for device in found}
    return tuple(by_name[name.lower()] for name in named if name.lower() in by_name)


async def fits_elsewhere(redis: Redis, host: str, model: str, error: ChatsiteError) -> bool:
    """Whether the ``model`` that ``host`` has no memory for may fit another host that is alive:
    one that says so itself does not count, or two would wait for each other for ever."""
    if not isinstance(error, ModelDoesNotFit | NoPlaceForModel):
        return False
    needed = int(error.details.get("needed_mb", 0)) << 20
    return any(
        other.room >= needed and not _refuses(other, model)
        for other in await status.alive(redis)
        if other.id != host and other.memory
    )


def _refuses(host: status.HostStatus, model: str) -> bool:
    return any(one.name == model and one.state == "failed" for one in host.models)
