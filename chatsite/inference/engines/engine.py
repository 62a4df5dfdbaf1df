"""One remote engine on the host that serves it: its health, and the requests that run there."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Final

import msgspec
from django.conf import settings
from django.utils import translation
from django.utils.translation import gettext

from chatsite.answers.outcome import Outcome
from chatsite.conversations.models import GenerationState
from chatsite.engine.contract import messages as m
from chatsite.errors import Interrupted as AnswerInterrupted
from chatsite.hosts.latency import Latency
from chatsite.hosts.status import EngineStatus
from chatsite.hosts.wait_estimate import Occupancy
from chatsite.inference.background import BackgroundGeneration
from chatsite.inference.engines import requests, routing
from chatsite.inference.engines.health import Health
from chatsite.inference.engines.known import EngineFacts
from chatsite.inference.engines.requests import CantServe
from chatsite.inference.remote import canonical, refusals
from chatsite.inference.remote.contract import (
    CannotContinue,
    Capability,
    Client,
    Discovery,
    Finish,
    Piece,
    Refused,
    RemoteError,
    RemoteModel,
    RemoteRequest,
    Unreachable,
)
from chatsite.inference.remote.messages import can_restart
from chatsite.inference.running_request import RunningRequest
from chatsite.stream.publish import Publisher

log = logging.getLogger(__name__)

# Discovery may cost the engine a token per model, so a healthy engine is asked rarely.
DISCOVER_SECONDS: Final = 600.0
# A busy engine gets no request for this long at first, then for up to `_BUSY_MOST_SECONDS`.
_BUSY_SECONDS: Final = 1.0
_BUSY_MOST_SECONDS: Final = 30.0
_COUNT_SECONDS: Final = 1.5
# A check that takes longer counts as failed, whatever the client waits for.
_CHECK_SECONDS: Final = 60.0


@dataclass
class ModelFigures:
    """What is measured of one model on all engines of this host."""

    occupancy: Occupancy = field(default_factory=Occupancy)
    latency: Latency = field(default_factory=Latency)
    decoded: int = 0
    empty_answers: int = 0


@dataclass(frozen=True)
class Callbacks:
    """What an engine calls on its host.

    ``ended`` saves an outcome; ``lost`` gives jobs back, as a fault or not; ``changed`` announces
    a new state or a free slot; ``discovered`` and ``failed`` save what a check found; ``turned``
    notes that an engine went down or came back.
    """

    ended: Callable[[RunningRequest, Outcome], None]
    lost: Callable[[list[RunningRequest], bool], None]
    changed: Callable[[], None]
    discovered: Callable[[EngineFacts, Discovery], Awaitable[None]]
    failed: Callable[[EngineFacts, str], Awaitable[None]]
    turned: Callable[[EngineFacts, str], None]
    publisher: Publisher


@dataclass
class _Running:
    """A request at the engine; ``cancelled`` by its owner."""

    request: RunningRequest
    digest: str
    task: asyncio.Task[None] | None = None
    cancelled: bool = False


class RemoteEngine:
    """An engine whose lease this host holds. ``figures`` are shared by the engines of a host."""

    def __init__(
        self,
        facts: EngineFacts,
        client: Client,
        callbacks: Callbacks,
        figures: dict[str, ModelFigures],
    ) -> None:
        self.facts = facts
        self.health = Health()
        self.prefixes = routing.PrefixMemory()
        self._client = client
        self._callbacks = callbacks
        self._figures = figures
        self._running: dict[str, _Running] = {}
        self._asides: set[asyncio.Task[BackgroundGeneration | None]] = set()
        self._checking: asyncio.Task[None] | None = None
        self._discovered_at = -DISCOVER_SECONDS
        self._busy_until = 0.0
        self._busy_times = 0
        self.last_used = time.monotonic()

    # State.

    @property
    def running(self) -> list[RunningRequest]:
        return [one.request for one in self._running.values()]

    @property
    def idle(self) -> bool:
        return not self._running

    def free_slots(self, digest: str) -> int:
        """Return how many more requests to the model ``digest`` may be sent now."""
        if digest not in self.facts.models or self.health.state != "ready":
            return 0
        if time.monotonic() < self._busy_until:
            return 0
        own = sum(one.digest == digest for one in self._running.values())
        every = self.facts.concurrency - len(self._running)
        return min(every, self.facts.slots(digest) - own)

    def busy(self, digest: str) -> int:
        return sum(one.digest == digest for one in self._running.values())

    def began(self, digest: str) -> list[float]:
        return [one.request.began for one in self._running.values() if one.digest == digest]

    @property
    def status(self) -> EngineStatus:
        due = self.health.due_at - time.monotonic()
        return EngineStatus(
            id=self.facts.id,
            name=self.facts.name,
            state=self.health.state,
            error=self.health.error,
            busy=len(self._running),
            slots=self.facts.concurrency,
            retry_at=time.time() + max(0.0, due) if self.health.state == "down" else None,
        )

    # Health.

    def tend(self, now: float) -> None:
        """Begin a check if one is due. Never waits."""
        if self.facts.problem:
            if self.health.state != "down":
                self._failed(self.facts.problem, now)
            return
        if self._checking is None and now >= self.health.due_at:
            self._checking = asyncio.create_task(self._check(), name=f"check {self.facts.name}")
            self._checking.add_done_callback(self._checked)

    def check_now(self) -> None:
        """Have the engine asked for its models at the next `tend`."""
        self._discovered_at = -DISCOVER_SECONDS
        self.health.check_now(time.monotonic())

    def _checked(self, task: asyncio.Task[None]) -> None:
        self._checking = None
        if not task.cancelled() and (error := task.exception()):
            log.error("Check of an engine failed", exc_info=error)
            self._failed("the check failed; see the log", time.monotonic())

    async def _check(self) -> None:
        ask_models = time.monotonic() - self._discovered_at >= DISCOVER_SECONDS
        try:
            async with asyncio.timeout(_CHECK_SECONDS):
                if ask_models or self.health.state == "down":
                    found = await self._client.discover()
                    await self._callbacks.discovered(self.facts, found)
                    self._discovered_at = time.monotonic()
                else:
                    await self._client.healthy()
        except (RemoteError, TimeoutError) as error:
            text = str(error) or f"no reply within {_CHECK_SECONDS:.0f} s"
            fresh = self._failed(text, time.monotonic())
            if fresh:
                await self._callbacks.failed(self.facts, text)
            return
        if self.health.succeeded(time.monotonic()):
            self.prefixes.clear()
            self._callbacks.turned(self.facts, "")
        self._callbacks.changed()

    def _failed(self, error: str, now: float) -> bool:
        """Note a failure; return whether the engine was not down before."""
        fresh = self.health.failed(error, now)
        if fresh:
            self._callbacks.turned(self.facts, error)
        if self.health.lost:
            self._give_back(list(self._running.values()), fault=True)
        self._callbacks.changed()
        return fresh

    # Requests.

    def submit(self, running: RunningRequest, digest: str) -> None:
        """Send a leased job; the caller has seen a free slot."""
        for aside in tuple(self._asides):
            aside.cancel()
        own = self._running[running.run_id] = _Running(running, digest)
        self.last_used = time.monotonic()
        own.task = asyncio.create_task(self._answer(own), name=f"answer {running.run_id}")
        own.task.add_done_callback(lambda task: self._answered(own, task))

    def cancel(self, id: str) -> None:
        """Cancel the attempts of the job ``id`` that run here, as their owner requested."""
        for own in self._of(id):
            own.cancelled = True
            if own.task is not None:
                own.task.cancel()

    def drop(self, id: str) -> None:
        """Forget a job whose lease was lost, and cancel it at the engine."""
        for own in self._of(id):
            self._running.pop(own.request.run_id, None)
            if own.task is not None:
                own.task.cancel()

    def _of(self, id: str) -> list[_Running]:
        return [own for own in self._running.values() if own.request.lease.job.id == id]

    async def stop(self) -> list[RunningRequest]:
        """End all work and close the connections; return the unfinished jobs."""
        left, self._running = list(self._running.values()), {}
        tasks: list[asyncio.Task[object]] = [
            task
            for task in (*(own.task for own in left), *self._asides, self._checking)
            if task is not None
        ]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._client.close()
        return [own.request for own in left]

    async def _answer(self, own: _Running) -> None:
        running = own.request
        try:
            if running.lease.job.embed is not None:
                await self._embed(own, running.lease.job.embed)
            else:
                await self._generate(own)
        except CantServe as error:
            self._end(own, error.failed)
        except RemoteError as error:
            self._broke_off(own, error)

    def _answered(self, own: _Running, task: asyncio.Task[None]) -> None:
        """End a request whose task was cancelled by its owner, or failed unexpectedly."""
        if own.request.run_id not in self._running:
            return
        if task.cancelled():
            if own.cancelled:
                self._end(own, m.Finished(own.request.run_id, "cancelled", self._usage(own, None)))
            return
        if error := task.exception():
            log.error(
                "Request to an engine failed", extra={"engine": self.facts.name}, exc_info=error
            )
            self._end(own, m.Failed(own.request.run_id, "engine_error", "see the log"))

    async def _generate(self, own: _Running) -> None:
        running = own.request
        request, left_out = await self._request(own)
        try:
            await self._read(own, request, left_out)
        except CannotContinue as error:
            log.info(
                "Engine can't continue an answer",
                extra={"engine": self.facts.name, "error": error},
            )
            self._mark_restart(own, request)
            restarted = msgspec.structs.replace(
                request, restart=True, resume_text=running.writer.full_text(), generated=0
            )
            await self._read(own, restarted, left_out)

    async def _request(self, own: _Running) -> tuple[RemoteRequest, int]:
        """Return the request for the engine, and how many messages don't fit.

        Raises `CantServe` if the engine can't serve it.
        """
        running = own.request
        job, model = running.lease.job, self.facts.models[own.digest]
        text = running.writer.full_text()
        request = RemoteRequest(
            model=model,
            messages=job.messages,
            params=job.params,
            options=job.options,
            resume_text=text,
            generated=running.writer.tokens,
            salt=requests.salt_of(job.owner),
        )
        if text and Capability.CONTINUATION not in model.capabilities:
            self._mark_restart(own, request)
            request = msgspec.structs.replace(
                request, restart=True, resume_text=running.writer.full_text(), generated=0
            )
        requests.check(running.run_id, request)
        return await self._fitted(own, request)

    async def _fitted(self, own: _Running, request: RemoteRequest) -> tuple[RemoteRequest, int]:
        """Return the request within the context, and how many messages were left out."""
        job, options = own.request.lease.job, request.options
        context = requests.usable_context(request.model, options)
        limited = bool(options.context)
        keeps = options.overflow == "keep_latest" and options.raw is None
        if context is None or not (limited or keeps):
            return request, 0
        counted = requests.estimate(request.messages)
        if counted > context // 2 or limited:
            exact = await self._count(request.model, request.messages, options)
            counted = counted if exact is None else exact
        fitted = requests.Fitted(request.messages)
        if keeps:
            fitted = requests.fit(request.messages, options.administered, counted, context)
            if fitted.left_out:
                counted = requests.estimate(fitted.messages)
        if limited and counted >= context:
            figures = {"prompt_tokens": counted, "context": context}
            failed = m.Failed(
                own.request.run_id, "context_length_exceeded", "the prompt is too long", figures
            )
            raise CantServe(failed)
        params = requests.with_room(job.params, context - counted if limited else None)
        changed = msgspec.structs.replace(request, messages=fitted.messages, params=params)
        return changed, fitted.left_out

    def _mark_restart(self, own: _Running, request: RemoteRequest) -> None:
        """Write into the answer that it begins again, since its engine can't continue it.

        Only readers of a chat can make sense of that: an API request and an answer in a prescribed
        form are interrupted, and a user who asked to continue an answer is refused. Raises
        `CantServe`.
        """
        running = own.request
        job = running.lease.job
        if job.resume_text and running.writer.full_text() == job.resume_text:
            raise CantServe(requests.refused(running.run_id, refusals.CANT_CONTINUE))
        if job.priority != m.CHAT or not can_restart(request):
            error = AnswerInterrupted()
            raise CantServe(m.Failed(running.run_id, error.code, str(error)))
        mark = "\n\n"
        # Within the reasoning, nothing of the answer itself is repeated.
        if not canonical.read(running.writer.full_text()).open_reasoning:
            with translation.override(settings.LANGUAGE_CODE):
                note = gettext("The connection to the model was lost. The answer starts again.")
            mark = f"\n\n---\n\n*{note}*\n\n"
        running.write(self._callbacks.publisher, mark, 0)

    async def _read(self, own: _Running, request: RemoteRequest, left_out: int) -> None:
        running, publisher = own.request, self._callbacks.publisher
        figures = self._of_model(own.digest)
        async with aclosing(self._client.generate(request)) as parts:
            async for part in parts:
                if isinstance(part, Piece):
                    running.write(publisher, part.text, part.tokens, part.logprobs)
                    figures.decoded += part.tokens
                else:
                    usage = self._usage(own, part, left_out)
                    self._end(own, m.Finished(running.run_id, part.reason, usage))
                    return

    def _usage(self, own: _Running, finish: Finish | None, left_out: int = 0) -> m.Usage:
        """Return the usage that the engine reported, or an estimate of a stopped answer."""
        running = own.request
        if finish is None:
            prompt = requests.estimate(running.lease.job.messages)
            return m.Usage(prompt, 0, running.writer.tokens, 0.0, 0.0, 0.0)
        return m.Usage(
            prompt_tokens=finish.prompt_tokens,
            cached_tokens=finish.cached_tokens or 0,
            completion_tokens=finish.completion_tokens,
            queue_ms=finish.queue_ms,
            prefill_ms=finish.prefill_ms,
            decode_ms=finish.decode_ms,
            left_out=left_out + finish.left_out,
        )

    async def _embed(self, own: _Running, embed: m.Embed) -> None:
        running, model = own.request, self.facts.models[own.digest]
        if Capability.EMBEDDINGS not in model.capabilities:
            raise CantServe(requests.refused(running.run_id, refusals.NO_EMBEDDINGS))
        texts = [one for one in embed.inputs if isinstance(one, str)]
        if len(texts) != len(embed.inputs):
            raise CantServe(requests.refused(running.run_id, refusals.TEXT_ONLY))
        found = await self._client.embed(model, texts)
        self._end(own, m.Embedded(running.run_id, found.data, found.size, found.tokens))

    def _end(self, own: _Running, last: m.Finished | m.Embedded | m.Failed) -> None:
        running = own.request
        if self._running.pop(running.run_id, None) is None:
            return
        now = self.last_used = time.monotonic()
        self._busy_times = 0
        outcome = running.closed(last, now)
        if isinstance(last, m.Failed) and last.code == AnswerInterrupted.code:
            error = AnswerInterrupted().as_dict()
            outcome = Outcome(GenerationState.INTERRUPTED, error=error)
        if isinstance(last, m.Finished):
            figures = self._of_model(own.digest)
            figures.occupancy.add(now - running.began)
            figures.latency.add(last.usage, outcome.ttft_ms)
            if last.reason != "cancelled" and not running.writer.full_text().strip():
                figures.empty_answers += 1
        self._callbacks.ended(running, outcome)
        self._callbacks.changed()

    def _broke_off(self, own: _Running, error: RemoteError) -> None:
        """End a request that failed for good, or give its job back."""
        running, now = own.request, time.monotonic()
        if (failed := requests.ended(running.run_id, error)) is not None:
            self._end(own, failed)
            return
        log.warning(
            "Request to an engine broke off",
            extra={
                "engine": self.facts.name,
                "generation": running.lease.job.id,
                "error": f"{type(error).__name__}: {error}",
            },
        )
        # What is not the request's fault does not count against it: it was not computed.
        refused = error if isinstance(error, Refused) else None
        free = isinstance(error, Unreachable) or bool(
            refused and (refused.busy or refused.unauthorized)
        )
        self._give_back([own], fault=not free)
        if isinstance(error, Unreachable) or (refused and refused.unauthorized):
            self._failed(str(error), now)
        elif refused and refused.busy:
            pause = refused.retry_after or _BUSY_SECONDS * 2 ** min(self._busy_times, 8)
            self._busy_until = now + min(pause, _BUSY_MOST_SECONDS)
            self._busy_times += 1
        elif refused and refused.missing:
            self.check_now()
            self.health.suspect(now)
        else:
            self.health.suspect(now)
            self._callbacks.changed()

    def _give_back(self, lost: list[_Running], *, fault: bool) -> None:
        for own in lost:
            self._running.pop(own.request.run_id, None)
            if own.task is not None and own.task is not asyncio.current_task():
                own.task.cancel()
        if lost:
            self._callbacks.lost([own.request for own in lost], fault)

    def _of_model(self, digest: str) -> ModelFigures:
        return self._figures.setdefault(digest, ModelFigures())

    # Beside requests.

    async def count_tokens(self, digest: str, asked: m.CountTokens) -> m.TokenCounts | None:
        """Count tokens as the engine does; None if it can't, or not in time."""
        model = self.facts.models.get(digest)
        if model is None or self.health.state != "ready" or asked.ids or asked.pieces:
            return None
        if Capability.TOKEN_COUNT not in model.capabilities:
            return None
        plain = m.PromptOptions()
        prompts = [
            (asked.messages, asked.options) if asked.messages or asked.options.raw else ((), None),
            *(((), msgspec.structs.replace(plain, raw=text)) for text in asked.texts),
        ]
        counts = await asyncio.gather(
            *(
                self._count(model, messages, options) if options else _nothing()
                for messages, options in prompts
            )
        )
        if any(count is None for count in counts):
            return None
        prompt, *texts = (count or 0 for count in counts)
        return m.TokenCounts(asked.id, prompt, 0, tuple(texts))

    async def _count(
        self, model: RemoteModel, messages: Sequence[m.ChatMessage], options: m.PromptOptions
    ) -> int | None:
        if Capability.TOKEN_COUNT not in model.capabilities or options.raw == "":
            return 0 if options.raw == "" else None
        try:
            async with asyncio.timeout(_COUNT_SECONDS):
                return await self._client.count_tokens(model, messages, options)
        except (RemoteError, TimeoutError):
            return None

    async def generate_in_background(
        self, digest: str, request: m.Generate, seconds: float
    ) -> BackgroundGeneration | None:
        """Generate in a slot that no request needs; None if preempted, failed or too slow."""
        model = self.facts.models[digest]
        asked = RemoteRequest(
            model=model,
            messages=request.messages,
            params=request.params,
            options=request.options,
            salt=requests.salt_of(request.owner),
        )
        task = asyncio.create_task(self._aside(request.id, asked))
        self._asides.add(task)
        task.add_done_callback(self._asides.discard)
        try:
            async with asyncio.timeout(seconds):
                return await task
        except (RemoteError, TimeoutError):
            return None
        except asyncio.CancelledError:
            if task.cancelled() and not _is_cancelling():
                return None
            raise

    async def _aside(self, id: str, request: RemoteRequest) -> BackgroundGeneration | None:
        try:
            requests.check(id, request)
        except CantServe:
            return BackgroundGeneration("", None)
        texts: list[str] = []
        async with aclosing(self._client.generate(request)) as parts:
            async for part in parts:
                if isinstance(part, Piece):
                    texts.append(part.text)
                    continue
                usage = m.Usage(
                    part.prompt_tokens,
                    part.cached_tokens or 0,
                    part.completion_tokens,
                    part.queue_ms,
                    part.prefill_ms,
                    part.decode_ms,
                )
                return BackgroundGeneration("".join(texts), m.Finished(id, part.reason, usage))
        return None


async def _nothing() -> int:
    return 0


def _is_cancelling() -> bool:
    task = asyncio.current_task()
    return task is not None and task.cancelling() > 0
