"""A host's placement, with real children that compute nothing."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path

from chatsite.capacity.offload_layout import Option
from chatsite.engine.contract.devices import Device
from chatsite.errors import ModelMissing
from chatsite.inference.model_spec import ModelSpec
from chatsite.inference.placement import Placement
from chatsite.inference.runner import ModelRunner
from chatsite.inference.runner_callbacks import RunnerCallbacks
from chatsite.stream.publish import Publisher

MIB = 1 << 20
# A scripted child really uses far less.
SIZE = 300 * MIB


class Site:
    """A host with memory for two models. ``specs`` is the catalogue."""

    def __init__(self, publisher: Publisher, folder: Path) -> None:
        self.changed = asyncio.Event()
        self.publisher = publisher
        self.room = (2 * SIZE, 100 * SIZE)
        self.devices: tuple[Device, ...] = ()
        self.specs = {
            name: ModelSpec(
                name,
                name * 64,
                *(folder / "no", 4096, 2, 1, 200.0, 0, "scripted", folder / "tuning"),
                options=(Option(4096, SIZE, 0),),
            )
            for name in "abc"
        }
        effects = RunnerCallbacks(
            lambda *_: None,
            lambda _: None,
            lambda *_: None,
            lambda spec, reason: self.placement.demote(spec.digest, reason),
            self.changed.set,
            publisher,
        )
        self.placement = Placement(
            lambda name: self.resolve(name),  # noqa: PLW0108  (tests replace it)
            effects,
            8,
            lambda: self.room,
            self.find_devices,
            resolve_seconds=0,
        )

    async def find_devices(self, *, fresh: bool = False) -> tuple[Device, ...]:
        return self.devices

    async def resolve(self, name: str) -> ModelSpec:
        if name not in self.specs:
            raise ModelMissing
        return self.specs[name]

    def change(self, name: str, **values: object) -> None:
        """Change a model as an administrator does, with immediate effect."""
        self.specs[name] = dataclasses.replace(self.specs[name], **values)  # type: ignore[arg-type]

    async def load(self, name: str) -> ModelRunner | None:
        runner = await self.placement.runner_for(name)
        while runner and runner.state != "ready":
            self.changed.clear()
            await self.changed.wait()
        return runner

    @property
    def loaded(self) -> set[str]:
        return {model.name for model in self.placement.statuses() if model.state != "waiting"}
