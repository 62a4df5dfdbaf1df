"""One leased job on its host, and the timing of its reasoning."""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field, replace

import msgspec

from chatsite.answers.outcome import Outcome
from chatsite.answers.queue.queue import Lease
from chatsite.conversations.models import GenerationState
from chatsite.engine.contract.messages import (
    PLAIN,
    Embed,
    Embedded,
    Failed,
    Finished,
    Generate,
    OutputSyntax,
    TokenLogprob,
    Usage,
)
from chatsite.errors import RequestRefused
from chatsite.stream.entries import Vectors
from chatsite.stream.publish import Publisher, Writer


class ReasoningClock:
    """Measures the time from the first text of the leading reasoning to its closing mark.

    ``known`` is text of earlier attempts. Times are seconds of any one clock.
    """

    def __init__(self, syntax: OutputSyntax, known: str, now: float) -> None:
        self._opener, self._closer = syntax.think_open, syntax.think_close
        self._began: float | None = None
        self._held = ""
        self._over = not self._opener
        self.push(known, now)

    def push(self, text: str, now: float) -> float | None:
        """Add text; return the milliseconds once, when the text ends the reasoning."""
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
        """Return the milliseconds of reasoning that the answer ends in; None outside reasoning."""
        if self._over or self._began is None:
            return None
        self._over = True
        return (now - self._began) * 1000


@dataclass
class RunningRequest:
    """A leased request with its stream writer.

    ``beginning`` is the task that saves the start; the end waits for it. ``syntax`` is the model's;
    ``began`` is when it got its slot, on the monotonic clock. ``parts`` are vectors that arrived
    before the last frame, which joins them to ``vectors``.
    """

    lease: Lease
    writer: Writer
    beginning: asyncio.Task[bool]
    syntax: OutputSyntax = PLAIN
    first_text_at: float | None = None
    parts: list[bytes] = field(default_factory=list)
    vectors: Vectors | None = None
    began: float = field(default_factory=time.monotonic)
    reasoning: ReasoningClock = field(init=False)

    def __post_init__(self) -> None:
        self.reasoning = ReasoningClock(self.syntax, self.writer.full_text(), time.monotonic())

    def write(
        self,
        publisher: Publisher,
        text: str,
        tokens: int,
        logprobs: tuple[TokenLogprob, ...] = (),
    ) -> None:
        """Publish the next text of the answer."""
        if self.first_text_at is None:
            self.first_text_at = time.time()
        # PostgreSQL can't store NUL in text, and stream and database must hold the same text.
        text = text.replace("\0", "")
        publisher.append(self.writer, text, tokens, logprobs)
        took = self.reasoning.push(text, time.monotonic())
        if took is not None:
            publisher.reasoned(self.writer, took)

    def closed(self, last: Finished | Embedded | Failed, now: float) -> Outcome:
        """Return the outcome for the engine's last frame; open reasoning ends ``now``."""
        outcome = self._outcome(last)
        took = self.reasoning.stop(now)
        if took is not None:
            self.writer.end_reasoning(took)
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
                self.vectors = Vectors(b"".join((*self.parts, vectors)), size, tokens)
                self.parts.clear()
                usage = Usage(tokens, 0, 0, 0.0, 0.0, 0.0)
                return Outcome(GenerationState.DONE, finish_reason="stop", usage=usage)
            case Failed(code=code, message=message, details=details):
                error = {"code": code, "message": message, "permanent": True, **details}
                if code == RequestRefused.code:
                    error["reason"] = message
                return Outcome(GenerationState.FAILED, error=error)

    @property
    def run_id(self) -> str:
        """The ID of this attempt in frames of the engine child.

        Frames of an earlier attempt of the same job may still arrive.
        """
        return f"{self.lease.job.id}.{self.lease.attempt}"

    def frame(self) -> Generate | Embed:
        """Return the request for the engine child, including the text of earlier attempts."""
        job = self.lease.job
        if job.embed is not None:
            return msgspec.structs.replace(job.embed, id=self.run_id)
        return Generate(
            id=self.run_id,
            owner=job.owner,
            messages=job.messages,
            params=job.params,
            prefix=self.writer.full_text(),
            generated=self.writer.tokens,
            options=job.options,
            priority=job.priority,
        )
