"""What the overview polls."""

from __future__ import annotations

import msgspec


class TokenCounter(msgspec.Struct, frozen=True):
    """Tokens that a model on a host has generated since it was loaded."""

    key: str
    decoded: int


class OverviewCharts(msgspec.Struct, frozen=True):
    """Series of the last hour, one value per minute; see `activity.Series`."""

    minutes: list[int]
    requests: list[int]
    errors: list[int]
    tokens: list[float]
    running: list[float]
    waiting: list[float]
    ttft_p50: list[float | None]
    ttft_p95: list[float | None]


class OverviewNow(msgspec.Struct, frozen=True):
    """The state of the site. ``regions`` is HTML by ID of the element that shows it.

    ``at`` is in seconds since the epoch. ``charts`` is null if the database does not answer.
    """

    at: float
    regions: dict[str, str]
    counters: list[TokenCounter]
    charts: OverviewCharts | None
