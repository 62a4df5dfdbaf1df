"""Figures of a simulation, and the most people within limits."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from chatsite.capacity.planner.errors import require
from chatsite.capacity.planner.simulation import Observed, Site, simulate
from chatsite.capacity.planner.workload import Workload

MOST_PEOPLE = 200_000


@dataclass(frozen=True)
class Limits:
    """What people accept: seconds to the first text (p95) and between two texts (p99)."""

    ttft_p95_s: float = 2.0
    gap_p99_s: float = 0.3

    def __post_init__(self) -> None:
        require(self.ttft_p95_s > 0 and self.gap_p99_s > 0, "limits must be above 0 s")


@dataclass(frozen=True)
class Figures:
    """Seconds, unless named otherwise. ``utilization`` is the mean share of busy slots."""

    people: int
    ttft_p50_s: float
    ttft_p95_s: float
    wait_p95_s: float
    gap_p50_s: float
    gap_p99_s: float
    gap_max_s: float
    answer_p50_s: float
    tokens_per_s: float
    answers_per_minute: float
    utilization: float
    cached_share: float

    def within(self, limits: Limits) -> bool:
        return self.ttft_p95_s <= limits.ttft_p95_s and self.gap_p99_s <= limits.gap_p99_s


def figures(seen: Observed, site: Site) -> Figures:
    gap = _quantiles_of(seen.gaps)
    slots = site.engines * site.speed.slots
    prompts = seen.prefilled + seen.reused
    return Figures(
        people=seen.people,
        ttft_p50_s=_quantile(seen.ttft, 0.5),
        ttft_p95_s=_quantile(seen.ttft, 0.95),
        wait_p95_s=_quantile(seen.waits, 0.95),
        gap_p50_s=gap(0.5),
        gap_p99_s=gap(0.99),
        gap_max_s=gap(1.0),
        answer_p50_s=_quantile(seen.stays, 0.5),
        tokens_per_s=round(seen.tokens / seen.seconds, 1) if seen.seconds else 0.0,
        answers_per_minute=round(60 * seen.answered / seen.seconds, 1) if seen.seconds else 0.0,
        utilization=round(seen.served / seen.seconds / slots, 3) if seen.seconds else 0.0,
        cached_share=round(seen.reused / prompts, 3) if prompts else 0.0,
    )


def measured(
    site: Site, workload: Workload, people: int, *, answers: int = 1000, seed: int = 1
) -> Figures:
    """Simulate ``people`` and return the figures."""
    return figures(simulate(site, workload, people, answers=answers, seed=seed), site)


def most_people(
    site: Site,
    workload: Workload,
    limits: Limits,
    *,
    answers: int = 1000,
    seed: int = 1,
    progress: Callable[[int], None] = lambda people: None,
) -> Figures | None:
    """Return the figures of the most people within ``limits``; None if one is too many.

    Waits grow with people, so the number is bracketed by doubling, then bisected to 2 %.
    """

    def ask(people: int) -> Figures:
        progress(people)
        return measured(site, workload, people, answers=answers, seed=seed)

    best: Figures | None = None
    low, high = 0, 1
    while high <= MOST_PEOPLE:
        found = ask(high)
        if not found.within(limits):
            break
        best, low, high = found, high, 2 * high
    else:
        return best
    while high - low > max(1, low // 50):
        middle = (low + high) // 2
        found = ask(middle)
        if found.within(limits):
            best, low = found, middle
        else:
            high = middle
    return best


def answer_cost_s(site: Site, workload: Workload) -> float:
    """Return the seconds of one engine that an answer takes at full load.

    Its new prompt tokens at the speed of prefill, and its share of steps with all slots busy:
    ``prompt / prefill + answer x step(slots) / slots``. Histories are taken to be in the cache.
    """
    speed = site.speed
    history = workload.shared + (workload.turns - 1) / 2 * (workload.prompt + workload.answer)
    held = min(history + workload.prompt + workload.answer / 2, speed.context)
    step_ms = speed.step_ms(speed.slots, 0, round(held * speed.slots))
    prefill_ms = workload.prompt / speed.prefill_tokens_per_ms
    return (prefill_ms + workload.answer * step_ms / speed.slots) / 1e3


def saturation(site: Site, workload: Workload) -> float:
    """Return the people at which the engines are busy all the time (the asymptotic bound).

    ``engines x (think + answer alone) / answer_cost_s``: with more, waits grow by the cost of an
    answer per person. Figures get bad before that.
    """
    alone_ms = workload.prompt / site.speed.prefill_tokens_per_ms
    alone_ms += workload.answer * site.speed.decode_ms(1)
    return site.engines * (workload.think_s + alone_ms / 1e3) / answer_cost_s(site, workload)


def _quantile(values: Sequence[float], share: float) -> float:
    if not values:
        return 0.0
    ordered = sorted(values)
    return round(ordered[min(len(ordered) - 1, math.ceil(len(ordered) * share) - 1)], 4)


def _quantiles_of(counts: Counter[float]) -> Callable[[float], float]:
    """Return a function from a share to the quantile in seconds of milliseconds by count."""
    ordered = sorted(counts.items())
    total = sum(counts.values())

    def quantile(share: float) -> float:
        seen = 0
        for ms, count in ordered:
            seen += count
            if seen >= share * total:
                return round(ms / 1e3, 4)
        return 0.0

    return quantile
