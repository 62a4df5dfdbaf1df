"""Which devices a host uses, and how often it queries them."""

from __future__ import annotations

import pytest

from chatsite.capacity.budget import Budget
from chatsite.engine.contract.devices import Device, Hardware
from chatsite.hosts.status import HostDevice

SMALL = Device("CUDA0", "CUDA", "small", free=10, total=20)
LARGE = Device("CUDA1", "CUDA", "large", free=30, total=40)


class Machine:
    def __init__(self, *devices: Device, problem: str = "") -> None:
        self.hardware = Hardware(devices, problem=problem)
        self.asked = 0

    async def __call__(self) -> Hardware:
        self.asked += 1
        return self.hardware


async def test_the_one_with_most_room_is_first_unless_they_are_named():
    machine = Machine(SMALL, LARGE)
    assert await Budget(find=machine).devices() == (LARGE, SMALL)
    assert await Budget(find=machine, named=("cuda0", "cuda1")).devices() == (SMALL, LARGE)
    assert await Budget(find=machine, named=("CUDA1", "CUDA7")).devices() == (LARGE,)


async def test_devices_are_queried_again_only_when_needed():
    machine = Machine(SMALL)
    budget = Budget(find=machine)
    await budget.devices()
    await budget.devices()
    assert machine.asked == 1
    await budget.devices(fresh=True)
    assert machine.asked == 2
    assert budget.device_status({"CUDA0": 7}) == (HostDevice("CUDA0", "small", 10, 20, 7),)


@pytest.mark.parametrize(("layers", "asked"), [(0, 0), (None, 1)])
async def test_without_devices_or_use_for_them_nothing_is_queried(layers, asked):
    machine = Machine()
    budget = Budget(find=machine, layers=layers)
    for _ in range(3):
        assert await budget.devices(fresh=True) == ()
    assert machine.asked == asked


async def test_a_driver_that_says_nothing_is_left_alone_for_a_while():
    machine = Machine(problem="no answer in 30 s")
    budget = Budget(find=machine)
    await budget.devices()
    await budget.devices()
    assert machine.asked == 1
    machine.hardware = Hardware((SMALL,))
    assert await budget.devices(fresh=True) == (SMALL,)
