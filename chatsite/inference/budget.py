"""What models may take on this host, and what another host may take in its place."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from redis.asyncio import Redis

from chatsite.errors import ChatsiteError, ModelDoesNotFit, NoPlaceForModel
from chatsite.inference import machine, status


@dataclass(frozen=True)
class Budget:
    """``fixed`` bytes in all, as an administrator has set it; 0 follows the machine."""

    fixed: int = 0
    memory: Callable[[], machine.Memory] = machine.memory

    def room(self) -> tuple[int, int]:
        """Bytes that models may take in all, and those that the machine has left."""
        found = self.memory()
        return self.fixed or found.budget, found.available

    def status(self, committed: int) -> status.HostMemory:
        found = self.memory()
        budget = self.fixed or found.budget
        return status.HostMemory(found.total, found.available, budget, committed)


async def fits_elsewhere(redis: Redis, host: str, model: str, error: ChatsiteError) -> bool:
    """Whether the ``model`` that ``host`` has no memory for may fit another host that is alive:
    one that says so itself does not count, or two would wait for each other for ever."""
    if not isinstance(error, ModelDoesNotFit | NoPlaceForModel):
        return False
    needed = int(error.details.get("needed_mb", 0)) << 20
    return any(
        other.memory and other.memory.budget >= needed and not _refuses(other, model)
        for other in await status.alive(redis)
        if other.id != host
    )


def _refuses(host: status.HostStatus, model: str) -> bool:
    return any(one.name == model and one.state == "failed" for one in host.models)
