"""Token buckets."""

from __future__ import annotations

from chatsite.rate_limit import RateLimiter


def test_a_bucket_fills_with_time_and_not_above_its_burst() -> None:
    now = [0.0]
    limiter = RateLimiter(3, 2, clock=lambda: now[0])
    assert [limiter.take() for _ in range(4)] == [True, True, True, False]
    now[0] = 0.5
    assert [limiter.take() for _ in range(2)] == [True, False]
    now[0] = 1000
    assert [limiter.take() for _ in range(4)] == [True, True, True, False]
