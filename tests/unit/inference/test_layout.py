"""Layers on none, one and two devices, and what that leaves to the machine's memory."""

from __future__ import annotations

import pytest

from chatsite.engine.devices import Device
from chatsite.engine.offload import PROCESSOR, Offload
from chatsite.inference.layout import Option, Space, lay_out, space_of
from chatsite.inference.room import Held, Limits, Load, Refuse, Wait, decide

GIB = 1 << 30
# Four layers of 10 and an output of 6, of which 2 are the vocabulary's own; 20 stay in any case.
MODEL = Option(4096, loaded=64, work=5, layers=(10, 10, 10, 10, 6), kept=2)


def device(name: str, room: int, *, shared: bool = False) -> Device:
    """With ``room`` bytes for models."""
    total = 8 * GIB
    return Device(name, "TEST", "a device", room + GIB // 2, total, shared=shared)


def test_all_layers_where_they_fit_and_the_rest_is_the_machines():
    found = lay_out(MODEL, [Space("GPU0", 51)])
    assert found.offload == Offload(("GPU0",), (5,))
    assert found.on == (("GPU0", 51),)
    assert found.option.loaded == 64 - 46 + 2
    assert found.total == MODEL.total + 5 + 2


@pytest.mark.parametrize(
    ("room", "layers", "loaded"), [(50, 4, 30), (31, 3, 40), (11, 1, 60), (10, 0, 64), (0, 0, 64)]
)
def test_as_many_of_the_last_layers_as_there_is_room_for(room, layers, loaded):
    found = lay_out(MODEL, [Space("GPU0", room)])
    assert (found.layers, found.option.loaded) == (layers, loaded)
    assert found.offload == (Offload(("GPU0",), (layers,)) if layers else PROCESSOR)


def test_two_devices_share_in_their_order_and_each_computes():
    found = lay_out(MODEL, [Space("GPU0", 26), Space("GPU1", 36)])
    assert found.offload == Offload(("GPU0", "GPU1"), (2, 3))
    assert found.on == (("GPU0", 25), ("GPU1", 31))
    # One that is full is left out, and one is enough where it has room for all.
    assert lay_out(MODEL, [Space("GPU0", 3), Space("GPU1", 99)]).offload == Offload(("GPU1",), (5,))
    assert lay_out(MODEL, [Space("GPU0", 99), Space("GPU1", 99)]).offload == Offload(
        ("GPU0",), (5,)
    )


def test_no_more_layers_than_are_wanted():
    assert lay_out(MODEL, [Space("GPU0", 99)], 2).offload == Offload(("GPU0",), (2,))
    assert lay_out(MODEL, [Space("GPU0", 99)], 0).offload == PROCESSOR
    assert lay_out(MODEL, [Space("GPU0", 99)], 99).layers == 5
    assert lay_out(Option(4096, 64, 5), [Space("GPU0", 99)]).layers == 0


def test_a_device_that_shares_the_machines_memory_saves_none_of_it():
    found = lay_out(MODEL, [Space("Metal", 99, shared=True)])
    assert (found.layers, found.option.loaded) == (5, 64)


def test_something_of_a_device_is_left_to_its_driver_and_to_others():
    small = Device("GPU0", "CUDA", "", free=8 * GIB, total=8 * GIB)
    large = Device("GPU0", "CUDA", "", free=70 * GIB, total=80 * GIB)
    assert space_of(small, small.free).room == 8 * GIB - GIB // 2
    assert space_of(large, large.free).room == 65 * GIB
    assert space_of(small, GIB // 4).room == 0
    # What is said to come back can't be more than there is.
    assert space_of(small, 99 * GIB).room == 8 * GIB - GIB // 2


class TestDecide:
    def limits(self, *devices: Device, budget: int = 100, layers: int | None = None) -> Limits:
        return Limits(budget, 1000, 8, devices, layers)

    def held(self, digest: str, on: int, *, idle: bool = True, used: float = 0.0) -> Held:
        on_device = (("GPU0", on),) if on else ()
        return Held(digest, 10, 10, idle, pinned=False, last_used=used, on=on_device)

    def test_what_the_machine_has_no_memory_for_may_fit_with_a_device(self):
        without = decide([MODEL], [], self.limits(budget=40))
        assert without == Refuse(MODEL, 40)
        found = decide([MODEL], [], self.limits(device("GPU0", 51), budget=40))
        assert isinstance(found, Load)
        assert found.layout.layers == 5
        # And then the figures of both are told.
        refused = decide([MODEL], [], self.limits(device("GPU0", 11), budget=40))
        assert refused == Refuse(MODEL, 40 + 11)

    def test_idle_models_go_for_layers_and_no_more_than_help(self):
        held = [self.held("ram", 0, used=1), self.held("old", 30, used=2), self.held("new", 9)]
        held[2] = held[2]._replace(last_used=3)
        found = decide([MODEL], held, self.limits(device("GPU0", 21)))
        assert isinstance(found, Load)
        assert (found.layout.layers, found.evict) == (5, ("old",))
        # Busy ones stay: the processor computes what has no room.
        busy = [one._replace(idle=False) for one in held]
        found = decide([MODEL], busy, self.limits(device("GPU0", 21)))
        assert isinstance(found, Load)
        assert (found.layout.layers, found.evict) == (2, ())

    def test_what_is_being_loaded_has_not_taken_its_part_yet(self):
        loading = self.held("a", 40, idle=False)._replace(loading=True)
        found = decide([MODEL], [loading], self.limits(device("GPU0", 51)))
        assert isinstance(found, Load)
        assert found.layout.layers == 1
        # Nor does it give back what it never took.
        loading = loading._replace(idle=True)
        found = decide([MODEL], [loading], self.limits(device("GPU0", 45)))
        assert isinstance(found, Load)
        assert (found.layout.layers, found.evict) == (4, ("a",))

    def test_one_that_fits_with_what_busy_ones_hold_waits_for_them(self):
        busy = self.held("a", 46, idle=False)._replace(promised=30)
        found = decide([MODEL], [busy], self.limits(device("GPU0", 5), budget=60))
        assert found == Wait()
