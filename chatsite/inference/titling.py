"""Titles of conversations, made by the model that has just answered, when it has nothing better
to do: it is never loaded for one, and lets it be as soon as its slot is needed.

The conversation is still in the answer's slot, and the title's prompt begins with all of it, so
that it costs a few dozen tokens. The next question finds the slot as it was.
"""

from __future__ import annotations

import asyncio
import time
import uuid
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final

import msgspec
from asgiref.sync import sync_to_async
from django.db import transaction

from chatsite.chat import prompt, titles
from chatsite.chat.hints import conversation_changed
from chatsite.chat.models import (
    Conversation,
    ConversationQuerySet,
    Generation,
    GenerationState,
    Via,
)
from chatsite.dispatch.messages import Job
from chatsite.dispatch.outcome import Outcome
from chatsite.engine import messages as m
from chatsite.inference.asides import Aside
from chatsite.inference.placement import Placement
from chatsite.inference.runner import ModelRunner
from chatsite.inference.running import Running
from chatsite.search import index

_POLL_SECONDS: Final = 1.0
# It waits so long for an idle machine; then it goes beside others, at the lowest priority; and is
# given up. What takes longer to write is no title.
_PATIENCE_SECONDS: Final = 10.0
_KEPT_SECONDS: Final = 120.0
_WRITING_SECONDS: Final = 30.0
_MOST_KEPT: Final = 100
_TEMPERATURE: Final = 0.2


@dataclass(frozen=True)
class _Wish:
    """``answer`` is what it said to the person."""

    job: Job
    answer: str
    since: float = field(default_factory=time.monotonic)

    @property
    def age(self) -> float:
        return time.monotonic() - self.since


class Titler:
    """One title at a time; `serve` looks around once, after a moment."""

    def __init__(self, placement: Placement) -> None:
        self._placement = placement
        self._wishes: dict[str, _Wish] = {}

    def answered(self, running: Running, outcome: Outcome) -> None:
        """An answer is saved; its conversation may want a title."""
        job = running.lease.job
        if not job.untitled or outcome.state != GenerationState.DONE:
            return
        text = running.writer.full_text()
        answer = prompt.without_reasoning(text, msgspec.to_builtins(running.syntax))
        if answer.strip() and len(self._wishes) < _MOST_KEPT:
            self._wishes[job.untitled] = _Wish(job, answer)

    async def serve(self) -> None:
        await asyncio.sleep(_POLL_SECONDS)
        await self.step()

    async def step(self) -> None:
        """Makes the title that has waited longest, if it is its time."""
        for wish in tuple(self._wishes.values()):
            if wish.age > _KEPT_SECONDS:
                del self._wishes[wish.job.untitled]
                continue
            runner = self._placement.free(wish.job.model)
            if runner is None or runner.loaded is None:
                continue
            if runner.loaded.parameters < titles.LEAST_PARAMETERS:
                del self._wishes[wish.job.untitled]
            elif self._placement.idle or wish.age > _PATIENCE_SECONDS:
                await self._make(runner, wish)
                return

    async def _make(self, runner: ModelRunner, wish: _Wish) -> None:
        job = wish.job
        if not await sync_to_async(_untitled(job).exists)():
            self._wishes.pop(job.untitled, None)
            return
        request, began = _request(wish), datetime.now(UTC)
        aside = await runner.aside(request, _WRITING_SECONDS)
        if aside is None:
            return  # it had to give way: later, perhaps
        self._wishes.pop(job.untitled, None)
        title = _title(wish, aside, runner.syntax)
        if await sync_to_async(_save)(job, title, aside, runner.spec.digest, began):
            await conversation_changed(job.owner, job.untitled, "updated")


def _request(wish: _Wish) -> m.Generate:
    job = wish.job
    return m.Generate(
        id=str(uuid.uuid4()),
        owner=job.owner,
        messages=(
            *job.messages,
            m.ChatMessage("assistant", wish.answer),
            titles.question(_first(job)),
        ),
        params=m.SamplingParams(temperature=_TEMPERATURE, max_tokens=titles.TOKENS),
        options=msgspec.structs.replace(job.options, think=False, overflow="error"),
        priority=m.BACKGROUND,
    )


def _first(job: Job) -> str:
    """What the conversation began with, behind an administrator's words."""
    own = job.messages[job.options.administered :]
    return next((message.content for message in own if message.role == "user"), "")


def _title(wish: _Wish, aside: Aside, syntax: m.OutputSyntax) -> str:
    text = prompt.without_reasoning(aside.text, msgspec.to_builtins(syntax))
    cut = aside.end is None or aside.end.reason == "length"
    return titles.read(text, _first(wish.job), wish.answer, cut=cut)


def _untitled(job: Job) -> ConversationQuerySet:
    own = Conversation.objects.filter(owner=int(job.owner), deleted_at=None)
    return own.filter(pk=job.untitled, untitled=True)


def _save(job: Job, title: str, aside: Aside, digest: str, began: datetime) -> bool:
    """Keeps what it took, and the title if there is one and nobody gave another meanwhile."""
    now = datetime.now(UTC)
    usage = aside.end.usage if aside.end else None
    with transaction.atomic():
        Generation.objects.create(
            owner_id=int(job.owner),
            via=Via.TITLE,
            state=GenerationState.DONE if usage else GenerationState.FAILED,
            attempt=1,
            model=job.model,
            model_version=digest,
            finish_reason=aside.end.reason if aside.end else "",
            prompt_tokens=usage.prompt_tokens if usage else None,
            cached_tokens=usage.cached_tokens if usage else None,
            completion_tokens=usage.completion_tokens if usage else None,
            timings={"total": round((now - began) / timedelta(milliseconds=1), 1)},
            queued_at=began,
            started_at=began,
            finished_at=now,
        )
        found = _untitled(job).select_for_update().first()
        if found is None:
            return False
        found.untitled = False
        found.title = title or found.title
        found.save(update_fields=["untitled", "title"])
        index.put_title(found)
    return bool(title)
