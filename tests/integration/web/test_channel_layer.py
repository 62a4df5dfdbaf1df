"""The channel layer while Redis refuses writes or fails."""

from __future__ import annotations

import asyncio

import pytest
from channels.layers import channel_layers
from redis.asyncio import Redis

from chatsite.web import channel_layer


async def test_low_a_socket_keeps_listening_when_redis_refuses_writes(
    redis: Redis, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A memory limit stands in for a full disk: the same scripts are refused."""
    monkeypatch.setattr(channel_layer, "RETRY_SECONDS", 0.01)
    layer = channel_layers.make_backend("default")
    channel = await layer.new_channel()
    await redis.config_set("maxmemory", 1)
    try:
        receiving = asyncio.create_task(layer.receive(channel))
        await asyncio.sleep(0.1)
        assert not receiving.done()
    finally:
        await redis.config_set("maxmemory", 0)
    await layer.send(channel, {"type": "x"})
    async with asyncio.timeout(60):
        assert (await receiving)["type"] == "x"
    receiving = asyncio.create_task(layer.receive(channel))
    await asyncio.sleep(0.05)
    await redis.client_kill_filter(_type="normal", skipme=True)
    await asyncio.sleep(0.05)
    assert not receiving.done()
    await layer.send(channel, {"type": "y"})
    async with asyncio.timeout(60):
        assert (await receiving)["type"] == "y"
    await layer.close_pools()
