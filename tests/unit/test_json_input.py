"""JSON from outside, in every shape."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from chatsite import json_input
from chatsite.json_input import DEPTH_MAX, VALUES_MAX, BadJson


class Body(msgspec.Struct):
    name: str = ""
    free: Any = None
    few: list[dict[str, Any]] = []


_decoder = msgspec.json.Decoder(Body)


def decode(text: str | bytes) -> Body:
    return json_input.decode(text, _decoder)


def test_t21_a_byte_order_mark_is_passed_over() -> None:
    assert decode(b'\xef\xbb\xbf{"name": "a"}').name == "a"
    assert decode('\ufeff{"name": "a"}').name == "a"


@pytest.mark.parametrize("depth", [DEPTH_MAX, 500, 970, 1000, 50_000])
@pytest.mark.parametrize(("opening", "closing"), [("[", "]"), ('{"a":', "}"), ('[{"a":', "}]")])
def test_t01_input_nested_too_deeply_is_refused(depth: int, opening: str, closing: str) -> None:
    text = f'{{"free": {opening * depth}1{closing * depth}}}'
    with pytest.raises(BadJson, match="100 levels deep"):
        decode(text)


def test_many_brackets_without_depth_are_accepted() -> None:
    body = decode('{"few": [' + ", ".join(['{"a": {"b": []}}'] * 500) + "]}")
    assert len(body.few) == 500
    inside = "[" * (DEPTH_MAX - 2) + "]" * (DEPTH_MAX - 2)
    assert decode(f'{{"free": {inside}}}').free is not None


@pytest.mark.parametrize(
    "text",
    [
        b"",
        b"{",
        b"null",
        b"[]",
        b'"x"',
        b'{"name": 1}',
        b'{"name": "\xff"}',
        b'{"name": "\xed\xa0\x80"}',
        b'{"name": "\\ud800"}',
        b'{"free": 1e999}',
        b'{"free": NaN}',
        b'{"free": ' + b"9" * 5000 + b"}",
        b'{"free": -' + b"9" * 5000 + b"}",
        b"\x1f\x8b\x08\x00",
        "{\ud800}",
    ],
)
def test_low_any_bad_input_is_refused_with_a_reason(text: bytes | str) -> None:
    with pytest.raises(BadJson) as caught:
        decode(text)
    assert str(caught.value)


def test_m5_more_values_than_memory_is_there_for_are_refused_unread() -> None:
    with pytest.raises(BadJson, match="values"):
        decode(b'{"free": [' + b"1," * (VALUES_MAX + 1) + b"1]}")
