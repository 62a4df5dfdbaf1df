"""Histograms can be added, and percentiles keep to the stated error."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatsite.usage.figures import (
    GROWTH,
    HIGHEST,
    LOWEST,
    RELATIVE_ERROR,
    Figures,
    Histogram,
    Request,
    total,
)

values = st.lists(st.floats(1.0, 1e7), min_size=1, max_size=60)
shares = st.sampled_from([0.0, 0.1, 0.5, 0.9, 0.95, 0.99, 1.0])
requests = st.builds(
    Request,
    outcome=st.sampled_from(["done", "failed", "cancelled", "interrupted"]),
    prompt_tokens=st.integers(0, 10_000),
    cached_tokens=st.integers(0, 10_000),
    completion_tokens=st.integers(0, 5_000),
    waiting=st.none() | st.floats(0, 1e6),
    ttft=st.none() | st.floats(0, 1e6),
    decode=st.none() | st.floats(0, 1e6),
    error=st.sampled_from(["", "context_overflow", "engine_failed"]),
    awaited=st.booleans(),
)


def exact(found: list[float], share: float) -> float:
    return sorted(found)[max(1, math.ceil(share * len(found))) - 1]


def histogram(found: list[float], lowest: float = 1.0) -> Histogram:
    made = Histogram(lowest)
    for value in found:
        made.add(value)
    return made


@given(values, shares)
def test_percentiles_keep_to_the_error(found: list[float], share: float) -> None:
    estimate = histogram(found).percentile(share)
    assert estimate is not None
    right = exact(found, share)
    assert abs(estimate - right) <= right * (RELATIVE_ERROR + 1e-6)


@given(values, values, shares)
def test_percentiles_of_sums_are_those_of_all_values(
    left: list[float], right: list[float], share: float
) -> None:
    made = histogram(left)
    made.merge(histogram(right))
    assert made == histogram(left + right)
    assert made.percentile(share) == histogram(left + right).percentile(share)


def test_values_outside_the_range_count_as_its_bounds() -> None:
    assert histogram([0.0, 0.5, -3.0]).percentile(0.5) == 1.0
    far = histogram([1e30]).percentile(0.5)
    assert far is not None
    assert far == pytest.approx(HIGHEST, rel=GROWTH - 1)
    assert histogram([math.nan, math.inf]).total == 0
    assert Histogram(1.0).percentile(0.5) is None
    # Speeds of large models on small machines are below 1.
    assert histogram([0.4], LOWEST["speed"]).percentile(0.5) == pytest.approx(0.4, rel=0.05)


@given(st.lists(requests, max_size=20), st.lists(requests, max_size=20))
def test_figures_are_added_and_stored_without_loss(left: list[Request], right: list[Request]):
    whole, parts = Figures(), (Figures(), Figures())
    for part, some in zip(parts, (left, right), strict=True):
        for request in some:
            part.add(request)
            whole.add(request)
    assert total(parts) == whole
    assert whole.requests == len(left) + len(right)
    stored = Figures()
    stored.take_detail(whole.detail())
    assert stored.histograms == whole.histograms
    assert stored.errors == whole.errors


def test_a_title_counts_without_spoiling_the_percentiles() -> None:
    found = Figures()
    found.add(Request("done", 10, 0, 5, waiting=60_000.0, ttft=61_000.0, decode=5.0, awaited=False))
    assert (found.done, found.tokens) == (1, 15)
    assert found.percentile("ttft", 0.5) is None


def test_one_token_has_no_speed() -> None:
    found = Figures()
    found.add(Request("done", 10, 0, 1, decode=0.0))
    found.add(Request("done", 10, 0, 1, decode=1.0))
    assert found.percentile("speed", 0.5) is None
    found.add(Request("done", 10, 0, 50, decode=1000.0))
    assert found.percentile("speed", 0.5) == pytest.approx(50, rel=0.05)
