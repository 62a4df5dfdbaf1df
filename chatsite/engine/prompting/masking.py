"""Keeps user text separate from control tokens on its way through a chat template.

A piece of user text that equals a control token's text passes through the template as a private
sentinel, and is tokenized separately as plain text.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from chatsite.engine.contract.backend import Vocabulary
from chatsite.engine.contract.messages import ChatMessage, Tool, ToolCall

# What templates write as turn markers. Reasoning tags are excluded: templates search earlier
# answers for them to remove the reasoning.
_MARKER = re.compile(r"<[^<>\s]+>|\[[^\[\]\s]+\]")
_REASONING = re.compile(r"</?think(ing)?>")


def texts_of(messages: Sequence[ChatMessage], tools: Sequence[Tool]) -> list[str]:
    """Return all user text in a request."""
    texts: list[str] = []
    for tool in tools:
        texts += [tool.name, tool.description, *_deep(tool.parameters)]
    for message in messages:
        texts += [message.content, message.reasoning, message.tool_call_id, message.tool_name]
        for call in message.tool_calls:
            texts += [call.id, call.name, *_deep(decoded(call.arguments))]
    return [text for text in texts if text]


def decoded(arguments: str) -> Any:
    """Return the decoded arguments of a call, or the text itself if it is not JSON."""
    try:
        return json.loads(arguments)
    except (ValueError, RecursionError):
        return arguments


def _deep(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for key, one in value.items():
            yield str(key)
            yield from _deep(one)
    elif isinstance(value, list):
        for one in value:
            yield from _deep(one)


class ControlFinder:
    """Finds the texts of control tokens, leftmost and longest first."""

    def __init__(self, texts: Iterator[str] | Sequence[str]) -> None:
        self._texts = frozenset(text for text in texts if text)
        lengths: dict[str, set[int]] = {}
        for text in self._texts:
            lengths.setdefault(text[0], set()).add(len(text))
        self._lengths = {first: sorted(sizes, reverse=True) for first, sizes in lengths.items()}
        firsts = "".join(map(re.escape, lengths))
        self._first = re.compile(f"[{firsts}]" if firsts else r"(?!)")

    def find(self, text: str) -> Iterator[tuple[int, int]]:
        """Yield start and end of each match, without overlaps."""
        position = 0
        while found := self._first.search(text, position):
            start = found.start()
            position = start + 1
            for size in self._lengths[text[start]]:
                if text[start : start + size] in self._texts:
                    position = start + size
                    yield start, position
                    break

    def beginnings(self, text: str) -> Iterator[tuple[int, int]]:
        """Yield the span of each character that could begin a match."""
        for found in self._first.finditer(text):
            yield found.span()

    def count(self, text: str) -> Counter[str]:
        return Counter(text[start:end] for start, end in self.find(text))


def controls(vocabulary: Vocabulary, template: str) -> Mapping[str, int]:
    """Return the control tokens, and the template's markers that are one token each.

    The converter of a model may have declared markers as text.
    """
    found = dict(vocabulary.controls)
    for text in set(_MARKER.findall(template)) - found.keys():
        tokens = vocabulary.tokenize(text, special=True)
        if len(tokens) == 1 and not _REASONING.fullmatch(text):
            found[text] = tokens[0]
    return found


class Mask:
    """Replaces pieces of text with sentinels and back.

    A sentinel is ``c`` number ``c``, where c is a private-use character.
    """

    def __init__(
        self,
        sentinel: str,
        find: Callable[[str], Iterator[tuple[int, int]]],
        find_in_answers: Callable[[str], Iterator[tuple[int, int]]],
    ) -> None:
        self._find = find
        self._find_in_answers = find_in_answers
        self._sentinel = sentinel
        self._hidden: list[str] = []
        self._pattern = re.compile(f"{sentinel}([0-9]+){sentinel}")

    def hide_all(self, messages: Sequence[ChatMessage]) -> list[ChatMessage]:
        return [self._hide_message(message) for message in messages]

    def hide_tools(self, tools: Sequence[Tool]) -> tuple[Tool, ...]:
        return tuple(
            Tool(self.hide(tool.name), self.hide(tool.description), self._deep(tool.parameters))
            for tool in tools
        )

    def _hide_message(self, message: ChatMessage) -> ChatMessage:
        return ChatMessage(
            message.role,
            self.hide(message.content),
            self.hide(message.reasoning),
            tuple(
                ToolCall(self.hide(call.id), self.hide(call.name), self._arguments(call.arguments))
                for call in message.tool_calls
            ),
            self.hide(message.tool_call_id),
            self.hide(message.tool_name),
        )

    def _arguments(self, text: str) -> str:
        """Decode the arguments before masking: an escape may hide a control token."""
        return json.dumps(self._deep(decoded(text)), ensure_ascii=False)

    def _deep(self, value: Any) -> Any:
        if isinstance(value, str):
            return self.hide(value)
        if isinstance(value, dict):
            return {self.hide(str(key)): self._deep(one) for key, one in value.items()}
        return [self._deep(one) for one in value] if isinstance(value, list) else value

    def hide(self, text: str) -> str:
        return self._hide(text, self._find)

    def hide_answer(self, text: str) -> str:
        """Mask text that the model itself wrote."""
        return self._hide(text, self._find_in_answers)

    def _hide(self, text: str, find: Callable[[str], Iterator[tuple[int, int]]]) -> str:
        parts, position = [], 0
        for start, end in find(text):
            parts.append(f"{text[position:start]}{self._sentinel}{len(self._hidden)}")
            parts.append(self._sentinel)
            self._hidden.append(text[start:end])
            position = end
        return "".join(parts) + text[position:]

    def split(self, text: str) -> Iterator[tuple[str, bool]]:
        """Yield the parts in order, each with whether it was masked."""
        for index, part in enumerate(self._pattern.split(text)):
            if index % 2:
                yield self._hidden[int(part)], True
            elif clean := part.replace(self._sentinel, ""):
                yield clean, False


def unused_character(texts: Sequence[str]) -> str:
    """Return a private-use character that none of the texts contains."""
    used = set().union(*texts)
    return next(char for char in map(chr, range(0xF0000, 0xFFFFE)) if char not in used)
