"""Lines and events: bounded, in linear time, whatever the parts in which they arrive."""

from __future__ import annotations

from collections.abc import AsyncGenerator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from chatsite.inference.remote.contract import Lied
from chatsite.inference.remote.lines import ServerEvent, events, lines


async def given_parts(*parts: bytes) -> AsyncGenerator[bytes]:
    for part in parts:
        yield part


async def lines_of(*parts: bytes, most: int = 100) -> list[bytes]:
    return [line async for line in lines(given_parts(*parts), most)]


@settings(max_examples=40)
@given(st.lists(st.binary(max_size=9), max_size=9), st.sets(st.integers(0, 90)))
async def test_lines_are_independent_of_the_parts(whole: list[bytes], places: set[int]) -> None:
    text = b"\n".join(whole)
    cuts = sorted(place for place in places if place < len(text))
    parts = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    expected = [line.removesuffix(b"\r") for line in text.split(b"\n")]
    if not text.rsplit(b"\n", 1)[-1]:
        expected.pop()  # nothing follows the last end of a line
    assert await lines_of(*parts) == expected


async def test_a_line_that_is_too_long() -> None:
    assert await lines_of(b"a" * 10, b"\n", most=10) == [b"a" * 10]
    for parts in [(b"a" * 11,), (b"a" * 6, b"a" * 5), (b"a\n" + b"a" * 6, b"a" * 5 + b"\n")]:
        with pytest.raises(Lied):
            await lines_of(*parts, most=10)


async def test_events() -> None:
    text = (
        b": comment\n\ndata: a\n\nevent: error\ndata:b\ndata: c\nid: 5\n\n"
        b"retry: 1\n\nerror: {}\n\ndata: last"
    )
    found = [event async for event in events(lines(given_parts(text)))]
    assert found == [
        ServerEvent("", b"a"),
        ServerEvent("error", b"b\nc"),
        ServerEvent("error", b"{}"),
        ServerEvent("", b"last"),
    ]


async def test_an_event_of_too_many_lines() -> None:
    with pytest.raises(Lied):
        async for _ in events(lines(given_parts(b"data: 12345\n" * 9)), most=50):
            pass
