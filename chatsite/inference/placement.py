"""Which models this host holds: loads on demand, and lets the longest idle one go for another."""

from __future__ import annotations

import time
from collections.abc import Callable, Coroutine
from typing import Any

from chatsite.errors import ModelUnavailable
from chatsite.inference.runner import Effects, ModelRunner, ModelSpec
from chatsite.inference.running import Running
from chatsite.inference.status import ModelStatus

# A name is looked up again after this time, so that a switch to another version is noticed.
_RESOLVE_SECONDS = 2.0


class Placement:
    """Runners by digest, since two names may point to one version."""

    def __init__(
        self,
        resolve: Callable[[str], Coroutine[Any, Any, ModelSpec]],
        effects: Effects,
        keep_loaded: int,
    ) -> None:
        self._resolve = resolve
        self._effects = effects
        self._keep_loaded = keep_loaded
        self._runners: dict[str, ModelRunner] = {}
        self._names: dict[str, tuple[ModelSpec, float]] = {}
        self._kept_waiting: dict[str, ModelSpec] = {}

    async def runner_for(self, name: str) -> ModelRunner | None:
        """The runner of a model, started if there is room; None while there is none.

        Raises `ChatsiteError` when the name is unknown or its model can't be served.
        """
        spec = await self._spec(name)
        runner = self._runners.get(spec.digest)
        if runner is None:
            if not await self._make_room():
                self._kept_waiting[name] = spec
                return None
            runner = self._runners[spec.digest] = ModelRunner(spec, self._effects)
        self._kept_waiting.pop(name, None)
        if runner.state == "failed":
            raise ModelUnavailable
        runner.ensure()
        return runner

    async def _spec(self, name: str) -> ModelSpec:
        known = self._names.get(name)
        if known and time.monotonic() - known[1] < _RESOLVE_SECONDS:
            return known[0]
        spec = await self._resolve(name)
        self._names[name] = (spec, time.monotonic())
        return spec

    async def _make_room(self) -> bool:
        """Whether one more model may be loaded, after letting an idle one go if need be."""
        if len(self._runners) < self._keep_loaded:
            return True
        idle = [runner for runner in self._runners.values() if runner.idle]
        if not idle:
            return False
        oldest = min(idle, key=lambda runner: runner.last_used)
        del self._runners[oldest.spec.digest]
        await oldest.stop()
        return True

    async def unload(self, digest: str) -> bool:
        """Lets a model go unless it writes answers; False when it stays or is not here."""
        runner = self._runners.get(digest)
        if runner is None or not runner.idle:
            return False
        del self._runners[digest]
        await runner.stop()
        return True

    def forget(self, digest: str) -> None:
        """Drops a runner that gave up, so that a released model may be tried again."""
        self._runners.pop(digest, None)
        self._names = {n: known for n, known in self._names.items() if known[0].digest != digest}

    def loaded(self, digest: str) -> ModelRunner | None:
        return self._runners.get(digest)

    def running(self) -> list[Running]:
        return [job for runner in self._runners.values() for job in runner.running.values()]

    async def cancel(self, id: str) -> None:
        for runner in self._runners.values():
            await runner.cancel(id)

    async def drop(self, id: str) -> None:
        for runner in self._runners.values():
            await runner.drop(id)

    async def stop_all(self) -> list[Running]:
        """Ends all children; returns the jobs that they had not finished."""
        runners, self._runners = list(self._runners.values()), {}
        return [job for runner in runners for job in await runner.stop()]

    def statuses(self) -> tuple[ModelStatus, ...]:
        found = []
        for name, (spec, _) in self._names.items():
            if runner := self._runners.get(spec.digest):
                found.append(runner.status(name))
            elif name in self._kept_waiting:
                found.append(ModelStatus(name, spec.digest, "waiting"))
        return tuple(found)
