"""Figures of the overview from the requests of the last hour."""

from __future__ import annotations

import pytest

from models_admin.adminsite.overview.activity import MINUTES, Request, percentile, summarize

NOW = 1_800_000_000.0


def request(
    ago: float,
    *,
    first: float | None = 1.0,
    wait: float = 0.5,
    took: float = 11.0,
    tokens: int = 100,
    owner: int = 1,
    state: str = "done",
    error: str = "",
) -> Request:
    """Return a request ``ago`` seconds before `NOW`; all durations are in seconds."""
    queued = NOW - ago
    return Request(queued, queued + wait, queued + took, owner, state, tokens, first, error)


def test_nothing_is_a_figure_too() -> None:
    found = summarize([], NOW)
    assert (found.active, found.requests, found.errors, found.tokens) == (0, 0, 0, 0)
    assert found.ttft_p50 is None
    assert found.series.ttft_p95 == [None] * MINUTES
    assert len(found.series.minutes) == MINUTES
    assert found.series.minutes[-1] == int(NOW)


def test_tokens_are_spread_over_the_time_in_which_they_were_generated() -> None:
    # 100 tokens in the 10 seconds after the first text, across the border of two minutes.
    found = summarize([request(66)], NOW)
    assert found.series.tokens[-2] == pytest.approx(5 * 10 / 60)
    assert found.series.tokens[-1] == pytest.approx(5 * 10 / 60)
    assert sum(found.series.tokens) * 60 == pytest.approx(100)


def test_running_and_waiting_are_means_over_each_minute() -> None:
    queued, started = NOW - 180, NOW - 120
    still = Request(queued, started, None, 1, "running", 0, None, "")
    waiting = Request(NOW - 30, None, None, 2, "queued", 0, None, "")
    found = summarize([still, waiting], NOW)
    assert found.series.waiting[-3:] == pytest.approx([1, 0, 0.5])
    assert found.series.running[-3:] == pytest.approx([0, 1, 1])


def test_users_count_as_active_for_a_quarter_of_an_hour() -> None:
    found = summarize(
        [request(60), request(120), request(800, owner=2), request(1000, owner=3)], NOW
    )
    assert found.active == 2


def test_errors_are_counted_by_code_and_recency() -> None:
    rows = [
        request(30, state="failed", error="context_overflow"),
        request(40, state="failed", error="context_overflow"),
        request(2000, state="interrupted"),
        request(50, state="cancelled"),
    ]
    found = summarize(rows, NOW)
    assert (found.errors, found.recent_errors, found.recent_requests) == (3, 2, 3)
    assert found.codes[0] == ("context_overflow", 2)
    assert sum(found.series.errors) == 3


def test_percentiles_are_of_nearest_rank() -> None:
    found = summarize([request(300, first=value) for value in range(1, 101)], NOW)
    assert (found.ttft_p50, found.ttft_p95) == (50, 95)
    assert percentile([], 0.5) is None
    assert percentile([7], 0.95) == 7


def test_a_request_from_before_the_hour_that_still_runs_is_drawn_from_its_begin() -> None:
    old = Request(NOW - 5000, NOW - 4990, NOW - 3500, 1, "done", 50, 12.0, "")
    found = summarize([old], NOW)
    assert found.series.running[0] == pytest.approx(1)
    assert all(value >= 0 for value in found.series.running)
