"""The loads that the comparison runs on every server, by name."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any, Final

from chatsite.bench import load
from chatsite.bench.api import Server, chat_completions
from chatsite.bench.load import Record, Shape

Figures = dict[str, Any]
# Measures once; another seed gives other words.
Case = Callable[[Server, int], Awaitable[Figures]]

_CHAT: Final = Shape(8, turns=4, think=1.0, system=200)
_WARM: Final = Shape(1, turns=1, words=5, tokens=4, think=0)
# Conversations in between, and how many of them run concurrently: as many as there are slots.
_OTHERS, _AT_ONCE = 16, 8


def _chat(shape: Shape) -> Case:
    async def measure(server: Server, seed: int) -> Figures:
        async with chat_completions(server, shape, seed) as turn:
            return (await load.run(shape, turn, seed)).summary()

    return measure


async def _returning(server: Server, seed: int) -> Figures:
    """Return the TTFT in ms of a conversation that continues immediately, and after eviction.

    For the second, other conversations have taken all slots. Also returns the ratio of the two.
    """
    shape = Shape(1, system=400, tokens=16, private=True)
    other = Shape(_OTHERS, words=150, tokens=4, private=True)
    record, between = Record(), Record()
    async with (
        chat_completions(server, shape, seed) as turn,
        chat_completions(server, other, seed + 1000) as other_turn,
    ):
        asked = load.questions(shape, 0, seed)
        await turn(0, 0, asked[0], record)
        await turn(0, 1, asked[1], record)
        for first in range(0, _OTHERS, _AT_ONCE):
            await asyncio.gather(
                *(
                    other_turn(user, 0, load.questions(other, user, seed + 1000)[0], between)
                    for user in range(first, first + _AT_ONCE)
                )
            )
        await turn(0, 2, asked[2], record)
    errors = record.errors + between.errors
    in_slot, evicted = record.ttft[1:] if not errors else (0.0, 0.0)
    return {
        "ttft_in_slot_ms": round(in_slot * 1000, 1),
        "ttft_evicted_ms": round(evicted * 1000, 1),
        "evicted_to_in_slot": round(evicted / (in_slot or 1), 3),
        "errors": len(errors),
        "first_error": errors[0] if errors else "",
    }


CASES: Final[dict[str, Case]] = {
    "1": _chat(replace(_CHAT, users=1)),
    "8": _chat(_CHAT),
    "24": _chat(replace(_CHAT, users=24)),
    "private": _chat(replace(_CHAT, system=800, private=True)),
    "edit": _chat(Shape(1, turns=1, tokens=512, think=0, lines=60)),
    "return": _returning,
}


async def warm_up(server: Server) -> None:
    """Warm up connections, the page cache and the model, which are not to be measured."""
    await _chat(_WARM)(server, -1)
