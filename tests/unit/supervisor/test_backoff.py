from __future__ import annotations

from chatsite.supervisor.backoff import Backoff


def delays(*lives: float, backoff: Backoff | None = None) -> list[float]:
    backoff, found = backoff or Backoff(), []
    for lived in lives:
        delay, backoff = backoff.after(lived)
        found.append(round(delay, 3))
    return found


def test_it_doubles_up_to_the_ceiling() -> None:
    assert delays(*[0.1] * 10) == [0.2, 0.4, 0.8, 1.6, 3.2, 6.4, 12.8, 25.6, 30, 30]


def test_a_long_life_resets_the_backoff() -> None:
    assert delays(0, 0, 0, 60, 0) == [0.2, 0.4, 0.8, 0.2, 0.4]


def test_just_short_of_a_long_life_does_not_reset_it() -> None:
    assert delays(0, 0, 59.9) == [0.2, 0.4, 0.8]


def test_it_never_overflows() -> None:
    assert delays(0, backoff=Backoff(deaths=100_000)) == [30]
