"""Layers on none, one and two devices, and what remains in the machine's memory."""

from __future__ import annotations

import pytest

from chatsite.capacity.admission import Limits, Load, LoadedModel, Reject, Wait, decide
from chatsite.capacity.offload_layout import DeviceCapacity, Option, plan_offload, space_of
from chatsite.engine.contract.devices import Device
from chatsite.engine.contract.offload import PROCESSOR, Offload

GIB = 1 << 30
# Four layers of 10 and an output of 6, of which 2 belong to the vocabulary; 20 always stay.
MODEL = Option(4096, loaded=64, work=5, layers=(10, 10, 10, 10, 6), kept=2)


def device(name: str, room: int, *, shared: bool = False) -> Device:
    """Return a device with ``room`` bytes for models."""
    total = 8 * GIB
    return Device(name, "TEST", "a device", room + GIB // 2, total, shared=shared)


def test_all_layers_where_they_fit_and_the_rest_is_the_machines():
    found = plan_offload(MODEL, [DeviceCapacity("GPU0", 51)])
    assert found.offload == Offload(("GPU0",), (5,))
    assert found.on == (("GPU0", 51),)
    assert found.option.loaded == 64 - 46 + 2
    assert found.total == MODEL.total + 5 + 2


@pytest.mark.parametrize(
    ("room", "layers", "loaded"), [(50, 4, 30), (31, 3, 40), (11, 1, 60), (10, 0, 64), (0, 0, 64)]
)
def test_as_many_of_the_last_layers_as_there_is_room_for(room, layers, loaded):
    found = plan_offload(MODEL, [DeviceCapacity("GPU0", room)])
    assert (found.layers, found.option.loaded) == (layers, loaded)
    assert found.offload == (Offload(("GPU0",), (layers,)) if layers else PROCESSOR)


def test_two_devices_share_in_their_order_and_each_computes():
    found = plan_offload(MODEL, [DeviceCapacity("GPU0", 26), DeviceCapacity("GPU1", 36)])
    assert found.offload == Offload(("GPU0", "GPU1"), (2, 3))
    assert found.on == (("GPU0", 25), ("GPU1", 31))
    # A full device is left out, and one device is enough if it has room for all layers.
    assert plan_offload(
        MODEL, [DeviceCapacity("GPU0", 3), DeviceCapacity("GPU1", 99)]
    ).offload == Offload(("GPU1",), (5,))
    assert plan_offload(
        MODEL, [DeviceCapacity("GPU0", 99), DeviceCapacity("GPU1", 99)]
    ).offload == Offload(("GPU0",), (5,))


def test_no_more_layers_than_are_wanted():
    assert plan_offload(MODEL, [DeviceCapacity("GPU0", 99)], 2).offload == Offload(("GPU0",), (2,))
    assert plan_offload(MODEL, [DeviceCapacity("GPU0", 99)], 0).offload == PROCESSOR
    assert plan_offload(MODEL, [DeviceCapacity("GPU0", 99)], 99).layers == 5
    assert plan_offload(Option(4096, 64, 5), [DeviceCapacity("GPU0", 99)]).layers == 0


def test_a_device_that_shares_the_machines_memory_saves_none_of_it():
    found = plan_offload(MODEL, [DeviceCapacity("Metal", 99, shared=True)])
    assert (found.layers, found.option.loaded) == (5, 64)


def test_some_memory_of_a_device_is_reserved_for_its_driver_and_other_programs():
    small = Device("GPU0", "CUDA", "", free=8 * GIB, total=8 * GIB)
    large = Device("GPU0", "CUDA", "", free=70 * GIB, total=80 * GIB)
    assert space_of(small, small.free).room == 8 * GIB - GIB // 2
    assert space_of(large, large.free).room == 65 * GIB
    assert space_of(small, GIB // 4).room == 0
    # Memory to be freed can't exceed the device's.
    assert space_of(small, 99 * GIB).room == 8 * GIB - GIB // 2


class TestDecide:
    def limits(self, *devices: Device, budget: int = 100, layers: int | None = None) -> Limits:
        return Limits(budget, 1000, 8, devices, layers)

    def held(self, digest: str, on: int, *, idle: bool = True, used: float = 0.0) -> LoadedModel:
        on_device = (("GPU0", on),) if on else ()
        return LoadedModel(digest, 10, 10, idle, pinned=False, last_used=used, on=on_device)

    def test_a_model_too_large_for_the_machine_may_fit_with_a_device(self):
        without = decide([MODEL], [], self.limits(budget=40))
        assert without == Reject(MODEL, 40)
        found = decide([MODEL], [], self.limits(device("GPU0", 51), budget=40))
        assert isinstance(found, Load)
        assert found.layout.layers == 5
        # The error has the sum of both.
        refused = decide([MODEL], [], self.limits(device("GPU0", 11), budget=40))
        assert refused == Reject(MODEL, 40 + 11)

    def test_idle_models_are_evicted_for_layers_and_no_more_than_help(self):
        held = [self.held("ram", 0, used=1), self.held("old", 30, used=2), self.held("new", 9)]
        held[2] = held[2]._replace(last_used=3)
        found = decide([MODEL], held, self.limits(device("GPU0", 21)))
        assert isinstance(found, Load)
        assert (found.layout.layers, found.evict) == (5, ("old",))
        # Busy models stay: layers without room are computed by the CPU.
        busy = [one._replace(idle=False) for one in held]
        found = decide([MODEL], busy, self.limits(device("GPU0", 21)))
        assert isinstance(found, Load)
        assert (found.layout.layers, found.evict) == (2, ())

    def test_a_loading_model_has_not_taken_its_memory_yet(self):
        loading = self.held("a", 40, idle=False)._replace(loading=True)
        found = decide([MODEL], [loading], self.limits(device("GPU0", 51)))
        assert isinstance(found, Load)
        assert found.layout.layers == 1
        # Evicting it can't free memory that it has not taken.
        loading = loading._replace(idle=True)
        found = decide([MODEL], [loading], self.limits(device("GPU0", 45)))
        assert isinstance(found, Load)
        assert (found.layout.layers, found.evict) == (4, ("a",))

    def test_a_model_that_fits_without_busy_ones_waits_for_them(self):
        busy = self.held("a", 46, idle=False)._replace(promised=30)
        found = decide([MODEL], [busy], self.limits(device("GPU0", 5), budget=60))
        assert found == Wait()
