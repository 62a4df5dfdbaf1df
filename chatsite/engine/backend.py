"""What the engine needs of an inference library: vocabulary, KV memory, decode, sampling.

`llama_backend.py` is the real one; `scripted_backend.py` stands in for it in tests. All of it
is called from the engine's one thread; `Vocabulary`, `check` and `grammar` from the reader thread
as well.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from chatsite.engine.messages import SamplingParams, TokenLogprob


@dataclass(frozen=True, slots=True)
class Facts:
    """``context`` is tokens per slot as the library really gives them, ``max_rows`` the tokens
    that one decode takes. ``can_cut`` False: memory of a sequence only grows (recurrent and
    hybrid models), so a prefix is reused only when it is all of what the slot holds.
    ``generates`` False: the model gives vectors and no text, and only `Backend.vocabulary` and
    `Backend.embedder` are of use."""

    context: int
    slots: int
    max_rows: int
    can_cut: bool
    architecture: str
    parameters: int
    generates: bool = True


@dataclass(frozen=True, slots=True)
class Chunk:
    """Consecutive tokens of one slot, the first at position ``start``. Logits are computed for
    the last ``outputs`` tokens: 0 inside a prompt, 1 where a token is sampled, more for drafts."""

    slot: int
    start: int
    tokens: Sequence[int]
    outputs: int


class Decoded(enum.Enum):
    """Outcome of one decode, and what it left in the KV memory."""

    OK = "ok"
    NO_SPACE = "no space in the KV memory"  # memory as before
    INVALID = "invalid batch"  # memory as before
    ABORTED = "aborted"  # part of the batch may be in memory
    FATAL = "fatal error"  # part of the batch may be in memory


@dataclass(frozen=True, slots=True)
class Piece:
    """Consecutive tokens of one input, the first at ``start``; with the ``last`` of them the
    input is complete. ``sequence`` tells the inputs apart until then."""

    sequence: int
    start: int
    tokens: Sequence[int]
    last: bool


class LoadError(Exception):
    """The model can't be loaded with these settings; the message names the reason."""


class BadParameters(ValueError):
    """A request asks for what this model can't do; the message says what, for its sender."""


class ComputeError(Exception):
    """The library could not compute this; the message says why, in a few words."""


class Vocabulary(Protocol):
    """``controls`` maps the text of each token that only a template may produce to the token;
    text of people must never become one of them. ``ends`` end an answer."""

    @property
    def size(self) -> int: ...
    @property
    def bos(self) -> int | None: ...
    @property
    def bos_text(self) -> str: ...
    @property
    def eos_text(self) -> str: ...
    @property
    def add_bos(self) -> bool: ...
    @property
    def ends(self) -> frozenset[int]: ...
    @property
    def controls(self) -> Mapping[str, int]: ...

    @property
    def infill(self) -> tuple[int, int, int] | None:
        """Tokens in front of what is before a gap, after it, and in it; None: it can't fill."""
        ...

    def reveal(self, texts: Sequence[str]) -> None:
        """Lets the pieces of these control tokens be their text: the answer's reader needs
        them."""
        ...

    def tokenize(self, text: str, *, special: bool) -> list[int]:
        """Tokens without BOS or EOS. ``special`` lets text become control tokens."""
        ...

    def enclosed(self, tokens: Sequence[int]) -> list[int]:
        """Tokens of a whole text between those that the model expects around one (BOS, EOS)."""
        ...

    def piece(self, token: int) -> bytes:
        """Bytes of text; none for a control token."""
        ...


class Memory(Protocol):
    """KV memory by slot. Positions of a slot run from 0 to ``length - 1``. ``saves_ends``: what
    `save` gives can only be gone on from at its end, as it has of a sliding window just what the
    next token sees."""

    @property
    def saves_ends(self) -> bool: ...

    def length(self, slot: int) -> int: ...

    def clear(self, slot: int) -> None: ...

    def truncate(self, slot: int, length: int) -> bool:
        """Forgets positions from ``length`` on. False: it can't, or what is left is not enough
        to go on from; the slot's state is then unknown and must be cleared."""
        ...

    def copy(self, source: int, target: int) -> None:
        """Copies all of ``source`` into ``target``, which must be clear."""
        ...

    def size(self, slot: int) -> int:
        """Bytes that `save` would give."""
        ...

    def save(self, slot: int) -> memoryview | None:
        """All that the slot holds, for `restore` in this process; None where it can't be had."""
        ...

    def restore(self, slot: int, data: memoryview) -> bool:
        """Reads a saved sequence into a clear slot. False: the slot's state is unknown and must
        be cleared."""
        ...


class Sampler(Protocol):
    """Chain of one sequence, with its seed and its memory of recent tokens."""

    def sample(self, row: int) -> int:
        """A token from the logits of row ``row`` (tokens of all chunks, counted through) of the
        last decode. The chain remembers it. Raises `ComputeError`."""
        ...

    def logprob(self, row: int, token: int) -> TokenLogprob | None:
        """Of a token that `sample` gave for that row; None when nobody asked for it."""
        ...

    def close(self) -> None: ...


class Embedder(Protocol):
    """Vectors of whole texts, as the model pools them (mean where it does not say). ``size`` is
    the numbers in a vector, ``limit`` the most tokens of an input, ``rows`` and ``sequences``
    the most tokens and inputs of one call. ``splits``: an input may come in pieces."""

    @property
    def size(self) -> int: ...
    @property
    def limit(self) -> int: ...
    @property
    def rows(self) -> int: ...
    @property
    def sequences(self) -> int: ...
    @property
    def splits(self) -> bool: ...

    def compute(self, pieces: Sequence[Piece]) -> list[bytes]:
        """The vector of each piece that is the last of its input: ``size`` little-endian
        float32, of length 1. Raises `ComputeError`; the caller must `clear` then."""
        ...

    def clear(self) -> None:
        """Forgets inputs that are not complete."""
        ...


class Backend(Protocol):
    @property
    def facts(self) -> Facts: ...
    @property
    def vocabulary(self) -> Vocabulary: ...
    @property
    def memory(self) -> Memory: ...
    @property
    def embedder(self) -> Embedder: ...
    @property
    def template(self) -> str | None:
        """The chat template that came with the model."""
        ...

    def decode(self, chunks: Sequence[Chunk]) -> Decoded: ...

    def check(self, params: SamplingParams) -> None:
        """What is slow about making a sampler, so that `sampler` is quick: on the reader
        thread. Raises `BadParameters`."""
        ...

    def grammar(self, schema: dict[str, Any]) -> str:
        """GBNF of what a JSON schema allows. Raises `BadParameters`."""
        ...

    def sampler(
        self, params: SamplingParams, prompt: Sequence[int], answer: Sequence[int]
    ) -> Sampler:
        """``answer`` are tokens behind the prompt that an earlier attempt gave. Raises
        `BadParameters`."""
        ...

    def close(self) -> None: ...
