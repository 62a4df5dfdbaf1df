"""Whether one more model may be loaded, and which are evicted for it. Pure: no clock, no process.

Memory is promised to a model from the decision to load it, so two that are loaded concurrently
never exceed the memory. A model that is pinned, is loading, runs requests or has queued ones is
not evicted. Idle ones are evicted also for more layers on a device, where decoding is many times as
fast.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

from chatsite.capacity.offload_layout import DeviceCapacity, Layout, Option, plan_offload, spaces_of
from chatsite.engine.contract.devices import Device


class LoadedModel(NamedTuple):
    """A model that is loaded or loading.

    Of ``promised`` bytes it holds ``resident``; it may be evicted if ``idle``. ``last_used`` is in
    seconds of any one clock. ``on`` are its bytes by device, not yet allocated while ``loading``.
    """

    digest: str
    promised: int
    resident: int
    idle: bool
    pinned: bool
    last_used: float
    on: tuple[tuple[str, int], ...] = ()
    loading: bool = False


class Limits(NamedTuple):
    """The memory limits of a host, in bytes.

    ``budget`` is what models may take in total, ``available`` what the machine has left now;
    ``models`` is the largest number of them; at most ``layers`` go to ``devices``.
    """

    budget: int
    available: int
    models: int
    devices: tuple[Device, ...] = ()
    layers: int | None = None


class Load(NamedTuple):
    """Load it as ``layout`` after evicting ``evict``."""

    layout: Layout
    evict: tuple[str, ...]


class Wait(NamedTuple):
    """Wait until a model with running requests is idle."""


class Reject(NamedTuple):
    """It does not fit: ``least`` exceeds the ``room`` bytes that are or could become free.

    ``room`` may be 0, for example if other programs have taken all memory.
    """

    least: Option
    room: int


class PinnedFull(NamedTuple):
    """It can't be loaded: pinned models hold all slots or all memory."""


def decide(
    options: Sequence[Option], held: Sequence[LoadedModel], limits: Limits
) -> Load | Wait | Reject | PinnedFull:
    """Return whether and how a model may be loaded; ``options`` from best to smallest."""
    pinned = [one for one in held if one.pinned]
    room = limits.budget - sum(one.promised for one in pinned)
    if len(pinned) >= limits.models:
        return PinnedFull()
    alone = _spaces(pinned, held, limits)
    fitting = [
        option
        for option in options
        if plan_offload(option, alone, limits.layers).option.total <= room
    ]
    if not fitting:
        beside = sum(space.room for space in alone if not space.shared)
        free = max(room, 0) + beside
        return PinnedFull() if pinned and not free else Reject(options[-1], free)
    # Memory taken by other programs can't be promised, whatever the budget is. A model waits for it
    # while another model is busy, and is refused otherwise.
    for option in fitting:
        if (load := _load(option, held, limits)) is not None:
            return load
        if any(not one.idle and not one.pinned for one in held):
            return Wait()
    return Reject(fitting[-1], max(0, min(room, limits.available)))


def _load(option: Option, held: Sequence[LoadedModel], limits: Limits) -> Load | None:
    """Return the load with the most layers on devices, evicting as few idle models as possible.

    Least recently used models are evicted first. None if evicting all idle ones is not enough.
    """
    idle = sorted(
        (one for one in held if one.idle and not one.pinned), key=lambda one: one.last_used
    )
    best: Layout | None = None
    gone: list[LoadedModel] = []
    for count in range(len(idle) + 1):
        layout = _without(idle[:count], option, held, limits)
        if layout is not None and (best is None or layout.layers > best.layers):
            best, gone = layout, idle[:count]
    if best is None:
        return None
    # Keep models that hold none of the memory that is short.
    for one in reversed(gone):
        others = [other for other in gone if other is not one]
        layout = _without(others, option, held, limits)
        if layout is not None and layout.layers >= best.layers:
            best, gone = layout, others
    return Load(best, tuple(one.digest for one in gone))


def _without(
    gone: Sequence[LoadedModel], option: Option, held: Sequence[LoadedModel], limits: Limits
) -> Layout | None:
    """Return the layout after evicting ``gone``; None if it does not fit even then."""
    stay = [one for one in held if one not in gone]
    layout = plan_offload(option, _spaces(stay, held, limits), limits.layers)
    fits = (
        len(stay) < limits.models
        and sum(one.promised for one in stay) + layout.option.total <= limits.budget
        and layout.option.loaded <= _left(stay, held, limits)
    )
    return layout if fits else None


def _left(stay: Sequence[LoadedModel], held: Sequence[LoadedModel], limits: Limits) -> int:
    """Return the available bytes if only ``stay`` remain and hold all they were promised."""
    back = sum(one.resident for one in held if one not in stay)
    owed = sum(max(0, one.promised - one.resident) for one in stay)
    return limits.available + back - owed


def _spaces(
    stay: Sequence[LoadedModel], held: Sequence[LoadedModel], limits: Limits
) -> tuple[DeviceCapacity, ...]:
    """Return the capacity of the devices under the conditions of `_left`."""
    back: Counter[str] = Counter()
    owed: Counter[str] = Counter()
    for one in held:
        if one not in stay and not one.loading:
            back.update(dict(one.on))
        elif one in stay and one.loading:
            owed.update(dict(one.on))
    return spaces_of(limits.devices, owed, back)
