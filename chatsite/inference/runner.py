"""One model on this host: its engine child, from tuning to the last frame.

The runner is the only owner of the model's state. Others call `ensure`, `submit`, `cancel` and
`stop`, and never act on a state that they read before.
"""

from __future__ import annotations

import asyncio
import logging
import time
from contextlib import suppress
from dataclasses import dataclass, field, replace

from chatsite import logs
from chatsite.capacity.offload_layout import Layout, Option
from chatsite.engine.client import EngineClient, EngineError, EngineGone
from chatsite.engine.contract import messages as m
from chatsite.engine.contract.frames import FrameTooLarge
from chatsite.engine.contract.tuning import Tuning
from chatsite.engine.tuning import autotune
from chatsite.errors import ContextOverflow
from chatsite.hosts.latency import Latency
from chatsite.hosts.status import ModelState
from chatsite.hosts.token_counts import ANSWER_SECONDS
from chatsite.hosts.wait_estimate import Occupancy
from chatsite.inference import model_spec as specs
from chatsite.inference.background import BackgroundGeneration, BackgroundGenerations
from chatsite.inference.model_spec import ModelSpec
from chatsite.inference.pending_token_counts import PendingTokenCounts
from chatsite.inference.runner_callbacks import RunnerCallbacks
from chatsite.inference.running_request import RunningRequest
from chatsite.sandbox import log_lines

log = logging.getLogger(__name__)

_BACKOFF_SECONDS = (0.2, 1.0, 5.0, 15.0)
# A model whose child dies before its first answer is broken on this machine. After that, a request
# may be the cause: it is given up after `max_attempts` (3) deaths, so only deaths without it count
# against the model.
_DEATHS_BEFORE_FIRST_ANSWER = 2
_DEATHS_IN_A_ROW = 4
# A busy child sends frames every second or so. Steps are far shorter than this limit, but the
# first ones of a large model may have to read it from a slow disk.
SILENT_SECONDS = 300.0
# Ended requests whose IDs are kept for their last log lines.
_ENDED_KEPT = 256


class DeviceFailed(Exception):
    """The model could not be loaded with layers on devices; it may load without."""


_NOTHING = Layout(Option(0, 0, 0))


@dataclass
class ModelRunner:
    """The state of one model and its child.

    ``layout`` is where the weights are and what memory was promised; ``cache_bytes`` the cache
    beside it; ``wanted`` the configured context; ``device_problem`` why not more layers are on
    devices; ``weights`` the type of its copy if that is loaded.
    """

    spec: ModelSpec
    effects: RunnerCallbacks
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
    running: dict[str, RunningRequest] = field(default_factory=dict)
    _ended_requests: dict[str, str] = field(default_factory=dict, init=False)
    occupancy: Occupancy = field(default_factory=Occupancy)
    latency: Latency = field(default_factory=Latency)
    empty_answers: int = 0
    last_used: float = field(default_factory=time.monotonic)
    since: float = field(default_factory=time.monotonic)
    # Takes no more jobs, since another model has waited too long for its memory.
    closing: bool = False
    # A job present at two crashes of a child waits to be computed alone.
    suspect_waits: bool = False
    # The settings that the child was loaded with; ``rough`` if not all have been measured.
    tuning: Tuning | None = None
    rough: bool = False
    # Held while this host probes or measures, which must not overlap.
    alone: asyncio.Lock = field(default_factory=asyncio.Lock)
    # It has had a request since it was loaded, or before it was unloaded for tuning.
    used: bool = False
    # It was reloaded with other settings; no request waits for it.
    returning: bool = False
    _token_counts: PendingTokenCounts = field(default_factory=PendingTokenCounts)
    asides: BackgroundGenerations = field(default_factory=BackgroundGenerations)
    _held: bool = False
    _client: EngineClient | None = None
    _task: asyncio.Task[None] | None = None
    _deaths: int = 0
    _has_answered: bool = False

    @property
    def free_slots(self) -> int:
        """How many jobs may be taken now.

        A job with its last chance is computed alone: if it crashes the child, no other answer is
        lost.
        """
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
    def writing(self) -> bool:
        """Whether the child computes answers or background text."""
        return bool(self.running) or self.asides.open

    @property
    def promised(self) -> int:
        """Bytes: as computed until the model is loaded, then as measured plus its working memory.

        The cache gets what remains of the budget.
        """
        option = self.layout.option
        if self.loaded is None or self.rough:  # other settings may take more
            return option.total
        return self.loaded.rss_bytes + option.work

    @property
    def expires_in(self) -> float | None:
        """Seconds until the model is unloaded if it stays idle; None for never."""
        if self.keep_alive < 0 or self.spec.pinned or self.state in {"tuning", "loading"}:
            return None
        if not self.idle:
            return self.keep_alive
        return self.last_used + self.keep_alive - time.monotonic()

    @property
    def pid(self) -> int | None:
        return self._client.pid if self._client else None

    @property
    def digest(self) -> str:
        return self.spec.digest

    @property
    def engine_name(self) -> str | None:
        """None: the model is computed by this host."""
        return None

    @property
    def parameters(self) -> int | None:
        """The number of the model's parameters; None if unknown."""
        return self.loaded.parameters if self.loaded else None

    @property
    def syntax(self) -> m.OutputSyntax:
        return self.loaded.syntax if self.loaded else m.PLAIN

    def ensure(self) -> None:
        """Start the model's task unless it runs."""
        if self._task is None:
            self._task = asyncio.create_task(self._live(), name=f"model {self.spec.name}")

    async def submit(self, running: RunningRequest) -> None:
        """Send a leased job to the child; the caller has seen a free slot."""
        job = running.lease.job
        self.running[running.run_id] = running
        self.used = True
        self.last_used = time.monotonic()
        if self.free_slots <= 0:
            await self.asides.preempt(self._send)
        try:
            await self._send(running.frame())
        except FrameTooLarge as error:
            log.warning("Request is too large", extra={"generation": job.id, "error": error})
            failed = m.Failed(running.run_id, ContextOverflow.code, str(ContextOverflow()))
            self._end(running.run_id, failed)

    async def cancel(self, id: str) -> None:
        """Cancel the attempts of the job ``id`` that run here."""
        for run_id in self._runs_of(id):
            await self._send(m.Cancel(run_id))

    def _runs_of(self, id: str) -> list[str]:
        return [run.run_id for run in self.running.values() if run.lease.job.id == id]

    async def count_tokens(
        self, measure: m.CountTokens, seconds: float = ANSWER_SECONDS
    ) -> m.TokenCounts | m.Failed | None:
        """Count the tokens of texts.

        None while the model is not loaded, after ``seconds`` without an answer, and for texts that
        exceed a frame.
        """
        if self.state == "ready":
            with suppress(FrameTooLarge):
                return await self._token_counts.ask(measure, self._send, seconds)
        return None

    async def generate_in_background(
        self, request: m.Generate, seconds: float
    ) -> BackgroundGeneration | None:
        """Generate in a slot that no request needs; None after preemption or a timeout."""
        return await self.asides.write(request, self._send, seconds)

    async def _send(self, frame: m.ToChild) -> None:
        # If the child has just died, `_live` gives its jobs back.
        if self._client is not None:
            with suppress(EngineGone):
                await self._client.send(frame)

    async def grant(self, cache_bytes: int) -> None:
        """Set the memory for the cache of conversations that lost their slot."""
        changed = self.cache_bytes != cache_bytes
        self.cache_bytes = cache_bytes
        if changed and self.state == "ready":
            await self._send(m.Cache(cache_bytes))

    @property
    def serves_users(self) -> bool:
        """Whether a request runs here that is not of class BATCH."""
        return any(run.lease.job.priority != m.BATCH for run in self.running.values())

    async def hold_batches(self, held: bool) -> None:
        """Let batches wait, or resume them."""
        if held != self._held and self.state == "ready":
            self._held = held
            self.last_used = time.monotonic()
            await self._send(m.HoldBatches(held))

    async def drop_cache(self, owner: str) -> None:
        """Drop the KV cache of a user whose data was deleted."""
        await self._send(m.DropCache(owner))

    async def drop(self, id: str) -> None:
        """Cancel and forget a job whose lease was lost; its later frames are ignored."""
        await self.cancel(id)
        for run_id in self._runs_of(id):
            del self.running[run_id]

    def watch(self) -> None:
        """Kill a child that hangs with running requests, which are then retried."""
        if self._client is None or self.state != "ready":
            return
        unused = time.monotonic() - self.last_used
        # A child whose batches are held is silent.
        computes = self.serves_users if self._held else bool(self.running)
        if computes and min(unused, time.monotonic() - self._client.heard) > SILENT_SECONDS:
            log.error(
                "Engine child does not respond; killing it",
                extra={"model": self.spec.name, "seconds": SILENT_SECONDS},
            )
            self._client.kill()

    async def stop(self) -> list[RunningRequest]:
        """End the child; return its unfinished jobs."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        left, self.running = list(self.running.values()), {}
        return left

    # Lifecycle of the child.

    async def _live(self) -> None:
        """Load, feed and restart the child until it is stopped or given up."""
        while True:
            try:
                reason = await self._one_life()
            except asyncio.CancelledError:
                raise
            except (autotune.NoTuningWorks, DeviceFailed) as error:
                self._fail(str(error))
                return
            except EngineError as error:
                reason = str(error)
            except Exception:
                log.exception("Engine can't be run", extra={"model": self.spec.name})
                reason = "the engine could not be run; see the log"
            self._deaths += 1
            lost, self.running = list(self.running.values()), {}
            log.error(
                "Engine child ended",
                extra={
                    "model": self.spec.name,
                    "reason": reason,
                    "generations": [running.lease.job.id for running in lost],
                },
            )
            self.effects.died(lost)
            limit = _DEATHS_IN_A_ROW if self._has_answered else _DEATHS_BEFORE_FIRST_ANSWER
            if self._deaths >= limit:
                self._fail(reason)
                return
            self._become("loading")
            await asyncio.sleep(_BACKOFF_SECONDS[min(self._deaths, len(_BACKOFF_SECONDS)) - 1])

    def _fail(self, reason: str) -> None:
        """Report the failure. If layers are on devices, demote: the driver may be the cause."""
        if self.layout.layers:
            log.error(
                "Offloaded model failed",
                extra={
                    "model": self.spec.name,
                    "layers": self.layout.layers,
                    "reason": reason,
                },
            )
            self._become("waiting")
            self.effects.demoted(self.spec, reason)
            return
        self.reason = reason
        self._become("failed")
        self.effects.broken(self.spec, reason)

    def _log_line(self, text: str) -> None:
        """Log a line of the child with the IDs of the answer that it is about."""
        log_lines.relay(text, log, self._ids, model=self.spec.name)

    def _ids(self, run: str) -> dict[str, log_lines.Value]:
        generation, _, attempt = run.rpartition(".")
        if not attempt.isdecimal():
            return {"run": run}  # a title or a count of tokens
        ids: dict[str, log_lines.Value] = {"generation": generation, "attempt": int(attempt)}
        running = self.running.get(run)
        request = running.lease.job.request_id if running else self._ended_requests.get(run)
        if request:
            ids["request_id"] = request
        return ids

    def _remember(self, run: str, running: RunningRequest) -> None:
        """Keep the request ID of an ended request for log lines that arrive after its end."""
        self._ended_requests[run] = running.lease.job.request_id
        while len(self._ended_requests) > _ENDED_KEPT:
            del self._ended_requests[next(iter(self._ended_requests))]

    def _become(self, state: ModelState, progress: float | None = None) -> None:
        self.state, self.progress = state, progress
        self.effects.changed()

    async def _one_life(self) -> str:
        """Run one child to its end; return why it ended."""
        self.loaded = self.stats = None
        self._held = False
        self._become("loading", 0.0)
        tuning = await self._settings()
        self.weights = tuning.weights
        client = EngineClient(
            self.spec.name,
            backend=self.spec.backend,
            on_log=self._log_line,
        )
        try:
            self._client = client
            cache = self.cache_bytes
            self.loaded = await self._start(client, tuning)
            if cache != self.cache_bytes:
                await self._send(m.Cache(self.cache_bytes))
            if not self.returning:
                self.last_used = time.monotonic()
            self._become("ready")
            async for frame in client:
                self.handle(frame)
            return await client.wait()
        finally:
            self._client = None
            self.asides.abandon()
            await client.stop()

    async def _settings(self) -> Tuning:
        """Return the known settings without measuring: requests must not wait for that.

        A child that died of settings that were never measured needs others, even if requests wait.
        Raises `NoTuningWorks`.
        """
        known = specs.known_tuning(self.spec, self.layout.offload)
        self.rough, self.tuning = not known.complete, known.tuning
        if self._deaths and not known.complete:
            self._become("tuning")
            async with self.alone:
                self.tuning = await specs.surviving_tuning(self.spec, self.layout.offload)
            self._become("loading", 0.0)
        return self.tuning

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
                # The copy worked when it was measured, so the next child loads the file itself.
                self.spec.copy.remove()
                self.spec = replace(self.spec, copy=None)
            raise

    # Frames.

    def handle(self, frame: m.ToHost) -> None:
        if self._token_counts.take(frame) or self.asides.take(frame):
            return
        match frame:
            case m.Step(deltas):
                for delta in deltas:
                    self._text(delta)
            case m.Started():
                running = self.running.get(frame.id)
                if running is not None and running.lease.job.options.progress:
                    publisher = self.effects.publisher
                    publisher.prompted(running.writer, frame.prompt_tokens, frame.cached_tokens)
            case m.EmbeddedPart(id, vectors):
                if running := self.running.get(id):
                    running.parts.append(vectors)
            case m.Stats():
                self.stats = frame
            case m.Finished() | m.Embedded():
                self._deaths, self._has_answered = 0, True
                self._end(frame.id, frame)
            case m.Failed():
                self._end(frame.id, frame)

    def _text(self, delta: m.Delta) -> None:
        running = self.running.get(delta.id)
        if running is not None:
            running.write(self.effects.publisher, delta.text, delta.tokens, delta.logprobs)

    def _end(self, id: str, last: m.Finished | m.Embedded | m.Failed) -> None:
        running = self.running.pop(id, None)
        if running is None:
            return
        self._remember(id, running)
        self.last_used = time.monotonic()
        said = running.lease.job.keep_alive
        self.keep_alive = self.spec.keep_alive if said is None else said
        outcome = running.closed(last, self.last_used)
        if isinstance(last, m.Finished):
            self.occupancy.add(time.monotonic() - running.began)
            self.latency.add(last.usage, outcome.ttft_ms)
            if last.reason != "cancelled" and not running.writer.full_text().strip():
                self.empty_answers += 1
                with logs.bind(request=running.lease.job.request_id):
                    log.warning(
                        "Generation ended without an answer",
                        extra={
                            "generation": running.lease.job.id,
                            "model": self.spec.name,
                            "reason": last.reason,
                        },
                    )
        self.effects.ended(running, outcome)
        self.effects.changed()
