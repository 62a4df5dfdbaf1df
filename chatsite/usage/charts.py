"""The data of charts, which `static/src/charts/` draws."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Literal

from django.utils.functional import Promise
from django.utils.translation import gettext as _

from chatsite.usage import organization
from chatsite.usage.figures import Figures
from chatsite.usage.report import Period, Point

Unit = Literal["count", "milliseconds"]
Read = Callable[[Figures], int | float | None]


def chart(
    period: Period,
    points: Iterable[Point],
    *,
    kind: Literal["bars", "lines"],
    unit: Unit,
    series: Iterable[tuple[str | Promise, Read]],
) -> dict[str, Any]:
    """Return a chart as JSON: ``at`` in seconds, and per series a value for each, or null."""
    all = list(points)
    return {
        "kind": kind,
        "unit": unit,
        "hourly": period.hourly,
        "zone": str(organization.zone()),
        "at": [int(point.at.timestamp()) for point in all],
        "series": [
            {
                "label": str(label),
                "values": [
                    None if point.figures is None else _rounded(read(point.figures))
                    for point in all
                ],
            }
            for label, read in series
        ],
    }


def requests(period: Period, points: list[Point]) -> dict[str, Any]:
    series: list[tuple[str, Read]] = [
        (_("Requests"), lambda found: found.requests),
        (_("Errors"), lambda found: found.failed + found.interrupted),
    ]
    return chart(period, points, kind="bars", unit="count", series=series)


def tokens(period: Period, points: list[Point]) -> dict[str, Any]:
    series: list[tuple[str, Read]] = [
        (_("Prompt tokens"), lambda found: found.prompt_tokens),
        (_("Output tokens"), lambda found: found.completion_tokens),
    ]
    return chart(period, points, kind="lines", unit="count", series=series)


def times(period: Period, points: list[Point]) -> dict[str, Any]:
    series: list[tuple[str, Read]] = [
        (_("Time to first token, p50"), lambda found: found.percentile("ttft", 0.5)),
        (_("Time to first token, p95"), lambda found: found.percentile("ttft", 0.95)),
        (_("Waiting, p95"), lambda found: found.percentile("waiting", 0.95)),
    ]
    return chart(period, points, kind="lines", unit="milliseconds", series=series)


def _rounded(value: int | float | None) -> int | float | None:
    return round(value, 1) if isinstance(value, float) else value
