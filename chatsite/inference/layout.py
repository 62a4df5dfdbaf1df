"""Which layers of a model go to which device. Pure: no clock, no process, no library.

The last layers go to devices, the output being the very last, since the engine has it so
(`engine.messages.Offload`). A device takes as many as it has room for, with their caches and what
one computation needs; the next one takes the rest; the first layers, which fit nowhere, are
computed by the processor. So a model is on as few devices as it can be.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from chatsite.engine.devices import Device
from chatsite.engine.offload import PROCESSOR, Offload

# What a driver takes for a process of its own, and an error of the estimate.
_LEAST_RESERVE = 512 << 20
_RESERVE_SHARE = 16


class Option(NamedTuple):
    """Bytes that a model takes in the machine's memory with ``context`` tokens per slot: once it
    is loaded, and in addition as it works. ``layers`` are bytes of what may be on a device instead,
    from the first layer to the output, each with its cache; ``kept`` of the output's are needed
    here all the same. ``copy``: enough for faster weights than the file's, should they pay."""

    context: int
    loaded: int
    work: int
    layers: tuple[int, ...] = ()
    kept: int = 0
    copy: bool = False

    @property
    def total(self) -> int:
        return self.loaded + self.work


class Space(NamedTuple):
    """Bytes of a device that models may have; ``shared`` ones are the machine's own."""

    name: str
    room: int
    shared: bool = False


class Layout(NamedTuple):
    """``option`` is what stays in the machine's memory, ``on`` the bytes on each device."""

    option: Option
    offload: Offload = PROCESSOR
    on: tuple[tuple[str, int], ...] = ()

    @property
    def layers(self) -> int:
        return sum(self.offload.layers)

    @property
    def total(self) -> int:
        """Bytes wherever they are."""
        return self.option.total + sum(size for _, size in self.on)


def space_of(device: Device, free: int) -> Space:
    """``free`` bytes of it, without what must be left."""
    reserve = max(_LEAST_RESERVE, device.total // _RESERVE_SHARE)
    return Space(device.name, max(0, min(free, device.total) - reserve), device.shared)


def lay_out(option: Option, spaces: Sequence[Space], most: int | None = None) -> Layout:
    """With as many layers on devices as there is room for, ``most`` at most (None for all).
    ``spaces`` are filled in their order."""
    count = len(option.layers) if most is None else min(most, len(option.layers))
    while count > 0:
        if (filled := _fill(option, spaces, count)) is not None:
            return _moved(option, filled)
        count -= 1
    return Layout(option)


def _fill(
    option: Option, spaces: Sequence[Space], count: int
) -> list[tuple[Space, list[int]]] | None:
    """The last ``count`` layers by device; None where there is no room for all of them."""
    rest = list(option.layers[-count:])
    filled = []
    for space in spaces:
        size, taken = option.work, 0
        while taken < len(rest) and size + rest[taken] <= space.room:
            size += rest[taken]
            taken += 1
        if taken:
            filled.append((space, rest[:taken]))
            rest = rest[taken:]
        if not rest:
            return filled
    return None


def _moved(option: Option, filled: Sequence[tuple[Space, list[int]]]) -> Layout:
    away = sum(sum(layers) for space, layers in filled if not space.shared)
    # The output is the last of the last device's.
    away -= 0 if filled[-1][0].shared else option.kept
    return Layout(
        option._replace(loaded=option.loaded - away),
        Offload(
            tuple(space.name for space, _ in filled), tuple(len(layers) for _, layers in filled)
        ),
        tuple((space.name, sum(layers) + option.work) for space, layers in filled),
    )


def spaces_of(
    devices: Sequence[Device], owed: Mapping[str, int], back: Mapping[str, int]
) -> tuple[Space, ...]:
    """Of all devices, without what is ``owed`` to models that are being loaded, and with what
    comes ``back`` from those that go; bytes by device."""
    return tuple(
        space_of(one, one.free - owed.get(one.name, 0) + back.get(one.name, 0)) for one in devices
    )
