"""What the engine needs from an inference library: vocabulary, KV cache, decode, sampling.

`llama/backend.py` is the real implementation; `scripted/backend.py` replaces it in tests. All of it
is called on the engine thread; `Vocabulary`, `check` and `grammar` also concurrently on the threads
that prepare requests.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from chatsite.engine.contract.messages import SamplingParams, TokenLogprob


class Constraint:
    """A compiled grammar. Opaque to all but the backend that compiled it."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class BackendInfo:
    """Properties of a loaded model.

    ``context`` is the real capacity of a slot in tokens, ``max_rows`` the most tokens of one
    decode. ``supports_truncation`` False: the cache of a sequence only grows (recurrent and hybrid
    models), so a prefix is reused only if it is all that the slot holds. ``generates`` False: the
    model produces vectors and no text, and only `Backend.vocabulary` and `Backend.embedder` are
    usable.
    """

    context: int
    slots: int
    max_rows: int
    supports_truncation: bool
    architecture: str
    parameters: int
    generates: bool = True


@dataclass(frozen=True, slots=True)
class Chunk:
    """Consecutive tokens of one slot, the first at position ``start``.

    Logits are computed for the last ``outputs`` tokens: 0 inside a prompt, 1 where a token is
    sampled, more for drafts.
    """

    slot: int
    start: int
    tokens: Sequence[int]
    outputs: int


class Decoded(enum.Enum):
    """Outcome of one decode, and what it left in the KV cache."""

    OK = "ok"
    NO_SPACE = "no space in the KV cache"  # KV cache unchanged
    INVALID = "invalid batch"  # KV cache unchanged
    ABORTED = "aborted"  # part of the batch may be in the KV cache
    FATAL = "fatal error"  # part of the batch may be in the KV cache


@dataclass(frozen=True, slots=True)
class InputChunk:
    """Consecutive tokens of one input, the first at ``start``.

    The ``last`` chunk completes the input. ``sequence`` identifies the input until then.
    """

    sequence: int
    start: int
    tokens: Sequence[int]
    last: bool


class LoadError(Exception):
    """The model can't be loaded with these settings; the message names the reason."""


class BadParameters(ValueError):
    """A request asks for what this model can't do; the message tells the client what."""


class ComputeError(Exception):
    """The library could not compute this; the message gives a short reason."""


class ConstraintError(Exception):
    """An answer can't continue within its grammar or JSON schema; the message gives the reason."""


class Vocabulary(Protocol):
    """Tokens and text of a model. Thread-safe.

    ``controls`` maps the text of each control token to the token. Only a template may produce
    these; user text must never become one. ``ends`` end an answer.
    """

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
        """Tokens that precede the text before a gap, after it, and in it; None: not supported."""
        ...

    def reveal(self, texts: Sequence[str]) -> None:
        """Let `piece` return the text of these control tokens, which the answer's parser needs."""
        ...

    def tokenize(self, text: str, *, special: bool) -> list[int]:
        """Return the tokens without BOS or EOS. ``special`` parses control tokens in the text."""
        ...

    def enclosed(self, tokens: Sequence[int]) -> list[int]:
        """Return the tokens of a whole text with those expected around it (BOS, EOS)."""
        ...

    def pair(self, query: Sequence[int], document: Sequence[int]) -> list[int]:
        """Return the tokens of a query and a document as rerankers expect them."""
        ...

    def piece(self, token: int) -> bytes:
        """Return the token's bytes of text; empty for a control token."""
        ...


class KVCache(Protocol):
    """KV cache by slot; positions of a slot run from 0 to ``length - 1``.

    ``restores_only_at_end``: a saved sequence can be continued only at its end, since it holds only
    the part of a sliding window that the next token sees.
    """

    @property
    def restores_only_at_end(self) -> bool: ...

    def length(self, slot: int) -> int: ...

    def clear(self, slot: int) -> None: ...

    def truncate(self, slot: int, length: int) -> bool:
        """Drop positions from ``length`` on.

        Return False if that is not possible or the rest is too little to continue from: the slot's
        state is then undefined and must be cleared.
        """
        ...

    def copy(self, source: int, target: int) -> None:
        """Copy all of ``source`` into ``target``, which must be clear."""
        ...

    def size(self, slot: int) -> int:
        """Return the number of bytes that `save` would return."""
        ...

    def save(self, slot: int) -> memoryview | None:
        """Return the slot's contents for `restore` in this process; None if not possible."""
        ...

    def restore(self, slot: int, data: memoryview) -> bool:
        """Read a saved sequence into a clear slot.

        Return False on failure: the slot's state is then undefined and must be cleared.
        """
        ...


class Sampler(Protocol):
    """Sampler chain of one sequence, with its seed and its history of recent tokens."""

    def ready(self) -> bool:
        """Read tokens of an earlier attempt as far as the step's budget allows.

        Return False if some are left: call again in the next step, and do not sample yet. Raise
        `BadParameters`.
        """
        ...

    def sample(self, row: int) -> int:
        """Sample a token from row ``row`` of the last decode, and record it in the chain.

        Rows are numbered through the tokens of all chunks. Raise `ComputeError` or
        `ConstraintError`.
        """
        ...

    def logprob(self, row: int, token: int) -> TokenLogprob | None:
        """Return the log probability of a token sampled from that row; None if not requested."""
        ...

    def close(self) -> None: ...


class Embedder(Protocol):
    """Vectors of whole texts, pooled as the model specifies (mean by default).

    ``size`` is the number of components of a vector, ``limit`` the most tokens of an input,
    ``rows`` and ``sequences`` the most tokens and inputs of one call. ``splits``: an input may be
    computed in several chunks. ``ranks``: the model is a reranker, whose inputs are pairs of query
    and document and whose vectors have one component, the score.
    """

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
    @property
    def ranks(self) -> bool: ...

    def open(self) -> object:
        """Allocate what `compute` needs. Idempotent. Raise `LoadError`.

        It can take longer than a step may: call it before `compute`, on another thread.
        """
        ...

    def compute(self, pieces: Sequence[InputChunk]) -> list[bytes]:
        """Return the vector of each chunk that is the last of its input.

        A vector is ``size`` little-endian float32 of L2 norm 1; a score is unchanged. Raise
        `ComputeError`; the caller must then call `clear`.
        """
        ...

    def clear(self) -> None:
        """Drop incomplete inputs."""
        ...


class Backend(Protocol):
    """A loaded model."""

    @property
    def facts(self) -> BackendInfo: ...
    @property
    def vocabulary(self) -> Vocabulary: ...
    @property
    def memory(self) -> KVCache: ...
    @property
    def embedder(self) -> Embedder: ...
    @property
    def template(self) -> str | None:
        """The chat template in the model file."""
        ...

    def begin_step(self) -> None:
        """Start an engine step: reset the budgets per step."""
        ...

    def decode(self, chunks: Sequence[Chunk]) -> Decoded: ...

    def check(self, params: SamplingParams) -> Constraint | None:
        """Compile the request's grammar or JSON schema, if any, for `sampler`.

        Called on threads that prepare requests. Raise `BadParameters`.
        """
        ...

    def grammar(self, schema: Any, also: Mapping[str, Any] | None = None) -> str:
        """Return the GBNF of a JSON schema, with further schemas as rules by name.

        Raise `BadParameters`.
        """
        ...

    def sampler(
        self,
        params: SamplingParams,
        prompt: Sequence[int],
        answer: Sequence[int],
        *,
        owner: str = "",
        automaton: Constraint | None = None,
    ) -> Sampler:
        """Return the sampler of one sequence.

        ``answer`` holds the tokens behind the prompt that an earlier attempt sampled. ``owner`` is
        charged for the work of a grammar. ``automaton`` is the result of `check` for ``params``.
        Raise `BadParameters`.
        """
        ...

    def close(self) -> None: ...
