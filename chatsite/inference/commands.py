"""What an administrator asks of the inference hosts: load a model, or let one go."""

from __future__ import annotations

from redis.asyncio import Redis

from chatsite.dispatch.queue import host_hints
from chatsite.errors import ModelUnavailable
from chatsite.inference import status


async def load(redis: Redis, name: str) -> None:
    """``name`` as it is in the catalogue. `status` shows the progress. Raises
    `ModelUnavailable` when no host runs."""
    hosts = await status.alive(redis)
    if not hosts:
        raise ModelUnavailable
    # One host is enough: the one that holds it, or the first.
    holders = [host for host in hosts if any(model.name == name for model in host.models)]
    await redis.publish(host_hints((holders or hosts)[0].id), f"load {name}")


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
