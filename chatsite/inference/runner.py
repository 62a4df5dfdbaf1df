"""One model on this host: its engine child, from measuring to the last frame.

The runner is the only owner of the model's state. Others call `ensure`, `take`, `cancel` and
`stop`, and never act on a state that they read before.
"""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress
from dataclasses import dataclass, field, replace

from chatsite.engine import autotune
from chatsite.engine import messages as m
from chatsite.engine.client import EngineClient, EngineError, EngineGone
from chatsite.engine.frames import FrameTooLarge
from chatsite.engine.tuning import Tuning
from chatsite.errors import ContextOverflow
from chatsite.inference.asides import Aside, Asides
from chatsite.inference.effects import Effects
from chatsite.inference.expect import Occupancy
from chatsite.inference.latency import Latency
from chatsite.inference.layout import Layout, Option
from chatsite.inference.questions import Questions
from chatsite.inference.running import Running
from chatsite.inference.spec import ModelSpec
from chatsite.inference.status import ModelState
from chatsite.inference.tuner import Tuner

log = logging.getLogger(__name__)

_BACKOFF_SECONDS = (0.2, 1.0, 5.0, 15.0)
# A model whose child dies before it has ever answered is broken for this machine. For one that
# has answered a request may be to blame: that one is given up after `max_attempts` (3) deaths,
# so only a death without it counts against the model.
_DEATHS_BEFORE_FIRST_ANSWER = 2
_DEATHS_IN_A_ROW = 4
# A child that computes says so every second or so. Steps are far shorter than this, but the first
# ones of a large model may have to read it from a slow disk.
_SILENT_SECONDS = 300.0


class DeviceFailed(Exception):
    """The model could not be loaded with layers on devices; it may be without."""


_NOTHING = Layout(Option(0, 0, 0))


@dataclass
class ModelRunner:
    """``layout`` is where the model is and what was promised to it, ``cache_bytes`` are what it
    may have besides, ``wanted`` the context that it should have had, ``device_problem`` why not
    more of it is on devices; ``weights`` is the kind of its copy, if that is what is computed."""

    spec: ModelSpec
    effects: Effects
    layout: Layout = _NOTHING
    cache_bytes: int = 0
    wanted: int = 0
    device_problem: str = ""
    weights: str = ""
    keep_alive: float = -1.0
    state: ModelState = "waiting"
    progress: float | None = None
    reason: str = ""
    loaded: m.Loaded | None = None
    stats: m.Stats | None = None
    running: dict[str, Running] = field(default_factory=dict)
    occupancy: Occupancy = field(default_factory=Occupancy)
    latency: Latency = field(default_factory=Latency)
    last_used: float = field(default_factory=time.monotonic)
    since: float = field(default_factory=time.monotonic)
    # It takes no more jobs, since another model has waited for its memory for long.
    closing: bool = False
    # A job that was there when a child died, twice, waits to be computed alone.
    suspect_waits: bool = False
    tuner: Tuner = field(default_factory=Tuner)
    _questions: Questions = field(default_factory=Questions)
    _asides: Asides = field(default_factory=Asides)
    _client: EngineClient | None = None
    _task: asyncio.Task[None] | None = None
    _deaths: int = 0
    _has_answered: bool = False

    @property
    def free_slots(self) -> int:
        """How many jobs may be taken now. One that gets its last chance is computed alone: if
        it is what kills the children, it takes nobody's answer with it."""
        if self.state != "ready" or self._client is None or self.closing:
            return 0
        if any(running.lease.last_chance for running in self.running.values()):
            return 0
        if self.suspect_waits and self.running:
            return 0
        return self.spec.slots - len(self.running)

    @property
    def idle(self) -> bool:
        return not self.running

    @property
    def promised(self) -> int:
        """Bytes: as computed until the model is loaded, then as measured, with what it may still
        take as it works. Its cache has what is left over."""
        option = self.layout.option
        if self.loaded is None or self.tuner.rough:  # which leaves and comes back
            return option.total
        return self.loaded.rss_bytes + option.work

    @property
    def expires_in(self) -> float | None:
        """Seconds until it is let go, if nobody asks; None for never."""
        if self.keep_alive < 0 or self.spec.pinned or self.state in {"measuring", "loading"}:
            return None
        if not self.idle:
            return self.keep_alive
        return self.last_used + self.keep_alive - time.monotonic()

    @property
    def pid(self) -> int | None:
        return self._client.pid if self._client else None

    @property
    def syntax(self) -> m.OutputSyntax:
        return self.loaded.syntax if self.loaded else m.PLAIN

    def ensure(self) -> None:
        """Sees to it that the model is loaded or on its way."""
        if self._task is None:
            self._task = asyncio.create_task(self._live(), name=f"model {self.spec.name}")

    async def take(self, running: Running) -> None:
        """Gives a leased job to the child; the caller has seen a free slot."""
        job = running.lease.job
        self.running[job.id] = running
        self.last_used = time.monotonic()
        if self.free_slots <= 0:
            await self._asides.give_way(self._send)
        try:
            await self._send(running.frame())
        except FrameTooLarge as error:
            log.warning("generation %s: %s", job.id, error)
            self._end(job.id, m.Failed(job.id, ContextOverflow.code, str(ContextOverflow())))

    async def cancel(self, id: str) -> None:
        if id in self.running:
            await self._send(m.Cancel(id))

    async def measure(self, measure: m.Measure) -> m.Measured | m.Failed | None:
        """Tokens of texts; None while the model is not loaded or too busy to say, and of more
        than can be sent."""
        with suppress(FrameTooLarge):
            return await self._questions.ask(measure, self._send) if self.state == "ready" else None
        return None

    async def aside(self, request: m.Generate, seconds: float) -> Aside | None:
        """What the child writes beside its jobs, on a slot that none of them needs."""
        return await self._asides.write(request, self._send, seconds)

    async def _send(self, frame: m.ToChild) -> None:
        # To a child that has just died nothing need be said: `_live` gives its jobs back.
        if self._client is not None:
            with suppress(EngineGone):
                await self._client.send(frame)

    async def grant(self, cache_bytes: int) -> None:
        """Sets the memory for conversations that lost their slot."""
        changed = self.cache_bytes != cache_bytes
        self.cache_bytes = cache_bytes
        if changed and self.state == "ready":
            await self._send(m.Cache(cache_bytes))

    async def drop(self, id: str) -> None:
        """Forgets a job that another attempt has; what its slot still writes is ignored."""
        await self.cancel(id)
        self.running.pop(id, None)

    def watch(self, *, waited_for: bool) -> None:
        """Ends a child that has stopped to compute with answers under way, which begin again; and
        an idle one whose settings are not all measured, unless it is ``waited_for``."""
        if self._client is None or self.state != "ready":
            return
        unused = time.monotonic() - self.last_used
        if self.running and min(unused, time.monotonic() - self._client.heard) > _SILENT_SECONDS:
            log.error("%s: no sign of life for %d s", self.spec.name, _SILENT_SECONDS)
            self._client.kill()
        elif self.idle and not waited_for and self.tuner.due(unused):
            self._become("measuring", 0.0)
            self._client.kill()

    async def stop(self) -> list[Running]:
        """Ends the child; returns what it had not finished."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        left, self.running = list(self.running.values()), {}
        return left

    # The child's life.

    async def _live(self) -> None:
        """Loads, feeds and restarts the child until it is stopped or given up."""
        while True:
            try:
                reason = await self._one_life()
                if self.tuner.left_for_it():
                    continue
            except asyncio.CancelledError:
                raise
            except (autotune.NoTuningWorks, DeviceFailed) as error:
                self._fail(str(error))
                return
            except EngineError as error:
                reason = str(error)
            except Exception:
                log.exception("%s: the engine could not be run", self.spec.name)
                reason = "the engine could not be run; see the log"
            self._deaths += 1
            log.error("%s: engine child ended: %s", self.spec.name, reason)
            lost, self.running = list(self.running.values()), {}
            self.effects.died(lost)
            limit = _DEATHS_IN_A_ROW if self._has_answered else _DEATHS_BEFORE_FIRST_ANSWER
            if self._deaths >= limit:
                self._fail(reason)
                return
            self._become("loading")
            await asyncio.sleep(_BACKOFF_SECONDS[min(self._deaths, len(_BACKOFF_SECONDS)) - 1])

    def _fail(self, reason: str) -> None:
        """A device may fail where it should not: its driver, or others took its memory."""
        if self.layout.layers:
            log.error("%s: %d layers on devices: %s", self.spec.name, self.layout.layers, reason)
            self._become("waiting")
            self.effects.demoted(self.spec, reason)
            return
        self.reason = reason
        self._become("failed")
        self.effects.broken(self.spec, reason)

    def _become(self, state: ModelState, progress: float | None = None) -> None:
        self.state, self.progress = state, progress
        self.effects.changed()

    async def _one_life(self) -> str:
        """Runs one child to its end; returns why it ended."""
        self.loaded = self.stats = None
        self._become("measuring", 0.0)
        tuning = await self.tuner.tuning(
            self.spec,
            self.layout.offload,
            lambda progress: self._become("measuring", progress.done / max(progress.total, 1)),
            # A child that died of settings that were not measured needs others.
            patient=bool(self._deaths),
        )
        self.weights = tuning.weights
        self._become("loading", 0.0)
        client = EngineClient(
            self.spec.name,
            backend=self.spec.backend,
            on_log=lambda line: log.info("engine %s: %s", self.spec.name, line),
        )
        try:
            self._client = client
            cache = self.cache_bytes
            self.loaded = await self._start(client, tuning)
            if cache != self.cache_bytes:
                await self._send(m.Cache(self.cache_bytes))
            self.last_used = time.monotonic()
            self._become("ready")
            async for frame in client:
                self._handle(frame)
            return await client.wait()
        finally:
            self._client = None
            self._asides.lose()
            await client.stop()

    async def _start(self, client: EngineClient, tuning: Tuning) -> m.Loaded:
        load = self.spec.load(tuning, self.layout.offload, self.cache_bytes)
        try:
            return await client.start(
                load, on_loading=lambda progress: self._become("loading", progress)
            )
        except EngineError as error:
            if self.layout.layers:
                raise DeviceFailed(str(error)) from error
            if self.spec.copy and tuning.weights:
                # It worked when it was measured: the next life is the file's own.
                self.spec.copy.remove()
                self.spec = replace(self.spec, copy=None)
            raise

    # Frames.

    def _handle(self, frame: m.ToHost) -> None:
        if self._questions.take(frame) or self._asides.take(frame):
            return
        match frame:
            case m.Step(deltas):
                for delta in deltas:
                    self._text(delta)
            case m.Stats():
                self.stats = frame
            case m.Finished() | m.Embedded():
                self._deaths, self._has_answered = 0, True
                self._end(frame.id, frame)
            case m.Failed():
                self._end(frame.id, frame)

    def _text(self, delta: m.Delta) -> None:
        running = self.running.get(delta.id)
        if running is None:
            return
        if running.first_text_at is None:
            running.first_text_at = time.time()
        publisher = self.effects.publisher
        publisher.append(running.writer, delta.text, delta.tokens, delta.logprobs)
        took = running.reasoning.push(delta.text, time.monotonic())
        if took is not None:
            publisher.reasoned(running.writer, took)

    def _end(self, id: str, last: m.Finished | m.Embedded | m.Failed) -> None:
        running = self.running.pop(id, None)
        if running is None:
            return
        self.last_used = time.monotonic()
        said = running.lease.job.keep_alive
        self.keep_alive = self.spec.keep_alive if said is None else said
        outcome = running.closed(last, self.last_used)
        if isinstance(last, m.Finished):
            self.occupancy.add(time.monotonic() - running.began)
            self.latency.add(last.usage, outcome.ttft_ms)
        self.effects.ended(running, outcome)
        self.effects.changed()
