"""The capacity planner: laws of queues that hold for any workload, figures for known machines."""

from __future__ import annotations

import statistics
from dataclasses import replace
from itertools import pairwise

import pytest

from chatsite.capacity.planner import machines, plan
from chatsite.capacity.planner.errors import BadPlan
from chatsite.capacity.planner.fair_line import FairLine
from chatsite.capacity.planner.plan import Limits
from chatsite.capacity.planner.simulation import Site, simulate
from chatsite.capacity.planner.speeds import EngineSpeed, from_probe
from chatsite.capacity.planner.workload import Workload

SPEED = EngineSpeed(600, ((1, 14.0), (4, 40.0), (8, 66.0)), slots=8, context=4096)
SITE = Site(SPEED)
WORK = Workload(think_s=20, prompt=80, answer=120, turns=3)
BUSY = Workload(think_s=2, prompt=300, answer=50, turns=2, spread=1.5)
TWO = Site(replace(SPEED, slots=3, cache_tokens=5000), engines=2)


@pytest.mark.parametrize("site", [SITE, TWO], ids=["one", "two engines"])
@pytest.mark.parametrize("work", [WORK, BUSY], ids=["calm", "busy"])
@pytest.mark.parametrize("people", [1, 7, 30])
def test_nothing_is_lost_and_littles_law_holds(site: Site, work: Workload, people: int) -> None:
    seen = simulate(site, work, people, answers=600)
    assert seen.open_at_start + seen.asked == seen.answered + seen.open_at_end
    assert seen.answered == len(seen.stays)
    assert 0 <= seen.open_at_end <= people
    present, rate = seen.present / seen.seconds, seen.answered / seen.seconds
    # L = lambda W; requests that are open at the edges of the window are in only one of them.
    assert present == pytest.approx(rate * statistics.mean(seen.stays), rel=0.06, abs=0.02)
    assert seen.served / seen.seconds <= site.engines * site.speed.slots + 1e-9
    # The interactive response time law: people = rate x (stay + think time).
    cycle = statistics.mean(seen.stays) + work.think_s
    assert people == pytest.approx(rate * cycle, rel=0.12)


@pytest.mark.parametrize("work", [WORK, BUSY], ids=["calm", "busy"])
def test_more_people_never_wait_less(work: Workload) -> None:
    def wait(people: int) -> float:
        runs = [simulate(SITE, work, people, answers=400, seed=seed) for seed in range(4)]
        return statistics.mean(statistics.mean(run.ttft) for run in runs)

    waits = [wait(people) for people in (1, 3, 6, 12, 24, 48)]
    assert all(after >= 0.97 * before for before, after in pairwise(waits))
    assert waits[-1] > 5 * waits[0]


def test_throughput_stays_below_the_bound_and_reaches_it() -> None:
    work = replace(WORK, spread=0.0)
    bound = 1 / plan.answer_cost_s(SITE, work)
    rates = [
        (seen := simulate(SITE, work, people, answers=600)).answered / seen.seconds
        for people in (2, 20, 200)
    ]
    assert rates == sorted(rates)
    # The bound takes histories to be cached; with that, full load comes near to it.
    assert rates[-1] <= 1.02 * bound
    roomy = Site(replace(SPEED, cache_tokens=10**6))
    seen = simulate(roomy, work, 200, answers=600)
    assert seen.answered / seen.seconds == pytest.approx(bound, rel=0.15)


def test_a_lone_person_waits_for_prefill_only() -> None:
    work = Workload(think_s=5, prompt=60, answer=40, turns=1, spread=0.0)
    found = plan.measured(SITE, work, 1, answers=50)
    # A prompt of several steps is computed alone, at the speed of prefill.
    assert found.ttft_p50_s == pytest.approx(60 / 600 + 0.010, abs=0.002)
    assert found.wait_p95_s == 0.0
    # Text every 50 ms at most: steps of 14 ms are joined to 56.
    assert found.gap_p50_s == pytest.approx(0.056)
    assert found.answer_p50_s == pytest.approx(0.1 + 39 * 0.014, abs=0.005)


def test_the_step_target_bounds_gaps() -> None:
    long = Workload(think_s=5, prompt=1500, answer=100, turns=1, spread=0.0)
    gaps = {
        target: plan.measured(Site(SPEED, step_target_ms=target), long, 6, answers=200).gap_p99_s
        for target in (100, 400)
    }
    assert gaps[100] < 0.15 < gaps[400] < 0.5


def test_the_same_seed_gives_the_same_figures() -> None:
    first, again = (plan.measured(TWO, BUSY, 9, answers=100, seed=3) for _ in range(2))
    assert first == again
    assert first != plan.measured(TWO, BUSY, 9, answers=100, seed=4)


def test_the_most_people_are_within_the_limits_and_more_are_not() -> None:
    limits = Limits(2.0, 0.3)
    found = plan.most_people(SITE, WORK, limits, answers=400)
    assert found is not None
    assert found.within(limits)
    more = plan.measured(SITE, WORK, round(found.people * 1.5) + 1, answers=400)
    assert not more.within(limits)
    assert found.people < plan.saturation(SITE, WORK)
    assert plan.most_people(SITE, WORK, Limits(0.001, 0.3), answers=50) is None


def test_two_engines_serve_twice_as_many() -> None:
    one = plan.most_people(SITE, WORK, Limits(), answers=400)
    two = plan.most_people(replace(SITE, engines=2), WORK, Limits(), answers=400)
    assert one is not None
    assert two is not None
    assert 1.8 * one.people < two.people


def test_the_queue_is_fair_between_owners() -> None:
    line: FairLine[str] = FairLine()
    for number in range(3):
        line.put(1, f"a{number}")
    line.put(2, "b0")
    assert [line.take() for _ in range(4)] == ["a0", "b0", "a1", "a2"]
    line.put(2, "b1")
    assert line.take() == "b1"


def test_step_times_follow_from_the_tuning_of_a_host() -> None:
    # Alone 14 ms, eight at once 14 + 7 x 3: the probe stores the mean per token.
    rate, decode = from_probe(3.0, (14 + (14 + 7 * 3) / 8) / 2, 8)
    assert rate == pytest.approx(1000 / 3)
    assert [count for count, _ms in decode] == [1, 8]
    assert [ms for _count, ms in decode] == pytest.approx([14.0, 35.0], abs=0.01)


def test_steps_between_and_above_the_measured_sizes() -> None:
    assert SPEED.decode_ms(0) == 0
    assert SPEED.decode_ms(2) == pytest.approx(14 + 26 / 3)
    assert SPEED.decode_ms(10) == pytest.approx(66 + 2 * 26 / 4)
    assert EngineSpeed(500, ((1, 10.0),), 4).decode_ms(3) == pytest.approx(14)


def test_estimates_follow_bandwidth_and_arithmetic() -> None:
    machine, model = machines.named("h100", "8b")
    speed = machines.estimate(machine, model, bits=16, context=8192)
    read_ms = 8.03e9 * 2 / (3350e9 * machines.BANDWIDTH_SHARE) * 1e3
    assert speed.decode_ms(1) == pytest.approx(machine.step_overhead_ms + read_ms)
    assert speed.estimate
    assert "estimate" in speed.source
    fewer = machines.estimate(machine, model, bits=4, context=8192)
    assert fewer.decode_ms(1) < speed.decode_ms(1)
    assert fewer.slots >= speed.slots
    # A mixture of experts reads more weights with each sequence, and never more than all.
    sparse = machines.estimate(machine, machines.MODELS["30b-a3b"], bits=8, context=8192)
    assert sparse.decode_ms(1) < sparse.decode_ms(8) <= sparse.decode_ms(64)


@pytest.mark.parametrize("name", machines.MACHINES)
def test_every_named_machine_runs_the_smallest_model(name: str) -> None:
    machine, model = machines.named(name, "1.5b")
    site = Site(machines.estimate(machine, model, bits=8, context=4096))
    assert plan.measured(site, WORK, 2, answers=20).tokens_per_s > 0


@pytest.mark.parametrize(
    ("make", "text"),
    [
        (lambda: replace(SPEED, prefill_tokens_per_s=0), "prefill"),
        (lambda: replace(SPEED, prefill_tokens_per_s=float("nan")), "prefill"),
        (lambda: replace(SPEED, decode=()), "at least one"),
        (lambda: replace(SPEED, decode=((4, 9.0), (1, 20.0))), "ascending"),
        (lambda: replace(SPEED, decode=((1, 9.0), (4, 8.0))), "not fall"),
        (lambda: replace(SPEED, slots=0), "slots"),
        (lambda: Workload(think_s=-1), "think"),
        (lambda: Workload(think_s=float("inf")), "finite"),
        (lambda: Workload(answer=0), "answer"),
        (lambda: Workload(turns=0), "turn"),
        (lambda: Site(SPEED, engines=0), "engines"),
        (lambda: Limits(0), "limits"),
        (lambda: simulate(SITE, WORK, 0), "people"),
        (lambda: simulate(SITE, WORK, 1, answers=0), "answers"),
        (lambda: machines.named("abacus", "8b"), "choose from cpu-16"),
        (lambda: machines.named("h100", "9t"), "choose from 1.5b"),
        (
            lambda: machines.estimate(*machines.named("rtx-4090", "70b"), bits=16, context=8192),
            "does not fit",
        ),
    ],
)
def test_bad_input_says_what_to_change(make, text) -> None:
    with pytest.raises(BadPlan, match=text):
        make()


def test_people_who_never_think_keep_all_slots_busy() -> None:
    found = plan.measured(SITE, replace(WORK, think_s=0.0), 20, answers=200)
    assert found.utilization > 0.95
