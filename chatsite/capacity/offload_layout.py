"""Which layers of a model go to which device. Pure: no clock, no process, no library.

The last layers go to devices, the output last of all, as the engine requires
(`engine.contract.offload.Offload`). A device takes as many as fit, with their KV cache and compute
buffers; the next device takes the rest; the first layers, which fit on none, are computed by the
CPU. So a model uses as few devices as possible.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from chatsite.engine.contract.devices import Device
from chatsite.engine.contract.offload import PROCESSOR, Offload

# Memory of the driver's context per process, and the error of the estimate.
_LEAST_RESERVE = 512 << 20
_RESERVE_SHARE = 16


class Option(NamedTuple):
    """Bytes of a model in the machine's memory with ``context`` tokens per slot.

    ``loaded`` after loading, ``work`` in addition while it computes. ``layers`` are the bytes of
    layers that may be on a device instead, from the first layer to the output, each with its KV
    cache; ``kept`` bytes of the output's stay here all the same. With ``copy`` there is enough for
    faster weights than the file's.
    """

    context: int
    loaded: int
    work: int
    layers: tuple[int, ...] = ()
    kept: int = 0
    copy: bool = False

    @property
    def total(self) -> int:
        return self.loaded + self.work


class DeviceCapacity(NamedTuple):
    """``room`` bytes of a device for models; ``shared`` if they are the machine's own."""

    name: str
    room: int
    shared: bool = False


class Layout(NamedTuple):
    """The placement of a model.

    ``option`` is what stays in the machine's memory, ``on`` the bytes on each device.
    """

    option: Option
    offload: Offload = PROCESSOR
    on: tuple[tuple[str, int], ...] = ()

    @property
    def layers(self) -> int:
        return sum(self.offload.layers)

    @property
    def total(self) -> int:
        """Bytes in the machine's memory and on devices."""
        return self.option.total + sum(size for _, size in self.on)


def space_of(device: Device, free: int) -> DeviceCapacity:
    """Return the capacity with ``free`` bytes, less the reserve."""
    reserve = max(_LEAST_RESERVE, device.total // _RESERVE_SHARE)
    return DeviceCapacity(device.name, max(0, min(free, device.total) - reserve), device.shared)


def plan_offload(
    option: Option, spaces: Sequence[DeviceCapacity], most: int | None = None
) -> Layout:
    """Return the layout with as many layers on devices as fit, at most ``most`` (None for all).

    ``spaces`` are filled in order.
    """
    count = len(option.layers) if most is None else min(most, len(option.layers))
    while count > 0:
        if (filled := _fill(option, spaces, count)) is not None:
            return _moved(option, filled)
        count -= 1
    return Layout(option)


def _fill(
    option: Option, spaces: Sequence[DeviceCapacity], count: int
) -> list[tuple[DeviceCapacity, list[int]]] | None:
    """Return the last ``count`` layers by device; None if they don't all fit."""
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


def _moved(option: Option, filled: Sequence[tuple[DeviceCapacity, list[int]]]) -> Layout:
    away = sum(sum(layers) for space, layers in filled if not space.shared)
    # The output is the last layer on the last device.
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
) -> tuple[DeviceCapacity, ...]:
    """Return the capacity of all devices.

    ``owed`` bytes by device are promised to models that are loading; ``back`` bytes are returned
    by models that are evicted.
    """
    return tuple(
        space_of(one, one.free - owed.get(one.name, 0) + back.get(one.name, 0)) for one in devices
    )
