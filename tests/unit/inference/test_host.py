"""The loops of an inference host."""

from __future__ import annotations

import asyncio

from chatsite.inference.host import repeat


async def test_a_loop_ends_even_if_a_step_swallows_the_cancellation() -> None:
    news = asyncio.Event()
    rounds = 0

    async def step() -> None:
        nonlocal rounds
        rounds += 1
        # Loses a cancellation that arrives together with the event (Python 3.11).
        await asyncio.wait_for(news.wait(), 60)
        news.clear()

    task = asyncio.create_task(repeat(step))
    while not rounds:
        await asyncio.sleep(0)
    await asyncio.sleep(0)
    news.set()
    await asyncio.sleep(0)
    task.cancel()
    async with asyncio.timeout(30):
        await asyncio.wait([task])
    assert rounds == 1
