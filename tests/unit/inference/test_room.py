"""What is loaded into how much memory, and what goes for it."""

from __future__ import annotations

import pytest

from chatsite.inference.layout import Layout, Option
from chatsite.inference.room import Held, Limits, Load, Refuse, Wait, decide

PLENTY = 1000


def option(total: int, context: int = 4096) -> Option:
    return Option(context, total - 10, 10)


def held(
    digest: str, promised: int, *, idle: bool = True, pinned: bool = False, used: float = 0
) -> Held:
    return Held(digest, promised, promised, idle, pinned, used)


def limits(budget: int, available: int = PLENTY, models: int = 8) -> Limits:
    return Limits(budget, available, models)


def test_what_fits_is_loaded():
    assert decide([option(60)], [], limits(100)) == Load(Layout(option(60)), ())
    assert decide([option(60)], [held("a", 40)], limits(100)) == Load(Layout(option(60)), ())


def test_the_longest_idle_ones_go_and_no_more_than_needed():
    there = [held("new", 30, used=3), held("old", 30, used=1), held("busy", 30, idle=False)]
    assert decide([option(30)], there, limits(100)) == Load(Layout(option(30)), ("old",))
    assert decide([option(50)], there, limits(100)) == Load(Layout(option(50)), ("old", "new"))
    # Not one goes for what has to wait in any case.
    assert decide([option(80)], there, limits(100)) == Wait()


def test_what_is_promised_counts_before_it_is_there():
    loading = Held("a", 60, 0, idle=False, pinned=False, last_used=0)
    assert decide([option(50)], [loading], limits(100)) == Wait()
    # Nor has the machine what another one will take yet.
    assert decide([option(50)], [loading], limits(200, available=90)) == Wait()
    assert isinstance(decide([option(30)], [loading], limits(200, available=90)), Load)


def test_what_never_fits_is_refused_with_the_figures():
    assert decide([option(120)], [held("a", 10)], limits(100)) == Refuse(option(120), 100)
    pinned = held("a", 60, pinned=True)
    assert decide([option(50)], [pinned], limits(100)) == Refuse(option(50), 40)
    full = [held("a", 1, pinned=True), held("b", 1, pinned=True)]
    assert decide([option(50)], full, limits(100, models=2)) == Refuse(option(50), 0)


def test_less_context_where_that_is_left_to_the_host():
    choices = [option(120), option(80, 2048), option(50, 1024)]
    assert decide(choices, [], limits(100)) == Load(Layout(option(80, 2048)), ())
    # The larger context is worth the wait, or that an idle one goes.
    assert decide(choices, [held("a", 40, idle=False)], limits(100)) == Wait()
    assert decide(choices, [held("a", 40)], limits(100)) == Load(Layout(option(80, 2048)), ("a",))
    assert decide(choices, [], limits(40)) == Refuse(option(50, 1024), 40)


def test_what_others_of_the_machine_took_is_not_promised():
    assert decide([option(60)], [], limits(100, available=40)) == Refuse(option(60), 40)
    choices = [option(60), option(40, 2048)]
    assert decide(choices, [], limits(100, available=40)) == Load(Layout(option(40, 2048)), ())
    # An idle model gives back what it has.
    assert decide([option(60)], [held("a", 30)], limits(100, available=40)) == Load(
        Layout(option(60)), ("a",)
    )


@pytest.mark.parametrize("idle", [True, False])
def test_the_number_of_models_is_bounded(idle):
    found = decide([option(10)], [held("a", 10, idle=idle)], limits(100, models=1))
    assert found == (Load(Layout(option(10)), ("a",)) if idle else Wait())
