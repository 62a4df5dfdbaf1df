"""What hosts announce, and what remains of hosts that stopped announcing."""

from __future__ import annotations

from redis.asyncio import Redis

from chatsite.hosts import status
from chatsite.redis_keys import HOSTS, host_key


async def test_b7_a_host_that_stopped_announcing_is_forgotten(redis: Redis) -> None:
    for id in ("here", "gone"):
        await status.announce(redis, status.HostStatus(id, "box", 1))
    await redis.delete(host_key("gone"))  # as its expiry does
    assert [host.id for host in await status.alive(redis)] == ["here"]
    assert await redis.smembers(HOSTS) == {b"here"}  # type: ignore[misc]
    await status.announce(redis, status.HostStatus("gone", "box", 1))
    assert len(await status.alive(redis)) == 2
