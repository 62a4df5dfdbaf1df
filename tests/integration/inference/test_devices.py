"""Layers of models on scripted devices: none, one, two, full ones, and a failing one."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace

import pytest

from chatsite.capacity.offload_layout import Option
from chatsite.engine.contract.devices import Device
from chatsite.errors import ModelDoesNotFit
from chatsite.inference.runner import ModelRunner
from tests.support.site import MIB, SIZE, Site


def gpu(name: str, mib: int) -> Device:
    """Return a device with that much memory for models."""
    return Device(name, "TEST", "a device", (mib + 512) * MIB, 8192 * MIB)


ON_DEVICE = (Option(4096, SIZE, 0, layers=(50 * MIB,) * 4),)


async def until_placed(site: Site, layers: int) -> ModelRunner:
    """Load the model as the serving loop does for a name with waiting requests."""
    async with asyncio.timeout(60):
        while True:
            runner = await site.placement.runner_for("a")
            if runner and runner.state == "ready" and runner.layout.layers == layers:
                return runner
            site.changed.clear()
            await site.changed.wait()


async def test_layers_go_to_the_devices_that_have_room(site: Site) -> None:
    site.devices = (gpu("GPU0", 110), gpu("GPU1", 60))
    site.change("a", options=ON_DEVICE)
    runner = await site.load("a")
    assert runner
    (found,) = site.placement.statuses()
    assert (found.device_layers, found.layers) == (3, 4)
    assert found.devices == {"GPU0": 100 * MIB, "GPU1": 50 * MIB} == site.placement.on_devices
    assert runner.layout.option.loaded == SIZE - 150 * MIB
    # A second model goes where the first one is not, since that uses its share.
    site.devices = (gpu("GPU0", 10), gpu("GPU1", 60))
    site.change("b", options=ON_DEVICE)
    runner.running["x"] = SimpleNamespace(began=0.0)  # type: ignore[assignment]
    assert await site.load("b")
    assert site.placement.on_devices == {"GPU0": 100 * MIB, "GPU1": 100 * MIB}
    runner.running.clear()


@pytest.mark.parametrize("directive", ["@device-layers 2", "@device-crash 2"])
async def test_a_device_that_fails_at_load_gets_half_and_says_so(site: Site, directive) -> None:
    site.devices = (gpu("GPU0", 999),)
    path = site.specs["a"].path.with_name("model")
    path.write_text(f"scripted\n{directive}\n")
    site.change("a", options=ON_DEVICE, path=path)
    runner = await until_placed(site, 2)
    assert runner.idle
    (found,) = site.placement.statuses()
    assert (found.device_layers, found.layers) == (2, 4)
    assert "more than 2 layers" in found.device_problem or "SIGABRT" in found.device_problem


async def test_without_a_device_that_works_the_processor_computes_within_its_memory(
    site: Site,
) -> None:
    site.devices = (gpu("GPU0", 999),)
    path = site.specs["a"].path.with_name("model")
    path.write_text("scripted\n@device-layers 0\n")
    site.change("a", options=ON_DEVICE, path=path)
    runner = await until_placed(site, 0)
    assert runner.promised < SIZE
    assert site.placement.statuses()[0].device_problem
    await site.placement.unload(runner.spec.digest)
    # It is admitted by its size without the device, which may be too much.
    site.room = (SIZE - 1, 100 * SIZE)
    with pytest.raises(ModelDoesNotFit):
        await site.placement.runner_for("a")
