"""Celery tasks of the chat."""

from __future__ import annotations

import asyncio

from asgiref.sync import sync_to_async

from chatsite.answers import reaper
from chatsite.answers.admission import Admitted
from chatsite.answers.runtime import close_runtime, runtime
from chatsite.celery import app
from chatsite.chat import turns
from chatsite.conversations.models import Generation
from chatsite.knowledge.turns import prepare


@app.task(name="chatsite.chat.reap_generations", ignore_result=True)
def reap_generations() -> None:
    """Queue or end generations that no process holds; started by beat."""
    asyncio.run(_reap())


async def _reap() -> None:
    try:
        await reaper.reap_once(rebuild)
    finally:
        await close_runtime()


async def rebuild(generation: Generation) -> Admitted:
    """Return the request of a saved turn, with the passages that its documents have for it."""
    turn = await sync_to_async(turns.turn_of)(generation)
    await prepare(runtime(), turn.answer, generation)
    return await sync_to_async(turns.admitted)(turn)
