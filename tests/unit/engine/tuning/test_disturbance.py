"""What counts as CPU use by other programs."""

from __future__ import annotations

import os

import pytest

from chatsite.engine.tuning.disturbance import Disturbance

TICKS = os.sysconf("SC_CLK_TCK")
CPUS = os.cpu_count() or 1


def stat(user: float = 0, system: float = 0, idle: float = 0, steal: float = 0) -> str:
    """Return a line of /proc/stat from seconds summed over all CPUs."""
    seconds = (user, 0, system, idle, 0, 0, 0, steal, 0, 0)
    return f"cpu  {' '.join(str(int(one * TICKS)) for one in seconds)}\ncpu0 1 2 3\n"


def share(after: str, *, seconds: float = 10.0, own: float = 0.0, before: str = stat()) -> float:
    reads, clocks, owns = iter((before, after)), iter((0.0, seconds)), iter((0.0, own))
    disturbance = Disturbance(lambda: next(reads), lambda: next(clocks), lambda: next(owns))
    return disturbance.share()


def test_t100_cpu_time_of_other_programs_is_distinguished_from_ones_own() -> None:
    assert share(stat(user=10 * CPUS), own=10.0 * CPUS) == 0.0
    assert share(stat(user=10 * CPUS), own=5.0 * CPUS) == pytest.approx(0.5)
    assert share(stat(system=2 * CPUS, idle=8 * CPUS)) == pytest.approx(0.2)
    assert share(stat(steal=3 * CPUS)) == pytest.approx(0.3)
    assert share(stat(idle=10 * CPUS)) == 0.0
    assert share(stat(user=1), own=2.0) == 0.0  # clocks of different resolution


@pytest.mark.parametrize("text", ["", "cpu", "cpu 1 2", "cpu a b c d e f g h i j"])
def test_t100_a_system_without_cpu_statistics_counts_as_undisturbed(text: str) -> None:
    assert share(text, before=text) == 0.0


def test_t100_the_real_machine_is_read() -> None:
    assert 0.0 <= Disturbance().share() <= 1.0
