"""Which answers are runaway loops, and which never are."""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence
from typing import Any

import pytest

from chatsite.engine.batching import repetition
from chatsite.engine.batching.repetition import RepetitionDetector
from chatsite.engine.contract.messages import Finished, SamplingParams


def stopped_at(tokens: list[int], start: int = 0) -> int | None:
    """Return how many tokens the detector lets through; None for all of them."""
    detector = RepetitionDetector(start)
    written = tokens[:start]
    for token in tokens[start:]:
        written.append(token)
        if detector.repeats(written):
            return len(written)
    return None


def noise(count: int, seed: int = 1) -> list[int]:
    chance = random.Random(seed)
    return [chance.randrange(1000, 50_000) for _ in range(count)]


@pytest.mark.parametrize("period", [1, 2, 3, 7, 16, 31, 62, 100, 248, 300, 512])
@pytest.mark.parametrize("before", [0, 333])
def test_page_8_a_loop_of_any_period_is_stopped(period: int, before: int) -> None:
    tokens = noise(before) + noise(period, seed=2) * (6000 // period)
    at = stopped_at(tokens)
    assert at is not None
    repeated = at - before
    assert 1024 <= repeated <= 2048 + 512 + 31
    assert repeated / period >= min(64, 2048 / 512)


def test_page_8_a_loop_with_repetition_inside_its_period_is_stopped() -> None:
    period = [5] * 40 + [6, 7] * 30 + noise(20)
    assert stopped_at(noise(50) + period * 40) is not None


def rows(count: int, width: int = 12) -> list[int]:
    """Return a table: each row has the same frame of tokens, and one cell of its own."""
    return list(itertools.chain.from_iterable([1, *range(10, 10 + width), n] for n in range(count)))


@pytest.mark.parametrize(
    "tokens",
    [
        noise(20) * 50,  # "write this 50 times"
        noise(10) * 100,
        noise(30) * 50,
        [7, 8] * 500,  # a list of 500 zeros
        ([7, 8] * 28 + [9]) * 28,  # a matrix of zeros
        noise(300) * 5,  # a paragraph, five times
        rows(400),
        list(itertools.chain.from_iterable([3, n, 4, 5] for n in range(1500))),  # a counted list
        (noise(60, 1) + noise(30, 3)) * 12,  # verses with a refrain
        noise(6000),
    ],
    ids=[
        *("50 times", "100 times", "50 lines", "zeros", "matrix", "paragraph", "table", "counted"),
        *("refrain", "text"),
    ],
)
def test_page_8_requested_repetition_is_not_stopped(tokens: list[int]) -> None:
    assert stopped_at(noise(100, seed=9) + tokens + noise(100, seed=8)) is None


def test_page_8_the_prompt_and_earlier_attempts_do_not_count() -> None:
    loop = noise(4) * 500
    assert stopped_at(loop + loop[:1000], start=2000) is None
    assert stopped_at(loop + loop, start=2000) is not None


def test_page_8_the_work_per_token_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    """Counts searches and comparisons for a text that always looks like a loop."""
    searches: list[int] = []
    comparisons: list[int] = []
    search, runs = repetition.find_period, repetition.is_periodic

    def searching(tokens: Sequence[int], count: int) -> int | None:
        searches.append(count)
        return search(tokens, count)

    def comparing(tokens: Sequence[int], count: int, period: int) -> bool:
        comparisons.append(period)
        return runs(tokens, count, period)

    monkeypatch.setattr(repetition, "find_period", searching)
    monkeypatch.setattr(repetition, "is_periodic", comparing)
    nearly = list(itertools.chain.from_iterable([[5] * 440, [n]] for n in range(1000, 1050)))
    tokens = list(itertools.chain.from_iterable(nearly))
    assert stopped_at(tokens) is None
    assert 0 < len(searches) <= len(tokens) / 31
    assert 0 < len(comparisons) <= 16 * len(searches)


@pytest.fixture
def roomy(make_harness):
    return make_harness(context=8192, slots=1)


def ask(harness: Any, words: str, **params: Any) -> None:
    harness.ask("g", words, params=SamplingParams(**{"stop_repetition": True, **params}))
    harness.finish(limit=10_000)


LOOP = "over and over " * 1000


def test_page_8_the_engine_ends_a_loop_with_its_own_reason(roomy) -> None:
    ask(roomy, LOOP)
    assert roomy.reason("g") == "repetition"
    (end,) = roomy.ends("g")
    assert isinstance(end, Finished)
    assert 1024 < end.usage.completion_tokens < 1100
    assert not any(slot.busy for slot in roomy.engine.slots)


@pytest.mark.parametrize(
    ("params", "reason"),
    [
        ({"stop_repetition": False}, "stop"),
        ({"min_tokens": 2500}, "repetition"),
        ({"ignore_eos": True, "max_tokens": 3500}, "length"),
        ({"max_tokens": 1000}, "length"),
    ],
)
def test_page_8_it_respects_the_parameters_of_a_request(roomy, params, reason) -> None:
    ask(roomy, LOOP, **params)
    (end,) = roomy.ends("g")
    assert isinstance(end, Finished)
    assert end.reason == reason
    assert end.usage.completion_tokens >= params.get("min_tokens", 0)
