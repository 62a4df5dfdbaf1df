"""Lengths of time as Ollama's clients write them."""

from __future__ import annotations

import pytest

from chatsite.durations import longer, seconds


@pytest.mark.parametrize(
    ("written", "found"),
    [
        *((300, 300), ("5m", 300), ("1h30m", 5400), ("1.5s", 1.5), ("0", 0)),
        *((0, 0), (-1, -1), ("-1m", -60), ("250ms", 0.25)),
    ],
)
def test_what_is_written(written, found):
    assert seconds(written) == pytest.approx(found)


@pytest.mark.parametrize("written", ["", "5 m", "m", "5x", "for ever", "--1", "300", "-1"])
def test_what_is_no_length_of_time(written):
    with pytest.raises(ValueError, match="is not like"):
        seconds(written)


def test_for_ever_is_longest():
    assert longer(5, 300) == 300
    assert longer(-1, 300) == longer(300, -1) == -1
