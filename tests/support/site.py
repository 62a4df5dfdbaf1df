"""A host's placement of models, with real children that compute nothing."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path

from chatsite.engine.devices import Device
from chatsite.inference.effects import Effects
from chatsite.inference.layout import Option
from chatsite.inference.placement import Placement
from chatsite.inference.runner import ModelRunner
from chatsite.inference.spec import ModelSpec
from chatsite.stream.publish import Publisher

MIB = 1 << 20
# What a scripted child really takes is far less.
SIZE = 300 * MIB


class Site:
    """A host with memory for two models. ``specs`` are the catalogue."""

    def __init__(self, publisher: Publisher, folder: Path) -> None:
        self.changed = asyncio.Event()
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
        effects = Effects(
            lambda *_: None,
            lambda _: None,
            lambda *_: None,
            lambda spec, reason: self.placement.demote(spec.digest, reason),
            self.changed.set,
            publisher,
        )
        self.placement = Placement(self.resolve, effects, 8, lambda: self.room, self.find_devices)

    async def find_devices(self, *, fresh: bool = False) -> tuple[Device, ...]:
        return self.devices

    async def resolve(self, name: str) -> ModelSpec:
        return self.specs[name]

    def change(self, name: str, **values: object) -> None:
        self.specs[name] = dataclasses.replace(self.specs[name], **values)  # type: ignore[arg-type]
        self.placement._names.pop(name, None)

    async def load(self, name: str) -> ModelRunner | None:
        runner = await self.placement.runner_for(name)
        while runner and runner.state != "ready":
            self.changed.clear()
            await self.changed.wait()
        return runner

    @property
    def loaded(self) -> set[str]:
        return {model.name for model in self.placement.statuses() if model.state != "waiting"}
