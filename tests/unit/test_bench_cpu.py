"""CPU time attributed to tokens, requests and idling."""

from __future__ import annotations

import pytest

from chatsite.bench.cpu import Used, split


def test_cpu_time_is_attributed_to_tokens_requests_and_idling() -> None:
    """10 ms per idle second, 20 ms for each of 8 requests and 100 us per token."""

    def used(wall: float, tokens: int) -> Used:
        requests = 8 if tokens else 0
        daphne = 0.010 * wall + 0.020 * requests + 100e-6 * tokens
        return Used({"daphne": daphne, "redis": 0.001 * wall}, wall, tokens)

    figures = split(used(30, 0), used(7, 512), used(25, 2048), 8)
    assert figures == pytest.approx(
        {
            "idle_ms_daphne": 10.0,
            "idle_ms_redis": 1.0,
            "idle_ms_all": 11.0,
            "streamed_us_daphne": 100.0,
            "streamed_us_redis": 0.0,
            "streamed_us_all": 100.0,
            "request_ms_daphne": 20.0,
            "request_ms_redis": 0.0,
            "request_ms_all": 20.0,
        }
    )


def test_a_site_elsewhere_has_no_figures() -> None:
    assert split(Used({}, 1), Used({}, 1, 8), Used({}, 1, 32), 8) == {}
