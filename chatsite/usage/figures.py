"""Sums and histograms of requests, which can be added to each other. Pure.

Percentiles of a sum can't be computed from percentiles of its parts, so histograms are stored: the
bounds of their buckets are fixed and grow by `GROWTH`. Adding two histograms gives the histogram of
both, so a percentile of a month has the same error as one of an hour.

The error: a percentile is off by at most `RELATIVE_ERROR` of its value where that is between the
lowest bound of its metric and `HIGHEST` times that. Values below count as the lowest bound, values
above as the highest.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal

GROWTH: Final = 1.1
# An estimate is within a factor of sqrt(GROWTH) of each value of its bucket.
RELATIVE_ERROR: Final = math.sqrt(GROWTH) - 1
HIGHEST: Final = 1e8
_LAST: Final = math.ceil(math.log(HIGHEST) / math.log(GROWTH))
_LOG_GROWTH: Final = math.log(GROWTH)

Metric = Literal["waiting", "ttft", "speed"]
# The lowest bounds: milliseconds, and tokens per second.
LOWEST: Final[Mapping[str, float]] = {"waiting": 1.0, "ttft": 1.0, "speed": 0.01}

Outcome = Literal["done", "failed", "cancelled", "interrupted"]
OUTCOMES: Final = ("done", "failed", "cancelled", "interrupted")
# Fields that are sums, as columns of `models.Cell`.
SUMS: Final = (
    *OUTCOMES,
    "cache_hits",
    "prompt_tokens",
    "cached_tokens",
    "completion_tokens",
)


def bucket_of(value: float, lowest: float) -> int:
    """Return the bucket of a finite value in a histogram."""
    ratio = value / lowest
    # Rounded, so that a bound itself is not moved up by a rounding error of the logarithm.
    bucket = 0 if ratio <= 1 else math.ceil(round(math.log(ratio) / _LOG_GROWTH, 9))
    return min(bucket, _LAST)


class Histogram:
    """Counts of values in logarithmic buckets.

    Bucket 0 has values up to ``lowest``; bucket i those up to ``lowest * GROWTH**i``.
    """

    __slots__ = ("counts", "lowest")

    def __init__(self, lowest: float, counts: Mapping[int, int] | None = None) -> None:
        self.lowest = lowest
        self.counts: Counter[int] = Counter(counts or {})

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Histogram)
            and self.lowest == other.lowest
            and self.counts == other.counts
        )

    __hash__ = None  # type: ignore[assignment]

    def add(self, value: float) -> None:
        """Count a value; those that are not finite are ignored."""
        if math.isfinite(value):
            self.counts[bucket_of(value, self.lowest)] += 1

    def merge(self, other: Histogram) -> None:
        self.counts.update(other.counts)

    @property
    def total(self) -> int:
        return self.counts.total()

    def percentile(self, share: float) -> float | None:
        """Return the value that ``share`` (0 to 1) of all values do not exceed; None if empty."""
        total = self.total
        if not total:
            return None
        rank, seen = max(1, math.ceil(share * total)), 0
        for bucket in sorted(self.counts):
            seen += self.counts[bucket]
            if seen >= rank:
                break
        if bucket == 0:
            return self.lowest
        # The geometric middle of the bucket's bounds.
        return self.lowest * math.pow(GROWTH, bucket - 0.5)


@dataclass(slots=True)
class Request:
    """What one ended request adds. Times are in milliseconds, None if unknown.

    ``awaited``: a person or program waits for the answer. Times of others, such as titles, would
    spoil the percentiles.
    """

    outcome: str
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    waiting: float | None = None
    ttft: float | None = None
    decode: float | None = None
    error: str = ""
    awaited: bool = True

    def buckets(self) -> tuple[tuple[Metric, int], ...]:
        """Return the buckets of its times, the same for every sum that it is added to."""
        if not self.awaited:
            return ()
        # The first token belongs to the prefill, and one token has no speed.
        writes = self.decode and self.completion_tokens > 1
        values: tuple[tuple[Metric, float | None], ...] = (
            ("waiting", self.waiting),
            ("ttft", self.ttft),
            ("speed", self.completion_tokens / self.decode * 1000 if writes else None),  # type: ignore[operator]
        )
        return tuple(
            (metric, bucket_of(value, LOWEST[metric]))
            for metric, value in values
            if value is not None and math.isfinite(value)
        )


def _histograms() -> dict[str, Histogram]:
    return {metric: Histogram(lowest) for metric, lowest in LOWEST.items()}


@dataclass(slots=True)
class Figures:
    """Sums over requests, histograms by metric, and the number of errors by code."""

    done: int = 0
    failed: int = 0
    cancelled: int = 0
    interrupted: int = 0
    cache_hits: int = 0
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    histograms: dict[str, Histogram] = field(default_factory=_histograms)
    errors: Counter[str] = field(default_factory=Counter)

    @property
    def requests(self) -> int:
        return self.done + self.failed + self.cancelled + self.interrupted

    @property
    def tokens(self) -> int:
        return self.prompt_tokens + self.completion_tokens

    @property
    def cached_share(self) -> float | None:
        """Return the share of prompt tokens that came from a cache, 0 to 1."""
        return self.cached_tokens / self.prompt_tokens if self.prompt_tokens else None

    @property
    def error_share(self) -> float | None:
        """Return the share of requests that failed or were interrupted, 0 to 1."""
        return (self.failed + self.interrupted) / self.requests if self.requests else None

    def add(self, request: Request, buckets: tuple[tuple[Metric, int], ...] | None = None) -> None:
        """Add a request; ``buckets`` are its own, if the caller has them already."""
        setattr(self, request.outcome, getattr(self, request.outcome) + 1)
        self.prompt_tokens += request.prompt_tokens
        self.cached_tokens += request.cached_tokens
        self.completion_tokens += request.completion_tokens
        self.cache_hits += request.cached_tokens > 0
        if request.error:
            self.errors[request.error] += 1
        for metric, bucket in request.buckets() if buckets is None else buckets:
            self.histograms[metric].counts[bucket] += 1

    def merge(self, other: Figures) -> None:
        for name in SUMS:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        for metric, histogram in other.histograms.items():
            self.histograms[metric].merge(histogram)
        self.errors.update(other.errors)

    def percentile(self, metric: Metric, share: float) -> float | None:
        return self.histograms[metric].percentile(share)

    def detail(self) -> dict[str, dict[str, int]]:
        """Return histograms and errors as JSON, without empty ones."""
        found = {
            metric: {str(bucket): count for bucket, count in sorted(histogram.counts.items())}
            for metric, histogram in self.histograms.items()
            if histogram.counts
        }
        return {**found, "errors": dict(self.errors)} if self.errors else found

    def take_detail(self, detail: Mapping[str, Mapping[str, int]]) -> None:
        """Add what `detail` returned."""
        for metric, counts in detail.items():
            if metric == "errors":
                self.errors.update(counts)
            elif metric in self.histograms:
                own = self.histograms[metric].counts
                for bucket, count in counts.items():
                    own[int(bucket)] += count


def total(parts: Iterable[Figures]) -> Figures:
    found = Figures()
    for part in parts:
        found.merge(part)
    return found


def of_cell(cell: Any) -> Figures:
    """Return the figures of a row of `models.Cell`."""
    found = Figures(**{name: getattr(cell, name) for name in SUMS})
    found.take_detail(cell.detail)
    return found
