"""Which models are admitted to how much memory, and which are evicted for them."""

from __future__ import annotations

import pytest

from chatsite.capacity.admission import (
    Limits,
    Load,
    LoadedModel,
    PinnedFull,
    Reject,
    Wait,
    decide,
)
from chatsite.capacity.offload_layout import Layout, Option

PLENTY = 1000


def option(total: int, context: int = 4096) -> Option:
    return Option(context, total - 10, 10)


def held(
    digest: str, promised: int, *, idle: bool = True, pinned: bool = False, used: float = 0
) -> LoadedModel:
    return LoadedModel(digest, promised, promised, idle, pinned, used)


def limits(budget: int, available: int = PLENTY, models: int = 8) -> Limits:
    return Limits(budget, available, models)


def test_a_model_that_fits_is_loaded():
    assert decide([option(60)], [], limits(100)) == Load(Layout(option(60)), ())
    assert decide([option(60)], [held("a", 40)], limits(100)) == Load(Layout(option(60)), ())


def test_the_longest_idle_models_are_evicted_and_no_more_than_needed():
    there = [held("new", 30, used=3), held("old", 30, used=1), held("busy", 30, idle=False)]
    assert decide([option(30)], there, limits(100)) == Load(Layout(option(30)), ("old",))
    assert decide([option(50)], there, limits(100)) == Load(Layout(option(50)), ("old", "new"))
    # No model is evicted for one that has to wait in any case.
    assert decide([option(80)], there, limits(100)) == Wait()


def test_reserved_memory_counts_before_it_is_used():
    loading = LoadedModel("a", 60, 0, idle=False, pinned=False, last_used=0)
    assert decide([option(50)], [loading], limits(100)) == Wait()
    # Neither does the machine have the memory that the loading model will still take.
    assert decide([option(50)], [loading], limits(200, available=90)) == Wait()
    assert isinstance(decide([option(30)], [loading], limits(200, available=90)), Load)


def test_a_model_that_never_fits_is_refused_with_the_figures():
    assert decide([option(120)], [held("a", 10)], limits(100)) == Reject(option(120), 100)
    pinned = held("a", 60, pinned=True)
    assert decide([option(50)], [pinned], limits(100)) == Reject(option(50), 40)


def test_pinned_models_hold_all_slots_or_all_memory():
    full = [held("a", 1, pinned=True), held("b", 1, pinned=True)]
    assert isinstance(decide([option(50)], full, limits(100, models=2)), PinnedFull)
    all_memory = [held("a", 100, pinned=True)]
    assert isinstance(decide([option(50)], all_memory, limits(100)), PinnedFull)


@pytest.mark.parametrize("available", [0, -5])
@pytest.mark.parametrize("there", [[], [held("a", 10, pinned=True)]])
def test_no_available_memory_is_not_the_fault_of_pinned_models(available, there):
    assert decide([option(60)], there, limits(100, available)) == Reject(option(60), 0)
    # Nor is an empty budget.
    assert decide([option(60)], [], limits(0)) == Reject(option(60), 0)


def test_less_context_where_that_is_left_to_the_host():
    choices = [option(120), option(80, 2048), option(50, 1024)]
    assert decide(choices, [], limits(100)) == Load(Layout(option(80, 2048)), ())
    # The larger context is worth waiting, or evicting an idle model.
    assert decide(choices, [held("a", 40, idle=False)], limits(100)) == Wait()
    assert decide(choices, [held("a", 40)], limits(100)) == Load(Layout(option(80, 2048)), ("a",))
    assert decide(choices, [], limits(40)) == Reject(option(50, 1024), 40)


def test_memory_used_by_other_programs_is_not_available():
    assert decide([option(60)], [], limits(100, available=40)) == Reject(option(60), 40)
    choices = [option(60), option(40, 2048)]
    assert decide(choices, [], limits(100, available=40)) == Load(Layout(option(40, 2048)), ())
    # An idle model gives back its memory.
    assert decide([option(60)], [held("a", 30)], limits(100, available=40)) == Load(
        Layout(option(60)), ("a",)
    )


@pytest.mark.parametrize("idle", [True, False])
def test_the_number_of_models_is_bounded(idle):
    found = decide([option(10)], [held("a", 10, idle=idle)], limits(100, models=1))
    assert found == (Load(Layout(option(10)), ("a",)) if idle else Wait())
