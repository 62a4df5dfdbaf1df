"""Estimates of the queue time, compared with simulated queues."""

from __future__ import annotations

import heapq
import random
from statistics import fmean

import pytest

from chatsite.hosts.status import HostStatus, ModelState, ModelStatus
from chatsite.hosts.status import seconds_in_line as of_hosts
from chatsite.hosts.wait_estimate import Occupancy, seconds_in_line


def measured(*durations: float) -> Occupancy:
    occupancy = Occupancy()
    for duration in durations:
        occupancy.add(duration)
    return occupancy


def test_there_is_no_estimate_without_measurements() -> None:
    occupancy = measured(2.0, 2.0)
    assert occupancy.typical is None
    assert occupancy.openings([1.0], 2) == ()
    host = HostStatus("h", "h", 1, models=(ModelStatus("m", "d", "ready", slots=2),))
    assert of_hosts([host], "m", 3) is None
    assert seconds_in_line([], 3) is None


def test_answers_of_equal_duration_are_predicted_exactly() -> None:
    openings = measured(10.0, 10.0, 10.0).openings([4.0, 9.0], 2)
    assert openings[:5] == (1.0, 6.0, 11.0, 16.0, 21.0)
    told = [seconds_in_line([(openings, 5.0)], ahead) for ahead in (0, 3, 31, 32, 40)]
    assert told == [1.0, 16.0, 156.0, 161.0, 201.0]


def test_a_free_slot_has_no_wait_and_a_long_answer_delays() -> None:
    occupancy = measured(1.0, 2.0, 3.0)
    idle = occupancy.openings([], 2)
    assert idle[:2] == (0.0, 0.0)
    assert 0.0 < idle[2] <= 3.0
    assert occupancy.openings([2.5], 1)[0] == 0.5
    assert 1.0 <= occupancy.openings([50.0], 1)[0] <= 3.0
    occupancy.add(90.0)
    assert occupancy.openings([], 2)[-1] > idle[-1]


def test_only_the_recent_ones_count() -> None:
    assert measured(*[100.0] * 50, *[1.0] * 24).typical == 1.0


def test_all_hosts_that_are_ready_count() -> None:
    def host(state: ModelState, *openings: float) -> HostStatus:
        known = ModelStatus("m", "d", state, slots=1, typical_seconds=10.0, openings=openings)
        return HostStatus("h", "h", 1, models=(known,))

    hosts = [host("ready", 8.0, 18.0), host("ready", 3.0, 13.0), host("failed", 0.0)]
    told = [of_hosts(hosts, "m", ahead) for ahead in range(6)]
    assert told == [3.0, 8.0, 13.0, 18.0, 23.0, 28.0]
    assert of_hosts(hosts, "other", 0) is None


@pytest.mark.parametrize("ahead", [0, 2, 8, 20])
def test_estimates_are_right_on_average(ahead: int) -> None:
    """Answers of very different lengths, on four slots, observed at random times."""
    chance = random.Random(ahead)
    said, true = [], []
    for _ in range(300):
        # At a random time a long answer is more likely to be running than a short one.
        lengths = [chance.uniform(2, 18) for _ in range(24)]
        met = chance.choices(lengths, weights=lengths, k=4)
        ages = [length * chance.random() for length in met]
        told = seconds_in_line([(measured(*lengths).openings(ages, 4), 2.5)], ahead)
        assert told is not None
        said.append(told)
        free = [length - age for length, age in zip(met, ages, strict=True)]
        heapq.heapify(free)
        for _ in range(ahead):
            heapq.heapreplace(free, free[0] + chance.choice(lengths))
        true.append(free[0])
    assert fmean(said) == pytest.approx(fmean(true), rel=0.1, abs=0.5)
