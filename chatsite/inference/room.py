"""Whether one more model may be loaded, and what goes for it. Pure: no clock, no process.

What is promised to a model counts from the moment that it is decided on, so two that are loaded
at once never take more than there is. A model that is pinned, is being loaded, writes an
answer or is waited for stays.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple


class Option(NamedTuple):
    """Bytes that a model takes with ``context`` tokens per slot: once it is loaded, and in
    addition as it works."""

    context: int
    loaded: int
    work: int

    @property
    def total(self) -> int:
        return self.loaded + self.work


class Held(NamedTuple):
    """A model that is loaded or being loaded: ``promised`` bytes, of which it has ``resident``
    ones; it can go at once if it is ``idle``. ``last_used`` in seconds of any one clock."""

    digest: str
    promised: int
    resident: int
    idle: bool
    pinned: bool
    last_used: float


class Limits(NamedTuple):
    """``budget`` is what models may take in all, ``available`` what the machine has left now,
    in bytes; ``models`` how many there may be."""

    budget: int
    available: int
    models: int


class Load(NamedTuple):
    """Load it as ``option`` says after ``evict`` are gone."""

    option: Option
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
    fitting = [option for option in options if option.total <= room]
    if not fitting:
        return Refuse(options[-1], max(room, 0))
    # What others of the machine have taken can't be promised, whatever the budget says. It may
    # come back, so only a machine without models of ours says no for it.
    for option in fitting:
        if (evict := _evictions(option, held, limits)) is not None:
            return Load(option, evict)
        if any(not one.idle and not one.pinned for one in held):
            return Wait()
    return Refuse(fitting[-1], min(room, limits.available))


def _evictions(option: Option, held: Sequence[Held], limits: Limits) -> tuple[str, ...] | None:
    """The longest idle ones, as few as are enough; None if all of them are not."""
    stay = list(held)
    candidates = sorted(
        (one for one in held if one.idle and not one.pinned), key=lambda one: one.last_used
    )
    gone: list[str] = []
    while not (
        len(stay) < limits.models
        and sum(one.promised for one in stay) + option.total <= limits.budget
        and option.loaded <= _left(stay, held, limits)
    ):
        if not candidates:
            return None
        one = candidates.pop(0)
        stay.remove(one)
        gone.append(one.digest)
    return tuple(gone)


def _left(stay: Sequence[Held], held: Sequence[Held], limits: Limits) -> int:
    """What the machine has once all but ``stay`` are gone and those have all they were promised."""
    back = sum(one.resident for one in held if one not in stay)
    owed = sum(max(0, one.promised - one.resident) for one in stay)
    return limits.available + back - owed
