"""Which of several engines with the same model computes a request. Pure.

An engine that computed the beginning of the prompt lately likely has its KV cache, and a prompt is
cheaper there. Prompts are compared by chained hashes of their parts, which begin with the owner: a
cache hit is expected only where the same user's text was computed.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Final

from chatsite.engine.contract.messages import ChatMessage, PromptOptions

_KEPT: Final = 8192
_RAW_CHARS: Final = 1024
# How much a full engine counts against one that has the whole prompt in its cache.
_LOAD_WEIGHT: Final = 0.5


@dataclass(frozen=True)
class Prefix:
    """The hash of a prompt up to the end of one of its parts, and its length in characters."""

    hash: bytes
    length: int


def prefixes(
    owner: str, model: str, messages: Sequence[ChatMessage], options: PromptOptions
) -> tuple[Prefix, ...]:
    """Return the prefixes of a prompt, the shortest first."""
    parts: Iterable[str]
    if isinstance(options.raw, str):
        text = options.raw
        parts = (text[at : at + _RAW_CHARS] for at in range(0, len(text), _RAW_CHARS))
    elif options.raw is not None:
        parts = (repr(options.raw),)
    else:
        parts = (
            f"{one.role}\0{one.reasoning}\0{one.content}\0{one.tool_calls}" for one in messages
        )
    head = "\0".join((owner, model, repr(options.tools)))
    chain = hashlib.blake2b(head.encode(errors="surrogatepass"), digest_size=12).digest()
    found, length = [], 0
    for part in parts:
        data = chain + part.encode(errors="surrogatepass")
        chain = hashlib.blake2b(data, digest_size=12).digest()
        length += len(part)
        found.append(Prefix(chain, length))
    return tuple(found)


@dataclass
class PrefixMemory:
    """The prefixes that one engine computed last, the most recent ones kept."""

    _kept: OrderedDict[bytes, None] = field(default_factory=OrderedDict)

    def note(self, computed: Sequence[Prefix]) -> None:
        for prefix in computed:
            self._kept[prefix.hash] = None
            self._kept.move_to_end(prefix.hash)
        while len(self._kept) > _KEPT:
            self._kept.popitem(last=False)

    def matched(self, prompt: Sequence[Prefix]) -> float:
        """Return the share of the prompt whose prefix was computed, 0 to 1."""
        total = prompt[-1].length if prompt else 0
        known = (prefix.length for prefix in reversed(prompt) if prefix.hash in self._kept)
        return next(known, 0) / total if total else 0.0

    def clear(self) -> None:
        """Forget all: the engine was restarted."""
        self._kept.clear()


@dataclass(frozen=True)
class Candidate:
    """An engine with a free slot; ``busy`` is the share of its slots in use, 0 to 1."""

    engine: int
    matched: float
    busy: float


def choose(candidates: Sequence[Candidate]) -> int:
    """Return the engine that is expected to answer first; of equal ones, that of the lowest ID."""
    best = min(candidates, key=lambda one: (_LOAD_WEIGHT * one.busy - one.matched, one.engine))
    return best.engine
