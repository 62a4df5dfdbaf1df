"""Request bodies with a content encoding."""

from __future__ import annotations

import gzip
import tracemalloc
import zlib
from collections.abc import Callable

import pytest
import zstandard

from chatsite.api.core import coding
from chatsite.api.core.coding import BadCoding, TooMuch, UnknownCoding

TEXT = b'{"model": "m"}' * 100


def bare(data: bytes) -> bytes:
    packer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return packer.compress(data) + packer.flush()


PACKED = [
    ("gzip", gzip.compress(TEXT)),
    ("gzip", gzip.compress(TEXT[:7]) + gzip.compress(TEXT[7:])),
    ("deflate", zlib.compress(TEXT)),
    ("deflate", bare(TEXT)),
    ("zstd", zstandard.compress(TEXT)),
    ("zstd", zstandard.compress(TEXT[:7]) + zstandard.compress(TEXT[7:])),
    ("zstd", zstandard.ZstdCompressor(write_content_size=False).compress(TEXT)),
]


@pytest.mark.parametrize(("name", "data"), PACKED)
def test_d11_encoded_bodies_are_decoded_up_to_the_limit(name: str, data: bytes) -> None:
    assert coding.unpacked(name, data, len(TEXT)) == TEXT
    with pytest.raises(TooMuch):
        coding.unpacked(name, data, len(TEXT) - 1)


@pytest.mark.parametrize(("name", "data"), PACKED)
def test_d11_truncated_or_invalid_bodies_are_refused(name: str, data: bytes) -> None:
    for bad in (data[:-5], data[:3], b"{}", TEXT, b"\0" * 50):
        with pytest.raises((BadCoding, TooMuch)):
            coding.unpacked(name, bad, 1 << 20)


@pytest.mark.parametrize(
    ("name", "pack"),
    [("gzip", gzip.compress), ("deflate", zlib.compress), ("zstd", zstandard.compress)],
)
def test_d11_a_bomb_takes_no_more_memory_than_the_limit(
    name: str, pack: Callable[[bytes], bytes]
) -> None:
    bomb = pack(bytes(200 << 20))
    tracemalloc.start()
    try:
        with pytest.raises(TooMuch):
            coding.unpacked(name, bomb, 1 << 20)
        assert tracemalloc.get_traced_memory()[1] < 30 << 20
    finally:
        tracemalloc.stop()


def test_d11_names_of_codings() -> None:
    assert [coding.check(one) for one in ("", " identity", "GZIP ", "x-gzip", "zstd")] == [
        *("", "", "gzip", "gzip", "zstd")
    ]
    for unknown in ("br", "gzip, gzip", "compress", "a" * 10_000):
        with pytest.raises(UnknownCoding, match="gzip, deflate, zstd") as caught:
            coding.check(unknown)
        assert caught.value.status == 415
        assert len(str(caught.value)) < 300
