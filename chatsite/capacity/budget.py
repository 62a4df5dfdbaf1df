"""The memory that models may take on this host."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field

from chatsite.capacity import machine
from chatsite.engine.contract import devices
from chatsite.engine.contract.devices import Device, Hardware
from chatsite.hosts.status import HostDevice, HostMemory

# A device is queried again after this time; a query takes its driver a moment.
_FRESH_SECONDS = 5.0
# The status reuses a memory reading this long, so it shows what decisions were based on.
_TOLD_SECONDS = 2.0
# A device that did not answer may take long again.
_PROBLEM_SECONDS = 60.0


async def _hardware() -> Hardware:
    return await devices.find() if devices.built_for() else Hardware()


@dataclass
class Budget:
    """The memory and devices that models may use.

    ``fixed`` is the total memory for models in bytes as set by an administrator; 0 follows the
    machine. At most ``layers`` of a model go to devices, None for as many as fit. Only the
    ``named`` devices are used, in that order; without names all of them, the freest first.
    """

    fixed: int = 0
    memory: Callable[[], machine.MachineMemory] = machine.memory
    layers: int | None = None
    named: tuple[str, ...] = ()
    find: Callable[[], Awaitable[Hardware]] = _hardware
    known: tuple[Device, ...] = field(default=(), init=False)
    _memory: tuple[float, machine.MachineMemory] | None = field(default=None, init=False)
    _asked: float = field(default=float("-inf"), init=False)
    _without: bool = field(default=False, init=False)

    def room(self) -> tuple[int, int]:
        """Return the bytes that models may take in total, and those that the machine has left."""
        found = self.memory()
        self._memory = (time.monotonic(), found)
        return self.fixed or found.budget, found.available

    async def devices(self, *, fresh: bool = False) -> tuple[Device, ...]:
        """Return the devices for layers and their free bytes; ``fresh`` forces a query."""
        if self.layers == 0 or self._without:
            return ()
        if fresh or time.monotonic() - self._asked >= _FRESH_SECONDS:
            found = await self.find()
            self.known = _chosen(found.devices, self.named)
            self._without = not self.known and not found.problem
            self._asked = time.monotonic() + (_PROBLEM_SECONDS if found.problem else 0)
        return self.known

    def status(self, committed: int) -> HostMemory:
        """Return the memory as of the last decision if that is recent, else as of now."""
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
