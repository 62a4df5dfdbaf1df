"""Whether one more model may be loaded, and what goes for it. Pure: no clock, no process.

What is promised to a model counts from the moment that it is decided on, so two that are loaded
at once never take more than there is. A model that is pinned, is being loaded, writes an
answer or is waited for stays. Idle ones go also for more layers on a device, where answers are
written many times as fast.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from chatsite.engine.devices import Device
from chatsite.inference.layout import Layout, Option, Space, lay_out, spaces_of


class Held(NamedTuple):
    """A model that is loaded or being loaded: ``promised`` bytes, of which it has ``resident``
    ones; it can go at once if it is ``idle``. ``last_used`` in seconds of any one clock. ``on``
    are its bytes by device, which it has not taken yet while it is ``loading``."""

    digest: str
    promised: int
    resident: int
    idle: bool
    pinned: bool
    last_used: float
    on: tuple[tuple[str, int], ...] = ()
    loading: bool = False


class Limits(NamedTuple):
    """``budget`` is what models may take in all, ``available`` what the machine has left now,
    in bytes; ``models`` how many there may be; at most ``layers`` go to ``devices``."""

    budget: int
    available: int
    models: int
    devices: tuple[Device, ...] = ()
    layers: int | None = None


class Load(NamedTuple):
    """Load it as ``layout`` says after ``evict`` are gone."""

    layout: Layout
    evict: tuple[str, ...]


class Wait(NamedTuple):
    """Until a model that writes answers is idle."""


class Refuse(NamedTuple):
    """Never: even as ``least`` it takes more than the ``room`` bytes that there could be. Without
    room the pinned models take all the places."""

    least: Option
    room: int


def decide(options: Sequence[Option], held: Sequence[Held], limits: Limits) -> Load | Wait | Refuse:
    """``options`` from the best to the least."""
    pinned = [one for one in held if one.pinned]
    room = limits.budget - sum(one.promised for one in pinned)
    if len(pinned) >= limits.models:
        return Refuse(options[-1], 0)
    alone = _spaces(pinned, held, limits)
    fitting = [
        option for option in options if lay_out(option, alone, limits.layers).option.total <= room
    ]
    if not fitting:
        beside = sum(space.room for space in alone if not space.shared)
        return Refuse(options[-1], max(room, 0) + beside)
    # What others of the machine have taken can't be promised, whatever the budget says. It may
    # come back, so only a machine without models of ours says no for it.
    for option in fitting:
        if (load := _load(option, held, limits)) is not None:
            return load
        if any(not one.idle and not one.pinned for one in held):
            return Wait()
    return Refuse(fitting[-1], min(room, limits.available))


def _load(option: Option, held: Sequence[Held], limits: Limits) -> Load | None:
    """With as many layers on devices as can be, for which as few of the longest idle ones go as
    are enough; None if all of them are not."""
    idle = sorted(
        (one for one in held if one.idle and not one.pinned), key=lambda one: one.last_used
    )
    best: Layout | None = None
    gone: list[Held] = []
    for count in range(len(idle) + 1):
        layout = _without(idle[:count], option, held, limits)
        if layout is not None and (best is None or layout.layers > best.layers):
            best, gone = layout, idle[:count]
    if best is None:
        return None
    # One that has nothing of what is short stays after all.
    for one in reversed(gone):
        others = [other for other in gone if other is not one]
        layout = _without(others, option, held, limits)
        if layout is not None and layout.layers >= best.layers:
            best, gone = layout, others
    return Load(best, tuple(one.digest for one in gone))


def _without(
    gone: Sequence[Held], option: Option, held: Sequence[Held], limits: Limits
) -> Layout | None:
    """Where the layers go after some models are gone; None where there is no room even so."""
    stay = [one for one in held if one not in gone]
    layout = lay_out(option, _spaces(stay, held, limits), limits.layers)
    fits = (
        len(stay) < limits.models
        and sum(one.promised for one in stay) + layout.option.total <= limits.budget
        and layout.option.loaded <= _left(stay, held, limits)
    )
    return layout if fits else None


def _left(stay: Sequence[Held], held: Sequence[Held], limits: Limits) -> int:
    """What the machine has once all but ``stay`` are gone and those have all they were promised."""
    back = sum(one.resident for one in held if one not in stay)
    owed = sum(max(0, one.promised - one.resident) for one in stay)
    return limits.available + back - owed


def _spaces(stay: Sequence[Held], held: Sequence[Held], limits: Limits) -> tuple[Space, ...]:
    """As `_left`, of the devices."""
    back: Counter[str] = Counter()
    owed: Counter[str] = Counter()
    for one in held:
        if one not in stay and not one.loading:
            back.update(dict(one.on))
        elif one in stay and one.loading:
            owed.update(dict(one.on))
    return spaces_of(limits.devices, owed, back)
