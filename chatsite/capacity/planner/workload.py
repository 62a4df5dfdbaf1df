"""What people do: how long they think, how much they ask, how long the answers are."""

from __future__ import annotations

import math
import random
from dataclasses import dataclass
from typing import Literal

from chatsite.capacity.planner.errors import require


@dataclass(frozen=True)
class Workload:
    """Means of a person's turns.

    ``think_s`` passes between an answer and the next question: exponentially distributed, or
    uniformly from 0 to twice the mean. ``prompt`` and ``answer`` are tokens with the coefficient of
    variation ``spread`` (log-normal; 0: constant). A conversation has ``turns`` turns, each with
    the whole history in its prompt. ``shared`` tokens at its beginning are the same for all.
    """

    think_s: float = 60.0
    prompt: float = 120.0
    answer: float = 300.0
    turns: int = 5
    spread: float = 0.8
    shared: int = 0
    thinking: Literal["exponential", "uniform"] = "exponential"

    def __post_init__(self) -> None:
        numbers = (self.think_s, self.prompt, self.answer, self.spread)
        require(all(math.isfinite(value) for value in numbers), "figures must be finite numbers")
        require(self.think_s >= 0, "think time can't be below 0 s")
        require(self.prompt >= 1 and self.answer >= 1, "prompt and answer need at least 1 token")
        require(0 <= self.spread <= 5, "spread must be from 0 to 5")
        require(self.turns >= 1, "a conversation has at least 1 turn")
        require(self.shared >= 0, "shared tokens can't be below 0")


class Person:
    """One person's random numbers: the same for a seed, whatever others do."""

    def __init__(self, number: int, workload: Workload, seed: int) -> None:
        self.number = number
        self.turn = 0
        self.history = 0
        self._workload = workload
        self._random = random.Random(f"{seed}/{number}")  # noqa: S311  (a simulation)

    def think(self) -> float:
        """Return seconds until the next question."""
        mean = self._workload.think_s
        if mean == 0:
            return 0.0
        if self._workload.thinking == "uniform":
            return self._random.uniform(0, 2 * mean)
        return self._random.expovariate(1 / mean)

    def ask(self, context: int) -> tuple[int, int, int]:
        """Return tokens of the history, of what is new in the prompt, and of the answer.

        A conversation that has had its turns, or would exceed ``context``, is followed by another.
        """
        work = self._workload
        prompt, answer = self._tokens(work.prompt), self._tokens(work.answer)
        fits = self.history + prompt + answer <= context
        if self.turn >= work.turns or not fits:
            self.turn = self.history = 0
        if self.turn == 0:
            self.history = min(work.shared, context // 2)
        # A single turn that exceeds the context is cut to it.
        prompt = max(1, min(prompt, (context - self.history) // 2))
        answer = max(1, min(answer, context - self.history - prompt))
        return self.history, prompt, answer

    def answered(self, prompt: int, answer: int) -> None:
        """Record that the turn is part of the conversation."""
        self.history += prompt + answer
        self.turn += 1

    def _tokens(self, mean: float) -> int:
        spread = self._workload.spread
        if not spread:
            return max(1, round(mean))
        sigma2 = math.log(1 + spread**2)
        return max(1, round(self._random.lognormvariate(math.log(mean) - sigma2 / 2, sigma2**0.5)))
