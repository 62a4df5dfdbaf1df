"""Which models this host holds: loads on demand what fits its memory, and lets others go for it."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, NamedTuple

from chatsite.engine.devices import Device
from chatsite.errors import ChatsiteError, ModelDoesNotFit, ModelUnavailable, NoPlaceForModel
from chatsite.inference.effects import Effects
from chatsite.inference.layout import Layout, Option
from chatsite.inference.reading import held, status_of
from chatsite.inference.room import Limits, Load, Refuse, decide
from chatsite.inference.runner import ModelRunner
from chatsite.inference.running import Running
from chatsite.inference.spec import ModelSpec
from chatsite.inference.status import ModelStatus

log = logging.getLogger(__name__)

# A name is looked up again after this time, so that a switch to another version is noticed; that
# of a loaded model also when nobody asks for it.
_RESOLVE_SECONDS = 2.0
_RESOLVE_LOADED_SECONDS = 10.0
_PATIENCE_SECONDS = 30.0
_CACHE_UNIT = 32 << 20  # small changes of what is left are not worth a word
_REFUSED_SECONDS = 10.0
_NO_LIMITS = (1 << 62, 1 << 62)
# A device that failed once may have been full, so it is tried again after this time.
_DEVICE_PROBLEM_SECONDS = 600.0


class _Demotion(NamedTuple):
    """At most ``layers`` on devices, since more were not taken at ``when``, for ``reason``."""

    layers: int
    reason: str
    when: float


async def _no_devices(*, fresh: bool = False) -> tuple[Device, ...]:
    return ()


class Placement:
    """Runners by digest, since two names may point to one version. ``room`` gives the bytes that
    models may take in all and those that the machine has left, ``devices`` what else there is to
    compute on, for ``layers`` of each model at most (None for all)."""

    def __init__(
        self,
        resolve: Callable[[str], Coroutine[Any, Any, ModelSpec]],
        effects: Effects,
        keep_loaded: int,
        room: Callable[[], tuple[int, int]] = lambda: _NO_LIMITS,
        devices: Callable[..., Awaitable[tuple[Device, ...]]] = _no_devices,
        layers: int | None = None,
    ) -> None:
        self._resolve = resolve
        self._effects = effects
        self._keep_loaded = keep_loaded
        self._room = room
        self._devices = devices
        self._layers = layers
        self._demoted: dict[str, _Demotion] = {}
        self._runners: dict[str, ModelRunner] = {}
        self._names: dict[str, tuple[ModelSpec, float]] = {}
        self._kept_waiting: dict[str, tuple[ModelSpec, float]] = {}
        self._in_line: set[str] = set()
        self._refused: dict[str, tuple[ModelSpec, ChatsiteError, float]] = {}

    async def runner_for(self, name: str) -> ModelRunner | None:
        """The runner of a model, started if there is room; None while there is none.

        Raises `ChatsiteError` when the name is unknown or its model can't be served, of which
        `ModelDoesNotFit` and `NoPlaceForModel` are what this host alone can't.
        """
        spec = await self._spec(name)
        runner = self._runners.get(spec.digest)
        if runner is not None and runner.idle and _other_size(runner, spec):
            await self._stop(runner)
            runner = None
        if runner is None:
            try:
                runner = await self._make(spec)
            except ChatsiteError as error:
                self._refused[name] = (spec, error, time.monotonic())
                self._kept_waiting.pop(name, None)
                raise
            if runner is None:
                _, since = self._kept_waiting.setdefault(name, (spec, time.monotonic()))
                self._hurry(time.monotonic() - since)
                return None
        self._kept_waiting.pop(name, None)
        self._refused.pop(name, None)
        if runner.state == "failed":
            raise ModelUnavailable
        runner.ensure()
        return runner

    def in_line(self, names: set[str]) -> None:
        """Tells which models somebody waits for now. What is loaded for them does not go for
        another one before it has answered, but for long waits."""
        self._in_line = {self._names[name][0].digest for name in names if name in self._names}
        for digest in self._in_line & self._runners.keys():
            self._runners[digest].tuner.hurry()
        self._kept_waiting = {n: kept for n, kept in self._kept_waiting.items() if n in names}
        if not self._kept_waiting:
            for runner in self._runners.values():
                runner.closing = False

    def _hurry(self, waited: float) -> None:
        """Where a model is asked for all the time, one that waits for its memory would wait for
        ever: so after a while the one that has been here longest takes no more jobs."""
        if waited < _PATIENCE_SECONDS or any(r.closing for r in self._runners.values()):
            return
        candidates = [runner for runner in self._runners.values() if not runner.spec.pinned]
        if candidates:
            min(candidates, key=lambda runner: runner.since).closing = True

    async def tend(self) -> None:
        """Lets go what nobody asked for within its time, and what no name stands for any more;
        ends children that hang."""
        for name, (spec, _) in tuple(self._names.items()):
            if spec.digest in self._runners:
                try:
                    await self._spec(name, _RESOLVE_LOADED_SECONDS)
                except ChatsiteError:
                    self._names.pop(name, None)  # `forget` may have been here meanwhile
        named = {spec.digest for spec, _ in self._names.values()}
        for runner in tuple(self._runners.values()):
            runner.watch(waited_for=runner.spec.digest in self._in_line)
            if not runner.idle or runner.spec.digest in self._in_line:
                continue
            expires_in = runner.expires_in
            if runner.spec.digest not in named or (expires_in is not None and expires_in <= 0):
                log.info("%s is let go", runner.spec.name)
                await self._stop(runner)
        await self._share()

    def loaded(self, digest: str) -> ModelRunner | None:
        return self._runners.get(digest)

    def free(self, name: str) -> ModelRunner | None:
        """The runner of a loaded model that has a slot to spare and that nobody waits for."""
        known = self._names.get(name)
        runner = self._runners.get(known[0].digest) if known else None
        waited_for = known is not None and known[0].digest in self._in_line
        return runner if runner and runner.free_slots > 0 and not waited_for else None

    @property
    def idle(self) -> bool:
        """Nothing is written here."""
        return all(runner.idle for runner in self._runners.values())

    @property
    def committed(self) -> int:
        """Bytes that are promised to models and their caches."""
        return sum(held(runner).promised + runner.cache_bytes for runner in self._runners.values())

    @property
    def on_devices(self) -> Mapping[str, int]:
        """Bytes that are promised on each device."""
        promised: Counter[str] = Counter()
        for runner in self._runners.values():
            promised.update(dict(runner.layout.on))
        return promised

    async def _spec(self, name: str, fresh_seconds: float = _RESOLVE_SECONDS) -> ModelSpec:
        known = self._names.get(name)
        if known and time.monotonic() - known[1] < fresh_seconds:
            return known[0]
        spec = await self._resolve(name)
        self._names[name] = (spec, time.monotonic())
        if runner := self._runners.get(spec.digest):
            if runner.spec.keep_alive != spec.keep_alive:
                runner.keep_alive = spec.keep_alive
            runner.spec = dataclasses.replace(
                runner.spec, pinned=spec.pinned, keep_alive=spec.keep_alive
            )
        return spec

    async def _make(self, spec: ModelSpec) -> ModelRunner | None:
        """A runner with memory of its own, after others have gone for it if need be."""
        devices = await self._devices()
        options = spec.options or (Option(spec.context, 0, 0),)
        if devices:  # which have kernels of their own for all types of weights
            options = tuple(option for option in options if not option.copy)
        most, problem = self._most_layers(spec.digest)
        while True:
            budget, available = self._room()
            others = [held(r, self._in_line) for r in self._runners.values()]
            limits = Limits(budget, available, self._keep_loaded, devices, most)
            match decide(options, others, limits):
                case Refuse(least, room):
                    raise _refusal(least, room)
                case Load(layout, evict):
                    for digest in evict:
                        if other := self._runners.get(digest):
                            await self._stop(other)
                    if evict and devices:
                        # What a device really has back is known only now.
                        devices = await self._devices(fresh=True)
                        continue
                    return await self._begin(spec, layout, problem)
                case _:
                    return None

    async def _begin(self, spec: ModelSpec, layout: Layout, problem: str) -> ModelRunner:
        context = layout.option.context
        if context < spec.context:
            log.warning(
                "%s gets a context of %s tokens: there is no memory for %s",
                *(spec.name, context, spec.context),
            )
        if layout.layers:
            log.info("%s: layers on devices: %s", spec.name, layout.offload)
        runner = self._runners[spec.digest] = ModelRunner(
            dataclasses.replace(
                spec, context=context, copy=spec.copy if layout.option.copy else None
            ),
            self._effects,
            layout,
            wanted=spec.context,
            device_problem=problem,
            keep_alive=spec.keep_alive,
        )
        await self._share()
        return runner

    def _most_layers(self, digest: str) -> tuple[int | None, str]:
        """How many layers may be on devices, and why not more."""
        found = self._demoted.get(digest)
        if found is None or time.monotonic() - found.when > _DEVICE_PROBLEM_SECONDS:
            self._demoted.pop(digest, None)
            return self._layers, ""
        return found.layers, found.reason

    def demote(self, digest: str, reason: str) -> None:
        """Forgets a runner whose layers devices did not take: half of them next time, then none."""
        runner = self._runners.pop(digest, None)
        if runner is not None:
            again = digest in self._demoted
            layers = 0 if again else runner.layout.layers // 2
            self._demoted[digest] = _Demotion(layers, reason, time.monotonic())

    async def _share(self) -> None:
        """Caches get what the models leave of the budget, in equal parts."""
        if not self._runners:
            return
        budget, _available = self._room()
        left = budget - sum(held(runner).promised for runner in self._runners.values())
        part = max(0, left // len(self._runners)) // _CACHE_UNIT * _CACHE_UNIT
        for runner in self._runners.values():
            await runner.grant(min(runner.spec.cache_bytes, part))

    async def _stop(self, runner: ModelRunner) -> None:
        # One that gave up while another was stopped is forgotten already.
        self._runners.pop(runner.spec.digest, None)
        await runner.stop()

    async def unload(self, digest: str) -> bool:
        """Lets a model go unless it writes answers; False when it stays or is not here."""
        runner = self._runners.get(digest)
        if runner is None or not runner.idle:
            return False
        await self._stop(runner)
        return True

    def forget(self, digest: str) -> None:
        """Drops a runner that gave up, so that a released model may be tried again."""
        self._runners.pop(digest, None)
        self._names = {n: known for n, known in self._names.items() if known[0].digest != digest}

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
        """Of models that are here, wait for room, or were refused a moment ago."""
        found = []
        for name, (spec, error, when) in self._refused.items():
            if time.monotonic() - when < _REFUSED_SECONDS:
                found.append(
                    ModelStatus(
                        name, spec.digest, "failed", reason=str(error), error=error.as_dict()
                    )
                )
        for name, (spec, _) in self._names.items():
            if runner := self._runners.get(spec.digest):
                found.append(status_of(runner, name))
            elif name in self._kept_waiting:
                found.append(ModelStatus(name, spec.digest, "waiting"))
        return tuple(found)


def _other_size(runner: ModelRunner, spec: ModelSpec) -> bool:
    """Whether an administrator has changed what the model should have since it was loaded."""
    return (runner.wanted, runner.spec.slots) != (spec.context, spec.slots)


def _refusal(least: Option, room: int) -> ChatsiteError:
    if not room:
        return NoPlaceForModel()
    return ModelDoesNotFit(
        needed_mb=-(-least.total >> 20), room_mb=room >> 20, context=least.context
    )
