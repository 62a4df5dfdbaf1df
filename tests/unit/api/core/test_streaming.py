"""The loop behind streamed answers: what precedes the first text, and how errors appear."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from chatsite.accounts.keys import Caller
from chatsite.accounts.models import User
from chatsite.api.core import streaming
from chatsite.api.core.fan_out import Answers
from chatsite.api.core.requests import Answer, Event, TextChunk
from chatsite.api.core.streaming import ResponseEncoder
from chatsite.errors import EngineFailed, ModelUnavailable
from chatsite.stream.entries import End
from chatsite.stream.hub import GenerationFeed, QueuePosition


class Scripted(Answer):
    """Yields the given events instead of those of a feed."""

    def __init__(self, *events: Event | Exception) -> None:
        super().__init__(
            "id", "tiny", "ab" * 32, 0, 1.0, Caller(User()), GenerationFeed("id", "tiny")
        )
        self.events = events

    async def __aiter__(self) -> AsyncIterator[Event]:
        for event in self.events:
            if isinstance(event, Exception):
                raise event
            yield event


class Letters(ResponseEncoder):
    def begin(self) -> bytes:
        return b"<"

    def piece(self, index: int, piece: TextChunk) -> bytes:
        return piece.text.encode()

    def end(self, index: int, end: End) -> bytes:
        return b">"


def chunks(*events: Event | Exception, stack: AsyncExitStack | None = None) -> AsyncIterator[bytes]:
    answers = Answers((Scripted(*events),))
    return streaming.chunks_of(Letters(), answers, stack or AsyncExitStack())


async def sent(*events: Event | Exception) -> list[bytes]:
    return [chunk async for chunk in chunks(*events)]


async def test_the_opening_is_sent_with_the_first_text() -> None:
    place = QueuePosition(3, "waiting")
    assert await sent(place, TextChunk("a"), None, TextChunk(""), TextChunk("b"), End("done")) == [
        b"<a",
        b"b",
        b">",
    ]


async def test_a_failure_before_the_first_byte_is_raised_and_everything_released() -> None:
    released: list[str] = []
    stack = AsyncExitStack()
    stack.callback(released.append, "asked")
    with pytest.raises(ModelUnavailable):
        await anext(chunks(QueuePosition(0, "waiting"), ModelUnavailable(), stack=stack))
    assert released == ["asked"]


async def test_a_later_failure_is_the_last_event() -> None:
    first, last = await sent(TextChunk("a"), End("failed", error=EngineFailed().as_dict()))
    assert first == b"<a"
    assert b'"code":"engine_error"' in last


async def test_keepalives_report_the_queue_position(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "SIGN_SECONDS", 0.0)
    failed = End("failed", error=EngineFailed().as_dict())
    sign, again, last = await sent(QueuePosition(3, "loading"), None, failed)
    assert sign == again == b": waiting, 3 ahead, model loading\n\n"
    # The first keep-alive has sent the status: the held bytes follow, then the error.
    assert last.startswith(b"<data: ")


async def test_low_an_unexpected_error_is_the_last_event_too(
    caplog: pytest.LogCaptureFixture,
) -> None:
    first, last = await sent(TextChunk("a"), RuntimeError("unexpected"))
    assert first == b"<a"
    assert last.startswith(b'data: {"error":')
    assert b"unexpected" not in last
    assert [record.exc_info is not None for record in caplog.records] == [True]
