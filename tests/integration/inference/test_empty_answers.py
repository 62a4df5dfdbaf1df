"""Answers that end without any text are counted, for administrators."""

from __future__ import annotations

import asyncio
import time

import pytest

from chatsite.answers.queue.queue import Lease
from chatsite.answers.queue.request import QueuedRequest
from chatsite.engine.contract.messages import ChatMessage
from chatsite.inference.runner_view import status_of
from chatsite.inference.running_request import RunningRequest
from tests.support.site import Site


async def answered(site: Site, content: str) -> int:
    """Return the count of empty answers after the model has answered ``content``."""
    runner = await site.load("a")
    assert runner
    writer = await site.publisher.open("g", 1)
    messages = (ChatMessage("user", content),)
    job = QueuedRequest("g", "1", "a", messages, time.time())
    saved = asyncio.create_task(asyncio.sleep(0, True))
    await runner.submit(RunningRequest(Lease(job, 1, last_chance=False), writer, saved))
    async with asyncio.timeout(60):
        while runner.running:
            site.changed.clear()
            await site.changed.wait()
    return status_of(runner, "a").empty_answers


@pytest.mark.parametrize(("content", "count"), [("hi @say ", 1), ("hi", 0)])
async def test_page_5_an_answer_without_text_is_counted(
    site: Site, content: str, count: int, caplog: pytest.LogCaptureFixture
) -> None:
    assert await answered(site, content) == count
    assert ("Generation ended without an answer" in caplog.text) == bool(count)
