"""The child that reads attachments: hostile files harm only it."""

from __future__ import annotations

import asyncio

import psutil
import pytest

from chatsite.answers.runtime import close_runtime, runtime
from chatsite.documents.errors import (
    NoDocument,
    ReadersBusy,
    TooComplex,
    TooLong,
    Unreadable,
)
from chatsite.documents.extract import extract
from chatsite.fair_slots import FairSlots
from tests.support.documents import docx_bomb, docx_of, pdf, pdf_bomb, pdf_that_never_ends

MOST = 10_000


async def read(data: bytes, seconds: int = 20) -> str:
    document = await extract(data, MOST, seconds=seconds)
    return document.text


async def test_several_files_are_read_concurrently() -> None:
    files = [pdf("One page"), docx_of(["Words."]), "字".encode(), b"x" * MOST]
    texts = await asyncio.gather(*map(read, files))
    assert texts == ["One page", "# A heading\nWords.\nThe end.", "字", "x" * MOST]


async def test_m7_each_user_reads_one_file_at_a_time() -> None:
    """As in the product, but without the timeout."""
    places = runtime().reading
    try:
        assert isinstance(places, FairSlots)
        places.seconds = 0
        async with places.hold("alice"):
            with pytest.raises(ReadersBusy):
                await places.acquire("alice")
            async with places.hold("bob"):
                pass
        async with places.hold("alice"):
            pass
    finally:
        await close_runtime()


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
async def test_refusals_name_the_reason(data: bytes, kind: type[Unreadable]) -> None:
    with pytest.raises(Unreadable) as caught:
        await read(data)
    assert type(caught.value) is kind


@pytest.mark.parametrize("data", [pdf_bomb(2000), docx_bomb(190), pdf_that_never_ends()])
async def test_bombs_end_within_their_limits(data: bytes) -> None:
    with pytest.raises(Unreadable):
        await read(data, seconds=3)
    readers = [p for p in psutil.Process().children() if "reader" in " ".join(p.cmdline())]
    assert readers == []
