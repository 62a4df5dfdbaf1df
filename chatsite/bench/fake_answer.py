"""A long answer written at a constant rate without a model, to measure the page.

It goes through the real stream and sockets.
"""

from __future__ import annotations

import asyncio
import re
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from django.conf import settings
from django.utils import timezone

from chatsite.accounts.models import User
from chatsite.answers.outcome import Outcome, conclude
from chatsite.answers.queue.queue import Queue
from chatsite.conversations.models import Conversation, Generation, GenerationState, Message
from chatsite.redis_client import connect
from chatsite.redis_keys import stream_key
from chatsite.stream.publish import Publisher

LINES: Final = 2_000
TOKENS_PER_SECOND: Final = 100
_TOKEN: Final = re.compile(r"\s*\S+")


@dataclass(frozen=True)
class Unwritten:
    """A running answer without text yet."""

    conversation: uuid.UUID
    generation: uuid.UUID


def prepare(user: User) -> Unwritten:
    conversation = Conversation.objects.create(owner=user, title="A long answer")
    question = Message.objects.create(
        conversation=conversation, role=Message.Role.USER, content="Write a long answer."
    )
    answer = Message.objects.create(
        conversation=conversation, parent=question, role=Message.Role.ASSISTANT
    )
    conversation.head = answer
    conversation.save()
    # In the future, so the reaper does not end this generation, which no host holds.
    later = timezone.now() + timedelta(hours=1)
    generation = Generation.objects.create(
        owner=user,
        message=answer,
        state=GenerationState.RUNNING,
        attempt=1,
        model="bench",
        queued_at=later,
        started_at=later,
    )
    return Unwritten(conversation.pk, generation.pk)


@contextmanager
def writing(answer: Unwritten) -> Iterator[None]:
    """Write the whole answer on a thread beside the block; wait for its end."""
    problems: list[BaseException] = []

    def work() -> None:
        try:
            asyncio.run(_write(str(answer.generation)))
        except BaseException as problem:  # noqa: BLE001  (raised again where it is waited for)
            problems.append(problem)

    thread = threading.Thread(target=work)
    thread.start()
    try:
        yield
    finally:
        thread.join()
    if problems:
        raise problems[0]


async def _write(generation: str) -> None:
    redis = connect()
    try:
        publisher = Publisher(redis, ended_ttl_seconds=settings.ENV.stream_ttl)
        flushing = asyncio.create_task(publisher.run())
        writer = await publisher.open(generation, 1)
        began = asyncio.get_running_loop().time()
        for number, token in enumerate(_TOKEN.findall(text())):
            due = began + number / TOKENS_PER_SECOND
            await asyncio.sleep(due - asyncio.get_running_loop().time())
            publisher.append(writer, token, 1)
        flushing.cancel()
        outcome = Outcome(GenerationState.DONE, finish_reason="stop")
        await conclude(Queue(redis), publisher, writer, outcome)
        await redis.expire(stream_key(generation), 60)
    finally:
        await redis.aclose()


def text() -> str:
    """Return `LINES` lines of varied Markdown; the last fifth is one code block."""
    lines: list[str] = []
    while len(lines) < LINES * 4 // 5:
        lines += _section(len(lines))
    lines += ["", "```python"]
    while len(lines) < LINES - 1:
        number = len(lines)
        lines += [f"def f{number}(xs: list[int]) -> int:", f"    return sum(xs) + {number}"]
    return "\n".join([*lines[: LINES - 1], "```"])


def _section(number: int) -> list[str]:
    return [
        f"## Section {number}",
        "",
        f"Some **bold** words, `code` and a [link](https://example.org/{number}) in a line, and",
        "more words of the same paragraph, which continues for a while as paragraphs do.",
        "",
        f"- first point of {number}",
        "- second point, with *emphasis*",
        "- third point",
        "",
        "| name | value |",
        "|------|-------|",
        f"| left | {number} |",
        "| right | 2 |",
        "",
        "```python",
        f"def f{number}(x):",
        f"    return x + {number}",
        "```",
        "",
        f"The area is $x_{{{number}}}^2$, and that is all.",
        "",
    ]
