"""One leased job on its host, and the clock of its reasoning."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field, replace

from chatsite.chat.models import GenerationState
from chatsite.dispatch.outcome import Outcome
from chatsite.dispatch.queue import Lease
from chatsite.engine.messages import (
    PLAIN,
    Embed,
    Embedded,
    Failed,
    Finished,
    Generate,
    OutputSyntax,
    Usage,
)
from chatsite.errors import RequestRefused
from chatsite.stream.messages import Vectors
from chatsite.stream.publish import Writer


class ReasoningClock:
    """How long the reasoning at the beginning of an answer takes, from its first text to its
    closing mark. ``known`` is text of earlier attempts. Times are seconds of any one clock."""

    def __init__(self, syntax: OutputSyntax, known: str, now: float) -> None:
        self._opener, self._closer = syntax.think_open, syntax.think_close
        self._began: float | None = None
        self._held = ""
        self._over = not self._opener
        self.push(known, now)

    def push(self, text: str, now: float) -> float | None:
        """Milliseconds, once: with the text that ends the reasoning."""
        if self._over or not text:
            return None
        self._held += text
        if self._began is None:
            start = self._held.lstrip()
            if not start.startswith(self._opener):
                self._over = not self._opener.startswith(start)
                return None
            self._began, self._held = now, start[len(self._opener) :]
        if self._closer not in self._held:
            self._held = self._held[-len(self._closer) :]
            return None
        self._over = True
        return (now - self._began) * 1000

    def stop(self, now: float) -> float | None:
        """Milliseconds of a reasoning that the answer ends in; None if it is in none."""
        if self._over or self._began is None:
            return None
        self._over = True
        return (now - self._began) * 1000


@dataclass
class Running:
    """``beginning`` saves the start; the end waits for it. ``syntax`` is that of the model;
    ``began`` is the time of the monotonic clock at which it got its slot."""

    lease: Lease
    writer: Writer
    beginning: asyncio.Task[bool]
    syntax: OutputSyntax = PLAIN
    first_text_at: float | None = None
    vectors: Vectors | None = None
    began: float = field(default_factory=time.monotonic)
    reasoning: ReasoningClock = field(init=False)

    def __post_init__(self) -> None:
        self.reasoning = ReasoningClock(self.syntax, self.writer.full_text(), time.monotonic())

    def closed(self, last: Finished | Embedded | Failed, now: float) -> Outcome:
        """The outcome by the engine's last frame; a reasoning that is open ends ``now``."""
        outcome = self._outcome(last)
        took = self.reasoning.stop(now)
        if took is not None:
            self.writer.reasoned(took)
        if self.first_text_at is None:
            return outcome
        ttft = (self.first_text_at - self.lease.job.queued_at) * 1000
        return replace(outcome, ttft_ms=ttft)

    def _outcome(self, last: Finished | Embedded | Failed) -> Outcome:
        match last:
            case Finished(reason=reason, usage=usage):
                cancelled = reason == "cancelled"
                state = GenerationState.CANCELLED if cancelled else GenerationState.DONE
                return Outcome(state, finish_reason=reason, usage=usage)
            case Embedded(vectors=vectors, size=size, tokens=tokens):
                self.vectors = Vectors(vectors, size, tokens)
                usage = Usage(tokens, 0, 0, 0.0, 0.0, 0.0)
                return Outcome(GenerationState.DONE, finish_reason="stop", usage=usage)
            case Failed(code=code, message=message, details=details):
                error = {"code": code, "message": message, "permanent": True, **details}
                if code == RequestRefused.code:
                    error["reason"] = message
                return Outcome(GenerationState.FAILED, error=error)

    def frame(self) -> Generate | Embed:
        """What the engine child is asked for, behind what earlier attempts wrote."""
        job = self.lease.job
        return job.embed or Generate(
            id=job.id,
            owner=job.owner,
            messages=job.messages,
            params=job.params,
            prefix=self.writer.full_text(),
            generated=self.writer.tokens,
            options=job.options,
            priority=job.priority,
        )
