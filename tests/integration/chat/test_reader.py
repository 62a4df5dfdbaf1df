"""The reading child: files that are made to do harm harm nobody but it."""

from __future__ import annotations

import asyncio
import time

import psutil
import pytest

from chatsite.chat.attachments import extract as extracting
from chatsite.chat.attachments.errors import (
    NoDocument,
    ReadersBusy,
    TooComplex,
    TooLong,
    Unreadable,
)
from chatsite.chat.attachments.extract import extract, place
from tests.support.documents import docx_bomb, docx_of, pdf, pdf_bomb, pdf_that_never_ends

MOST = 10_000


async def read(data: bytes, seconds: int = 20) -> str:
    document = await extract(data, MOST, seconds=seconds)
    return document.text


async def test_several_are_read_at_once() -> None:
    files = [pdf("One page"), docx_of(["Words."]), "字".encode(), b"x" * MOST]
    texts = await asyncio.gather(*map(read, files))
    assert texts == ["One page", "# A heading\nWords.\nThe end.", "字", "x" * MOST]


async def test_who_finds_no_place_is_told(monkeypatch) -> None:
    monkeypatch.setattr(extracting, "_WAIT_SECONDS", 0)
    places = asyncio.Semaphore(1)
    async with place(places):
        with pytest.raises(ReadersBusy):
            async with place(places):
                pass
    async with place(places):
        pass


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"\x7fELF\x00\x00", NoDocument),
        (b"x" * (MOST + 1), TooLong),
        (b"%PDF-1.7\nnothing of a file", Unreadable),
        (b"PK\x03\x04 no archive", Unreadable),
        (docx_bomb(300), TooComplex),
    ],
)
async def test_refusals_say_what_is_wrong(data: bytes, kind: type[Unreadable]) -> None:
    with pytest.raises(Unreadable) as caught:
        await read(data)
    assert type(caught.value) is kind


@pytest.mark.parametrize("data", [pdf_bomb(2000), docx_bomb(190), pdf_that_never_ends()])
async def test_bombs_end_within_their_limits(data: bytes) -> None:
    began = time.monotonic()
    with pytest.raises(Unreadable):
        await read(data, seconds=3)
    assert time.monotonic() - began < 30
    readers = [p for p in psutil.Process().children() if "reader" in " ".join(p.cmdline())]
    assert readers == []
