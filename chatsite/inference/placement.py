"""Which models this host holds: loads on demand what fits its memory, and evicts others for it."""

from __future__ import annotations

import dataclasses
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from socket import gethostname
from typing import Any, NamedTuple

from chatsite.audit.record import record
from chatsite.capacity.admission import Limits, Load, PinnedFull, Reject, decide
from chatsite.capacity.offload_layout import Layout, Option
from chatsite.engine.contract.devices import Device
from chatsite.engine.contract.tuning import Tuning
from chatsite.errors import ChatsiteError, ModelDoesNotFit, ModelUnavailable, NoPlaceForModel
from chatsite.hosts.status import ModelStatus
from chatsite.inference import model_spec as specs
from chatsite.inference.model_spec import ModelSpec
from chatsite.inference.runner import ModelRunner
from chatsite.inference.runner_callbacks import RunnerCallbacks
from chatsite.inference.runner_view import held, status_of
from chatsite.inference.running_request import RunningRequest
from chatsite.inference.tuner import Measurement, Tuner

log = logging.getLogger(__name__)

# A name is resolved again after this time, so that a switch to another version is noticed, also
# while a loaded model gets no requests.
_RESOLVE_SECONDS = 2.0
# Names of loaded idle models are resolved less often, by this factor.
_LOADED_TIMES = 5
PATIENCE_SECONDS = 30.0
_CACHE_UNIT = 32 << 20  # smaller changes of the share are not sent to the child
_REFUSED_SECONDS = 10.0
_NO_LIMITS = (1 << 62, 1 << 62)
# A device that failed may have been full for a moment, so it is tried again after this time.
_DEVICE_PROBLEM_SECONDS = 600.0
# A measurement begins when the host has been idle for this long, and a model that has answered
# has been unused for longer: a request during the measurement is then unlikely.
QUIET_SECONDS = 5.0
# How long batches are held before they get a second beside requests of users.
_HOLD_SECONDS = 15.0
_TUNE_UNUSED_SECONDS = 60.0
# A model that must be unloaded for its measurement, or reloaded with new settings, loses the KV
# cache of its conversations, so this waits until they have likely ended.
_LEAVE_UNUSED_SECONDS = 600.0
_MOST_TO_TUNE = 100


class _Away(NamedTuple):
    """A model that was unloaded for its own measurement, with the runner's state to restore."""

    spec: ModelSpec
    keep_alive: float
    last_used: float
    used: bool


class _Demotion(NamedTuple):
    """At most ``layers`` on devices, which refused more at ``when`` because of ``reason``."""

    layers: int
    reason: str
    when: float


async def _no_devices(*, fresh: bool = False) -> tuple[Device, ...]:
    return ()


class Placement:
    """The runners by digest, since two names may refer to one version.

    ``room`` returns the budget for models and the available memory of the machine, in bytes.
    ``devices`` returns the accelerators, for at most ``layers`` of each model (None for all).
    Results of ``resolve`` are cached for ``resolve_seconds``.
    """

    def __init__(
        self,
        resolve: Callable[[str], Coroutine[Any, Any, ModelSpec]],
        effects: RunnerCallbacks,
        keep_loaded: int,
        room: Callable[[], tuple[int, int]] = lambda: _NO_LIMITS,
        devices: Callable[..., Awaitable[tuple[Device, ...]]] = _no_devices,
        layers: int | None = None,
        resolve_seconds: float = _RESOLVE_SECONDS,
    ) -> None:
        self._resolve = resolve
        self._resolve_seconds = resolve_seconds
        self._effects = effects
        self._keep_loaded = keep_loaded
        self._room = room
        self._devices = devices
        self._layers = layers
        self._demoted: dict[str, _Demotion] = {}
        self._runners: dict[str, ModelRunner] = {}
        self._held_since: float | None = None
        self._names: dict[str, tuple[ModelSpec, float]] = {}
        self._kept_waiting: dict[str, tuple[ModelSpec, float]] = {}
        self._in_line: set[str] = set()
        self._tuner = Tuner()
        self._to_tune: dict[str, None] = {}
        self._away: _Away | None = None
        self._measured: dict[str, Tuning] = {}
        self._busy_at = time.monotonic()
        self._refused: dict[str, tuple[ModelSpec, ChatsiteError, float]] = {}

    async def runner_for(self, name: str) -> ModelRunner | None:
        """Return the runner of a model, started if memory allows; None while it must wait.

        Raises `ChatsiteError` if the name is unknown or its model can't be served. Of these,
        `ModelDoesNotFit` and `NoPlaceForModel` apply to this host only.
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
                self._drain_oldest_if_starving(time.monotonic() - since)
                return None
        self._kept_waiting.pop(name, None)
        self._refused.pop(name, None)
        if runner.state == "failed":
            raise ModelUnavailable
        runner.ensure()
        return runner

    def set_waiting_models(self, names: set[str]) -> None:
        """Set which models have queued jobs.

        A model loaded for them is not evicted before it has answered, unless others starve.
        """
        self._in_line = {self._names[name][0].digest for name in names if name in self._names}
        if names:
            self._busy_at = time.monotonic()
        self._kept_waiting = {n: kept for n, kept in self._kept_waiting.items() if n in names}
        if not self._kept_waiting:
            for runner in self._runners.values():
                runner.closing = False

    def _drain_oldest_if_starving(self, waited: float) -> None:
        """Drain the model that has been loaded longest, if another has waited too long for memory.

        A model in constant demand is never idle, so waiting models would starve.
        """
        if waited < PATIENCE_SECONDS or any(r.closing for r in self._runners.values()):
            return
        candidates = [runner for runner in self._runners.values() if not runner.spec.pinned]
        if candidates:
            min(candidates, key=lambda runner: runner.since).closing = True

    async def housekeep(self) -> None:
        """Unload idle models that expired or that no name refers to; kill children that hang."""
        for name, (spec, _) in tuple(self._names.items()):
            if spec.digest in self._runners:
                try:
                    await self._spec(name, _LOADED_TIMES * self._resolve_seconds)
                except ChatsiteError:
                    self._names.pop(name, None)  # `forget` may have removed it meanwhile
        named = {spec.digest for spec, _ in self._names.values()}
        for runner in tuple(self._runners.values()):
            runner.watch()
            if not runner.idle or runner.spec.digest in self._in_line:
                continue
            expires_in = runner.expires_in
            if runner.spec.digest not in named or (expires_in is not None and expires_in <= 0):
                log.info("Unloading an idle model", extra={"model": runner.spec.name})
                await self._stop(runner)
        await self._share()
        await self._tend_tuning()

    # Tuning, while the host is idle.

    def tune_soon(self, name: str) -> None:
        """Queue the measurement of a model that was just installed."""
        if len(self._to_tune) < _MOST_TO_TUNE:
            self._to_tune[name] = None

    async def interrupt_tuning(self) -> None:
        """End a measurement, since a model is to compute or to be loaded.

        Its child has ended when this returns; what was measured is kept.
        """
        await self._tuner.interrupt()

    async def _tend_tuning(self) -> None:
        """Take the results of a measurement; begin the next one once the host has been idle."""
        at_work = any(map(_at_work, self._runners.values()))
        if busy := at_work or bool(self._in_line) or bool(self._kept_waiting):
            self._busy_at = time.monotonic()
            await self._tuner.interrupt()
        if (ended := self._tuner.ended()) is not None:
            self._take_measured(ended)
        if busy or self._tuner.running or time.monotonic() - self._busy_at < QUIET_SECONDS:
            return
        if self._away is not None:
            away, self._away = self._away, None
            await self._come_back(away)
        elif not await self._reload_measured():
            await self._measure_next()

    def _take_measured(self, ended: Measurement) -> None:
        digest, tuned = ended.spec.digest, ended.task.result()
        if tuned is not None and tuned.complete:
            self._measured[digest] = tuned.tuning
        elif digest not in self._runners and self._away is None:
            self.tune_soon(ended.spec.name)

    async def _measure_next(self) -> None:
        """Measure one model: a newly installed one, or the loaded one that is idle longest."""
        for name in tuple(self._to_tune):
            known = self._names.get(name)
            if known is not None and not self._tuner.may_try(known[0].digest):
                continue
            del self._to_tune[name]
            if await self._measure_unloaded(name):
                return
        for runner in sorted(self._runners.values(), key=lambda runner: runner.last_used):
            digest = runner.spec.digest
            if not runner.rough or digest in self._measured or not self._tuner.may_try(digest):
                continue
            unused = time.monotonic() - runner.last_used
            if runner.used and unused < _TUNE_UNUSED_SECONDS:
                continue
            size = runner.layout.option.total
            # A device rarely has memory for a second instance.
            if runner.layout.layers or size > self._room_beside():
                if runner.used and (runner.spec.pinned or unused < _LEAVE_UNUSED_SECONDS):
                    continue
                self._away = await self._leave(runner)
            self._tuner.begin(runner.spec, runner.layout.offload, size)
            return

    async def _measure_unloaded(self, name: str) -> bool:
        """Begin to measure a model that is not loaded; return whether a measurement began."""
        try:
            spec = await self._spec(name)
        except ChatsiteError as error:
            log.info("Model can't be tuned", extra={"model": name, "error": error})
            return False
        if spec.digest in self._runners or not self._tuner.may_try(spec.digest):
            return False
        others = [held(runner) for runner in self._runners.values()]
        options, limits = await self._limits(spec)
        limits = limits._replace(models=len(others) + 1)
        match decide(options, others, limits):
            case Load(layout, ()) if layout.option.total <= self._room_beside():
                measured = _as_laid_out(spec, layout)
                if specs.known_tuning(measured, layout.offload).complete:
                    return False
                self._tuner.begin(measured, layout.offload, layout.option.total)
                return True
        log.info(
            "Tuning postponed until the model is loaded: memory is short", extra={"model": name}
        )
        return False

    async def _reload_measured(self) -> bool:
        """Reload a model whose settings were measured after it was loaded; return whether one was.

        Waits until no conversation is likely to lose its cache.
        """
        for digest, tuning in tuple(self._measured.items()):
            runner = self._runners.get(digest)
            if runner is None or runner.tuning == tuning:
                del self._measured[digest]
                if runner is not None:
                    runner.rough = False
                continue
            unused = time.monotonic() - runner.last_used
            if runner.used and unused < _LEAVE_UNUSED_SECONDS:
                continue
            del self._measured[digest]
            await self._come_back(await self._leave(runner))
            return True
        return False

    async def _leave(self, runner: ModelRunner) -> _Away:
        await self._stop(runner)
        return _Away(runner.spec, runner.keep_alive, runner.last_used, runner.used)

    async def _come_back(self, away: _Away) -> None:
        """Reload a model that was unloaded for tuning, unless its memory was taken meanwhile."""
        self._names.pop(away.spec.name, None)  # its memory need may have changed
        try:
            spec = await self._spec(away.spec.name)
            if spec.digest in self._runners:
                return
            runner = await self._make(spec, evicting=False)
        except ChatsiteError as error:
            log.info(
                "Model is not loaded again after tuning",
                extra={"model": away.spec.name, "error": error},
            )
            return
        if runner is not None:
            runner.keep_alive, runner.last_used = away.keep_alive, away.last_used
            runner.used, runner.returning = away.used, True
            runner.ensure()

    def _room_beside(self) -> int:
        """Return the bytes that are neither promised to a model nor hold a conversation."""
        budget, available = self._room()
        taken = sum(
            held(runner).promised + (runner.stats.saved_bytes if runner.stats else 0)
            for runner in self._runners.values()
        )
        return min(budget - taken, available)

    def loaded(self, digest: str) -> ModelRunner | None:
        return self._runners.get(digest)

    def holds(self, name: str) -> bool:
        """Whether the model is loaded or loading here."""
        known = self._names.get(name)
        return known is not None and known[0].digest in self._runners

    def free(self, name: str) -> ModelRunner | None:
        """Return the runner of a loaded model with a free slot and no queued jobs."""
        known = self._names.get(name)
        runner = self._runners.get(known[0].digest) if known else None
        waited_for = known is not None and known[0].digest in self._in_line
        return runner if runner and runner.free_slots > 0 and not waited_for else None

    @property
    def idle(self) -> bool:
        """Whether no request is running here."""
        return all(runner.idle for runner in self._runners.values())

    @property
    def committed(self) -> int:
        """Bytes promised to models, their caches and a measurement."""
        measured = self._tuner.running.bytes if self._tuner.running else 0
        return measured + sum(
            held(runner).promised + runner.cache_bytes for runner in self._runners.values()
        )

    @property
    def on_devices(self) -> Mapping[str, int]:
        """Bytes promised on each device."""
        promised: Counter[str] = Counter()
        for runner in self._runners.values():
            promised.update(dict(runner.layout.on))
        return promised

    async def _spec(self, name: str, fresh_seconds: float | None = None) -> ModelSpec:
        if fresh_seconds is None:
            fresh_seconds = self._resolve_seconds
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

    async def _make(self, spec: ModelSpec, *, evicting: bool = True) -> ModelRunner | None:
        """Return a new runner, after evicting others if necessary.

        None while they can't be evicted, or if ``evicting`` is false and memory is short.
        """
        await self._tuner.interrupt()
        _most, problem = self._most_layers(spec.digest)
        fresh = False
        while True:
            options, limits = await self._limits(spec, fresh=fresh)
            others = [held(r, self._in_line) for r in self._runners.values()]
            match decide(options, others, limits):
                case PinnedFull():
                    raise NoPlaceForModel
                case Reject(least, room):
                    raise ModelDoesNotFit(
                        needed_mb=-(-least.total >> 20),
                        room_mb=room >> 20,
                        context=least.context,
                    )
                case Load(layout, evict) if evicting or not evict:
                    for digest in evict:
                        if other := self._runners.get(digest):
                            await self._stop(other)
                    if evict and limits.devices:
                        # What a device really gets back is known only after the eviction.
                        fresh = True
                        continue
                    return await self._begin(spec, layout, problem)
                case _:
                    return None

    async def _limits(
        self, spec: ModelSpec, *, fresh: bool = False
    ) -> tuple[tuple[Option, ...], Limits]:
        """Return the load options of the model and the limits that apply now."""
        devices = await self._devices(fresh=fresh)
        options = spec.options or (Option(spec.context, 0, 0),)
        if devices:  # devices have their own kernels for all types of weights
            options = tuple(option for option in options if not option.copy)
        most, _problem = self._most_layers(spec.digest)
        budget, available = self._room()
        return options, Limits(budget, available, self._keep_loaded, devices, most)

    async def _begin(self, spec: ModelSpec, layout: Layout, problem: str) -> ModelRunner:
        context = layout.option.context
        if context < spec.context:
            log.warning(
                "Context reduced: memory is short",
                extra={"model": spec.name, "context": context, "wanted_context": spec.context},
            )
        if layout.layers:
            log.info(
                "Offloading layers", extra={"model": spec.name, "offload": str(layout.offload)}
            )
        runner = self._runners[spec.digest] = ModelRunner(
            _as_laid_out(spec, layout),
            self._effects,
            layout,
            wanted=spec.context,
            device_problem=problem,
            keep_alive=spec.keep_alive,
            alone=self._tuner.alone,
        )
        record(
            "model.loaded",
            via="system",
            target=("version", spec.digest, spec.name),
            host=gethostname(),
            context=context,
        )
        await self._share()
        return runner

    def _most_layers(self, digest: str) -> tuple[int | None, str]:
        """Return the limit of layers on devices, and the reason if it is reduced."""
        found = self._demoted.get(digest)
        if found is None or time.monotonic() - found.when > _DEVICE_PROBLEM_SECONDS:
            self._demoted.pop(digest, None)
            return self._layers, ""
        return found.layers, found.reason

    def demote(self, digest: str, reason: str) -> None:
        """Forget a runner whose layers a device refused; use half of them next time, then none."""
        runner = self._runners.pop(digest, None)
        if runner is not None:
            again = digest in self._demoted
            layers = 0 if again else runner.layout.layers // 2
            self._demoted[digest] = _Demotion(layers, reason, time.monotonic())

    async def _share(self) -> None:
        """Divide what models leave of the budget equally between the caches."""
        if not self._runners:
            return
        budget, _available = self._room()
        left = budget - sum(held(runner).promised for runner in self._runners.values())
        part = max(0, left // len(self._runners)) // _CACHE_UNIT * _CACHE_UNIT
        for runner in self._runners.values():
            await runner.grant(min(runner.spec.cache_bytes, part))

    async def _stop(self, runner: ModelRunner) -> None:
        # A runner that failed while another was being stopped is forgotten already.
        self._runners.pop(runner.spec.digest, None)
        await runner.stop()
        target = ("version", runner.spec.digest, runner.spec.name)
        record("model.unloaded", via="system", target=target, host=gethostname())

    async def unload(self, digest: str) -> bool:
        """Unload a model; False if it has running requests or is not loaded."""
        runner = self._runners.get(digest)
        if self._away is not None and self._away.spec.digest == digest:
            await self._tuner.interrupt()
            self._away = None
            return True
        if runner is None or not runner.idle:
            return False
        await self._stop(runner)
        return True

    def forget(self, digest: str) -> None:
        """Drop a failed runner, so that a model released from quarantine may be tried again."""
        self._runners.pop(digest, None)
        self._names = {n: known for n, known in self._names.items() if known[0].digest != digest}

    def running(self) -> list[RunningRequest]:
        return [job for runner in self._runners.values() for job in runner.running.values()]

    async def cancel(self, id: str) -> None:
        for runner in self._runners.values():
            await runner.cancel(id)

    async def tend_batches(self, *, arriving: bool = False) -> None:
        """Hold the batches of all models while requests of users run or one is ``arriving``.

        So that they end eventually, they get a second now and then.
        """
        runners = tuple(self._runners.values())
        now = time.monotonic()
        if not arriving and not any(runner.serves_users for runner in runners):
            self._held_since, held = None, False
        else:
            self._held_since = self._held_since or now
            held = arriving or now - self._held_since < _HOLD_SECONDS
            if not held:
                self._held_since = None
        for runner in runners:
            await runner.hold_batches(held)

    async def drop_cache(self, owner: str) -> None:
        for runner in tuple(self._runners.values()):
            await runner.drop_cache(owner)

    async def drop(self, id: str) -> None:
        for runner in self._runners.values():
            await runner.drop(id)

    async def stop_all(self) -> list[RunningRequest]:
        """End all children; return their unfinished jobs."""
        await self._tuner.interrupt()
        runners, self._runners = list(self._runners.values()), {}
        return [job for runner in runners for job in await runner.stop()]

    def statuses(self) -> tuple[ModelStatus, ...]:
        """Return the status of models that are loaded, wait for memory or were refused lately."""
        found, measured = [], self._tuner.running
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
            elif measured is not None and measured.spec.digest == spec.digest:
                found.append(ModelStatus(name, spec.digest, "tuning", self._tuner.progress))
        return tuple(found)


def _as_laid_out(spec: ModelSpec, layout: Layout) -> ModelSpec:
    """Return the spec reduced to what was promised to it."""
    return dataclasses.replace(
        spec, context=layout.option.context, copy=spec.copy if layout.option.copy else None
    )


def _at_work(runner: ModelRunner) -> bool:
    return runner.writing or runner.state in {"loading", "tuning", "waiting"}


def _other_size(runner: ModelRunner, spec: ModelSpec) -> bool:
    """Whether an administrator has changed the context or slots since the model was loaded."""
    return (runner.wanted, runner.spec.slots) != (spec.context, spec.slots)
