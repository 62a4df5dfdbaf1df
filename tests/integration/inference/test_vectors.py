"""Embeddings of many texts on their way through the host: they arrive in parts."""

from __future__ import annotations

import asyncio
import time

import pytest

from chatsite.answers.queue.queue import Lease
from chatsite.answers.queue.request import QueuedRequest
from chatsite.engine.contract.messages import API, BATCH, Embed, EmbeddedPart, Priority, ToHost
from chatsite.inference.runner import ModelRunner
from chatsite.inference.running_request import RunningRequest
from tests.support.site import Site


async def test_vectors_that_come_in_parts_are_put_together_in_order(
    site: Site, monkeypatch: pytest.MonkeyPatch
) -> None:
    runner = await site.load("a")
    assert runner
    parts: list[EmbeddedPart] = []
    handle = runner.handle

    def noting(frame: ToHost) -> None:
        if isinstance(frame, EmbeddedPart):
            parts.append(frame)
        handle(frame)

    monkeypatch.setattr(runner, "handle", noting)
    texts = tuple(f"word{number % 7} text" for number in range(1000))
    running = None
    for id, inputs in (("one", texts[:7]), ("many", texts)):
        writer = await site.publisher.open(id, 1)
        embed = Embed("", "1", inputs)
        job = QueuedRequest(id, "1", "a", (), time.time(), embed=embed)
        saved = asyncio.create_task(asyncio.sleep(0, True))
        before, running = running, RunningRequest(Lease(job, 1, last_chance=False), writer, saved)
        await runner.submit(running)
        async with asyncio.timeout(60):
            while runner.running:
                site.changed.clear()
                await site.changed.wait()
    assert len(parts) > 1
    assert before
    assert running
    few, all = before.vectors, running.vectors
    assert few
    assert all
    assert len(all.vectors) == 1000 * all.size * 4
    rows = [all.vectors[at : at + all.size * 4] for at in range(0, len(all.vectors), all.size * 4)]
    assert b"".join(rows[:7]) == few.vectors
    assert rows == (rows[:7] * 143)[:1000]
    assert not running.parts


async def test_batches_of_all_models_wait_while_a_user_is_answered(site: Site) -> None:
    """The children of a host share its processors."""
    first, second = await site.load("a"), await site.load("b")
    assert first
    assert second

    async def submit(runner: ModelRunner, id: str, embed: Embed, priority: Priority) -> None:
        writer = await site.publisher.open(id, 1)
        job = QueuedRequest(id, "1", "a", (), time.time(), priority=priority, embed=embed)
        saved = asyncio.create_task(asyncio.sleep(0, True))
        await runner.submit(RunningRequest(Lease(job, 1, last_chance=False), writer, saved))

    await site.placement.tend_batches(arriving=True)
    texts = tuple(f"word{number}" for number in range(20))
    await submit(first, "batch", Embed("", "0", texts, batch=True), BATCH)
    await submit(second, "user", Embed("", "1", ("hello",)), API)
    async with asyncio.timeout(60):
        while second.running:
            site.changed.clear()
            await site.changed.wait()
    assert first.running
    assert not first.serves_users
    await site.placement.tend_batches()
    async with asyncio.timeout(60):
        while first.running:
            site.changed.clear()
            await site.changed.wait()
