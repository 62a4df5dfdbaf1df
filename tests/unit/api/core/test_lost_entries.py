"""What an API client receives when Redis has lost entries of its stream."""

from __future__ import annotations

import pytest

from chatsite.accounts.keys import Caller
from chatsite.accounts.models import User
from chatsite.api.core.requests import Answer, TextChunk
from chatsite.errors import Interrupted
from chatsite.stream.entries import End, Fence, Text
from chatsite.stream.hub import GenerationFeed
from chatsite.stream.publish import encode


def fed(*entries: tuple[bytes, object]) -> Answer:
    feed = GenerationFeed("id", "tiny")
    for id, entry in entries:
        feed.apply(id, encode(entry))
    return Answer("id", "tiny", "ab" * 32, 0, 1.0, Caller(User()), feed)


@pytest.mark.parametrize(
    "lost",
    [
        [(b"1-1", Text("a")), (b"1-3", Text("c")), (b"1-4", End("done"))],
        [(b"1-1", Text("a")), (b"1-3", End("done"))],
        [(b"1-1", Text("a")), (b"2-0", Fence()), (b"2-1", Text("other")), (b"2-2", End("done"))],
    ],
)
async def test_text_that_was_lost_is_an_error_not_a_shorter_answer(
    lost: list[tuple[bytes, object]],
) -> None:
    with pytest.raises(Interrupted):
        async for _ in fed((b"1-0", Fence()), *lost):
            pass


async def test_a_later_attempt_continues_without_an_error() -> None:
    entries = [(b"1-1", Text("a")), (b"2-0", Fence()), (b"2-2", Text("b")), (b"2-3", End("done"))]
    events = [event async for event in fed((b"1-0", Fence()), *entries)]
    assert events[:-1] == [TextChunk("ab")]
