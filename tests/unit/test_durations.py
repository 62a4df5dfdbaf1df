"""Durations in the syntax of Ollama's clients."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from chatsite.durations import MAX_SECONDS, longer, seconds


@pytest.mark.parametrize(
    ("written", "found"),
    [
        *((300, 300), ("5m", 300), ("1h30m", 5400), ("1.5s", 1.5), ("0", 0)),
        *((0, 0), (-1, -1), ("-1m", -60), ("250ms", 0.25)),
    ],
)
def test_durations_are_parsed(written, found):
    assert seconds(written) == pytest.approx(found)


@pytest.mark.parametrize("written", ["", "5 m", "m", "5x", "for ever", "--1", "300", "-1"])
def test_invalid_durations_are_refused(written):
    with pytest.raises(ValueError, match="must look like"):
        seconds(written)


def test_unlimited_is_the_longest_duration():
    assert longer(5, 300) == 300
    assert longer(-1, 300) == longer(300, -1) == -1


@pytest.mark.parametrize("written", [1e300, 10**400, "9" * 60 + "h"])
def test_low_keep_alive_is_never_more_than_a_date_holds(written):
    assert seconds(written) == MAX_SECONDS
    now = datetime.now(UTC)
    assert now + timedelta(seconds=seconds(written)) > now


@pytest.mark.parametrize("written", [float("inf"), float("nan"), "1" * 65, "1s" * 40, "٣s"])
def test_h2_durations_too_long_or_not_numeric_are_refused(written):
    with pytest.raises(ValueError, match="must look like"):
        seconds(written)
