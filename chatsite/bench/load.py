"""The load: concurrent users with several turns each, and the same words for every candidate."""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

_TEXT = """
river mountain window garden teacher market letter engine summer bridge paper kitchen doctor
forest island music planet history silver morning village harbour answer valley winter number
doorway lantern picture holiday farmer station library ocean evening bicycle
"""
_WORDS = _TEXT.split()


@dataclass(frozen=True)
class Shape:
    """``users`` users with ``turns`` turns each.

    Questions have ``words`` words, answers ``tokens`` tokens, and up to ``think`` seconds lie
    between turns, evenly distributed. Over HTTP all conversations begin with the same ``system``
    words, or each with its own if they are ``private``. With ``lines`` the question is a text of
    that many lines, to be repeated with one word changed.
    """

    users: int
    turns: int = 3
    words: int = 60
    tokens: int = 64
    think: float = 0.5
    system: int = 0
    private: bool = False
    lines: int = 0


@dataclass
class Record:
    """What the clients of one run measured, in seconds."""

    ttft: list[float] = field(default_factory=list)
    gaps: list[float] = field(default_factory=list)
    tokens: int = 0
    errors: list[str] = field(default_factory=list)
    wall: float = 0.0

    def summary(self) -> dict[str, Any]:
        """Return tokens per second, and latencies in milliseconds."""
        return {
            "tokens_per_s": round(self.tokens / self.wall, 1) if self.wall else 0.0,
            "ttft_p50_ms": _quantile(self.ttft, 0.5),
            "ttft_p95_ms": _quantile(self.ttft, 0.95),
            "gap_p50_ms": _quantile(self.gaps, 0.5),
            "gap_p99_ms": _quantile(self.gaps, 0.99),
            "gap_max_ms": _quantile(self.gaps, 1.0),
            "errors": len(self.errors),
            "first_error": self.errors[0] if self.errors else "",
        }


def _quantile(values: Sequence[float], q: float) -> float:
    if not values:
        return 0.0
    ordered = sorted(values)
    return round(ordered[min(len(ordered) - 1, int(len(ordered) * q))] * 1000, 1)


def words(chooser: random.Random, count: int) -> str:
    return " ".join(chooser.choice(_WORDS) for _ in range(count))


def questions(shape: Shape, user: int, seed: int) -> list[str]:
    chooser = random.Random(f"{seed}/{user}")
    if shape.lines:
        return [_edit(chooser, shape.lines)]
    return [f"({user}) Tell me about {words(chooser, shape.words)}." for _ in range(shape.turns)]


def _edit(chooser: random.Random, lines: int) -> str:
    text = []
    for _ in range(lines):
        one, two, three, four = words(chooser, 4).split()
        text.append(f"The {one} of the {two} has a {three} for every {four}.")
    task = f"Repeat this text line by line, but write {four.upper()} where the last line"
    return "\n".join([f"{task} says {four}.", "", *text])


# Asks one question in a user's conversation; adds times and tokens to the record.
Turn = Callable[[int, int, str, Record], Awaitable[None]]


async def run(shape: Shape, turn: Turn, seed: int) -> Record:
    """Run all users concurrently, each through their turns."""
    record = Record()

    async def user(number: int) -> None:
        thinking = random.Random(f"think/{seed}/{number}")
        await asyncio.sleep(thinking.random() * shape.think)
        for index, question in enumerate(questions(shape, number, seed)):
            try:
                await turn(number, index, question, record)
            except Exception as error:  # noqa: BLE001
                record.errors.append(f"{type(error).__name__}: {error}")
                return
            await asyncio.sleep(thinking.random() * shape.think)

    began = time.perf_counter()
    await asyncio.gather(*(user(number) for number in range(shape.users)))
    record.wall = time.perf_counter() - began
    return record


def median(summaries: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the median of each figure over several runs."""
    names = [name for name, value in summaries[0].items() if isinstance(value, int | float)]
    return {name: round(statistics.median(s[name] for s in summaries), 3) for name in names}
