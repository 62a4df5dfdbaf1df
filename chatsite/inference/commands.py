"""What an administrator asks of the inference hosts: load a model, or let one go."""

from __future__ import annotations

from redis.asyncio import Redis

from chatsite.dispatch.queue import host_hints
from chatsite.errors import ModelUnavailable
from chatsite.inference import status


async def load(redis: Redis, name: str, keep_alive: float | None = None) -> None:
    """``name`` as it is in the catalogue; it stays unused for ``keep_alive`` seconds, for ever if
    negative, or as the model's own setting says. `status` shows the progress. Raises
    `ModelUnavailable` when no host runs."""
    hosts = await status.alive(redis)
    if not hosts:
        raise ModelUnavailable
    # One host is enough: one that holds it, or the one with the most memory left.
    holders = [host for host in hosts if any(model.name == name for model in host.models)]
    chosen = max(holders or hosts, key=_memory_left)
    words = ["load", name, *([] if keep_alive is None else [f"{keep_alive:g}"])]
    await redis.publish(host_hints(chosen.id), " ".join(words))


async def unload(redis: Redis, digest: str) -> int:
    """Lets the model go wherever it is idle; returns how many answers keep it elsewhere."""
    busy = 0
    for host in await status.alive(redis):
        held = [model for model in host.models if model.digest == digest]
        if not held:
            continue
        busy += held[0].busy
        await redis.publish(host_hints(host.id), f"unload {digest}")
    return busy


def _memory_left(host: status.HostStatus) -> int:
    return host.memory.budget - host.memory.committed if host.memory else 0
