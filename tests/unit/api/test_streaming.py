"""The loop behind streamed answers: what is held until the first text, and how failures show."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack

import pytest

from chatsite.accounts.keys import Caller
from chatsite.accounts.models import User
from chatsite.api import streaming
from chatsite.api.many import Answers
from chatsite.api.requests import Answer, Event, Piece
from chatsite.api.streaming import Form
from chatsite.errors import EngineFailed, ModelUnavailable
from chatsite.stream.hub import Feed, Place
from chatsite.stream.messages import End


class Scripted(Answer):
    """Yields what it is given in place of what a feed brings."""

    def __init__(self, *events: Event | Exception) -> None:
        super().__init__("id", "tiny", "ab" * 32, 0, 1.0, Caller(User()), Feed("id", "tiny"))
        self.events = events

    async def __aiter__(self) -> AsyncIterator[Event]:
        for event in self.events:
            if isinstance(event, Exception):
                raise event
            yield event


class Letters(Form):
    def begin(self) -> bytes:
        return b"<"

    def piece(self, index: int, piece: Piece) -> bytes:
        return piece.text.encode()

    def end(self, index: int, end: End) -> bytes:
        return b">"


def chunks(*events: Event | Exception, stack: AsyncExitStack | None = None) -> AsyncIterator[bytes]:
    answers = Answers((Scripted(*events),))
    return streaming._chunks(Letters(), answers, stack or AsyncExitStack())


async def sent(*events: Event | Exception) -> list[bytes]:
    return [chunk async for chunk in chunks(*events)]


async def test_the_beginning_goes_with_the_first_text() -> None:
    place = Place(3, "waiting")
    assert await sent(place, Piece("a"), None, Piece(""), Piece("b"), End("done")) == [
        b"<a",
        b"b",
        b">",
    ]


async def test_what_fails_before_anything_was_sent_is_raised_and_all_is_released() -> None:
    released: list[str] = []
    stack = AsyncExitStack()
    stack.callback(released.append, "asked")
    with pytest.raises(ModelUnavailable):
        await anext(chunks(Place(0, "waiting"), ModelUnavailable(), stack=stack))
    assert released == ["asked"]


async def test_a_later_failure_is_the_last_event() -> None:
    first, last = await sent(Piece("a"), End("failed", error=EngineFailed().as_dict()))
    assert first == b"<a"
    assert b'"code":"engine_error"' in last


async def test_signs_of_life_tell_the_place_in_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streaming, "_SIGN_SECONDS", 0.0)
    failed = End("failed", error=EngineFailed().as_dict())
    sign, again, last = await sent(Place(3, "loading"), None, failed)
    assert sign == again == b": waiting, 3 ahead, model loading\n\n"
    # The status is gone with the first sign: what was held comes, then the error.
    assert last.startswith(b"<data: ")
