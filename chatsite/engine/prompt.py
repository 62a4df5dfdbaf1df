"""Messages to tokens, such that text of people never becomes a control token.

In the ordinary case the rendered prompt is tokenized whole, as the model was trained. Where a
message contains the text of a control token, that piece travels through the template as a
private sentinel, and is tokenized by itself as plain text. A template may also *join* such a
text out of harmless pieces (by deleting what is between them); the prompt is therefore compared
with a second rendering in which no piece can begin a control token.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

from chatsite.engine.backend import Vocabulary
from chatsite.engine.messages import CHAT, ChatMessage, Generate, Priority, SamplingParams
from chatsite.engine.template import ChatTemplate

# What a template writes as a marker of turns. Reasoning tags are none: templates look for them
# in earlier answers to leave the reasoning out.
_MARKER = re.compile(r"<[^<>\s]+>|\[[^\[\]\s]+\]")
_REASONING = re.compile(r"</?think(ing)?>")


class ContextExceeded(Exception):
    def __init__(self, prompt_tokens: int, context: int) -> None:
        super().__init__(f"the prompt has {prompt_tokens} tokens, the context holds {context}")
        self.details = {"prompt_tokens": prompt_tokens, "context": context}


@dataclass(frozen=True, slots=True)
class Prompt:
    """A request ready for the engine. ``tokens`` are prompt and prefix, of which the first
    ``prompt_tokens`` or so are the prompt; ``arrived`` is the engine clock's time in seconds."""

    id: str
    owner: str
    tokens: list[int]
    prompt_tokens: int
    params: SamplingParams
    stops: tuple[str, ...]
    generated: int
    arrived: float
    shared: int = 0
    priority: Priority = CHAT


class ControlFinder:
    """Finds control tokens' texts, leftmost and longest first."""

    def __init__(self, texts: Iterator[str] | Sequence[str]) -> None:
        self._texts = frozenset(text for text in texts if text)
        lengths: dict[str, set[int]] = {}
        for text in self._texts:
            lengths.setdefault(text[0], set()).add(len(text))
        self._lengths = {first: sorted(sizes, reverse=True) for first, sizes in lengths.items()}
        firsts = "".join(map(re.escape, lengths))
        self._first = re.compile(f"[{firsts}]" if firsts else r"(?!)")

    def find(self, text: str) -> Iterator[tuple[int, int]]:
        """Start and end of each, without overlaps."""
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
        """Each character that could begin one."""
        for found in self._first.finditer(text):
            yield found.span()

    def count(self, text: str) -> Counter[str]:
        return Counter(text[start:end] for start, end in self.find(text))


class PromptBuilder:
    def __init__(self, template: ChatTemplate, vocabulary: Vocabulary, context: int) -> None:
        self._template = template
        self._vocabulary = vocabulary
        self._context = context
        self._controls = controls(vocabulary, template.text)
        self._control_tokens = frozenset(self._controls.values())
        self._finder = ControlFinder(tuple(self._controls))

    def prepare(self, request: Generate, arrived: float) -> Prompt:
        """Raises `ContextExceeded` if no token of an answer would fit, and `TemplateError`."""
        tokens, prompt_tokens = self.build(request.messages, request.prefix)
        if prompt_tokens >= self._context:
            raise ContextExceeded(prompt_tokens, self._context)
        return Prompt(
            id=request.id,
            owner=request.owner,
            tokens=tokens,
            prompt_tokens=prompt_tokens,
            params=request.params,
            stops=request.params.stop + self._template.stops,
            generated=request.generated,
            arrived=arrived,
            priority=request.priority,
        )

    def build(self, messages: Sequence[ChatMessage], prefix: str = "") -> tuple[list[int], int]:
        """Tokens of prompt and prefix, and how many of the prompt alone."""
        text, mask = self._render(messages, prefix)
        tokens = self._tokenize(text + mask.hide(prefix), mask)
        return tokens, len(self._tokenize(text, mask)) if prefix else len(tokens)

    def _render(self, messages: Sequence[ChatMessage], prefix: str) -> tuple[str, _Mask]:
        contents = [message.content for message in messages]
        sentinel = _unused_character([*contents, prefix, self._template.text])
        mask = _Mask(sentinel, self._finder.find)
        text = self._template.render(mask.hide_all(messages))
        if any(True for content in contents for _ in self._finder.beginnings(content)):
            strict = _Mask(sentinel, self._finder.beginnings)
            strict_text = self._template.render(strict.hide_all(messages))
            if self._finder.count(text) - self._finder.count(strict_text):
                return strict_text, strict
        return text, mask

    def _tokenize(self, text: str, mask: _Mask) -> list[int]:
        tokens: list[int] = []
        for part, hostile in mask.split(text):
            tokens += self._plain(part) if hostile else self._special(part)
        bos = self._vocabulary.bos
        if self._vocabulary.add_bos and bos is not None and tokens[:1] != [bos]:
            tokens.insert(0, bos)
        return tokens

    def _special(self, text: str) -> list[int]:
        return self._vocabulary.tokenize(text, special=True)

    def _plain(self, text: str) -> list[int]:
        """Text without control tokens. A vocabulary may insist on a token that was declared as
        text: then the text is cut behind its first character, which no token's text survives."""
        tokens = self._vocabulary.tokenize(text, special=False)
        if self._control_tokens.isdisjoint(tokens) or len(text) < 2:
            return [token for token in tokens if token not in self._control_tokens]
        return self._plain(text[:1]) + self._plain(text[1:])


def controls(vocabulary: Vocabulary, template: str) -> Mapping[str, int]:
    """Control tokens, and the template's markers that are one token each, though whoever
    converted the model declared them as text."""
    found = dict(vocabulary.controls)
    for text in set(_MARKER.findall(template)) - found.keys():
        tokens = vocabulary.tokenize(text, special=True)
        if len(tokens) == 1 and not _REASONING.fullmatch(text):
            found[text] = tokens[0]
    return found


class _Mask:
    """Swaps pieces of text for sentinels (``c`` number ``c``, c a private character) and back."""

    def __init__(self, sentinel: str, find: Callable[[str], Iterator[tuple[int, int]]]) -> None:
        self._find = find
        self._sentinel = sentinel
        self._hidden: list[str] = []
        self._pattern = re.compile(f"{sentinel}([0-9]+){sentinel}")

    def hide_all(self, messages: Sequence[ChatMessage]) -> list[ChatMessage]:
        return [ChatMessage(message.role, self.hide(message.content)) for message in messages]

    def hide(self, text: str) -> str:
        parts, position = [], 0
        for start, end in self._find(text):
            parts.append(f"{text[position:start]}{self._sentinel}{len(self._hidden)}")
            parts.append(self._sentinel)
            self._hidden.append(text[start:end])
            position = end
        return "".join(parts) + text[position:]

    def split(self, text: str) -> Iterator[tuple[str, bool]]:
        """Parts in order, each with whether it had been hidden."""
        for index, part in enumerate(self._pattern.split(text)):
            if index % 2:
                yield self._hidden[int(part)], True
            elif clean := part.replace(self._sentinel, ""):
                yield clean, False


def _unused_character(texts: Sequence[str]) -> str:
    """A private-use character that none of the texts contains."""
    used = set().union(*texts)
    return next(char for char in map(chr, range(0xF0000, 0xFFFFE)) if char not in used)
