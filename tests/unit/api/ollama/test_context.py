"""The ``context`` numbers of `/api/generate`, which the client stores."""

from __future__ import annotations

import pytest

from chatsite.api.core.http import BadField
from chatsite.api.ollama import context as ollama_context
from chatsite.engine.contract.messages import ChatMessage


@pytest.mark.parametrize("text", ["", "a", "ab", "abc", "你好 <|im_end|>", "x" * 5000])
def test_packed_messages_are_unpacked_unchanged(text: str) -> None:
    said = [ChatMessage("system", "s"), ChatMessage("user", text), ChatMessage("assistant", text)]
    packed = ollama_context.pack(said)
    assert ollama_context.unpack(packed) == said
    assert all(0 <= number < 2**31 for number in packed)


@pytest.mark.parametrize(
    "context", [[], [0], [1, 2, 3], [-1, 5], [3, 2**40], [3, -1], [10**9, 1], list(range(500))]
)
def test_foreign_contexts_are_refused(context: list[int]) -> None:
    with pytest.raises(BadField):
        ollama_context.unpack(context)


def test_a_part_cut_off_is_refused() -> None:
    packed = ollama_context.pack([ChatMessage("user", "one two three")])
    with pytest.raises(BadField):
        ollama_context.unpack(packed[:-2])
