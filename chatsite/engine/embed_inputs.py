"""Tokenizes the texts of an `Embed` request. Thread-safe."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from chatsite.engine.batching.embedding import EmbedJob
from chatsite.engine.contract.backend import BadParameters, Embedder, Vocabulary
from chatsite.engine.contract.frames import MAX_FRAME
from chatsite.engine.contract.messages import Embed
from chatsite.engine.prompting.prompt import ContextExceeded, tokens_of

_OF_FRAME: Final = 4096  # bytes of a frame besides the vectors
_NUMBER: Final = 4  # bytes of a float32
# Steps usually run on all cores, and a step waits for its slowest core. So while answers run,
# tokenizing thousands of texts sleeps after each slice of work, for several times its duration, but
# not so long that the request misses its deadline.
_SLICE_S: Final = 0.002
_REST: Final = 3.0
_MOST_REST_S: Final = 5.0


@dataclass(frozen=True)
class Pace:
    """Throttles tokenization while answers run.

    ``answering`` returns whether answers run, ``work`` the calling thread's CPU time in seconds;
    ``rest`` sleeps for a number of seconds.
    """

    answering: Callable[[], bool] = lambda: False
    work: Callable[[], float] = time.thread_time
    rest: Callable[[float], None] = time.sleep


class EmbedBuilder:
    """Turns `Embed` requests into jobs for the engine thread."""

    def __init__(
        self, vocabulary: Vocabulary, embedder: Embedder, pace: Pace | None = None
    ) -> None:
        self._vocabulary = vocabulary
        self._pace = pace or Pace()
        self._open = embedder.open
        self._limit = embedder.limit
        self.ranks = embedder.ranks
        self._most = (MAX_FRAME - _OF_FRAME) // (_NUMBER * embedder.size)

    def prepare(self, request: Embed, arrived: float) -> EmbedJob:
        """Tokenize the inputs and open the embedder, so that the engine thread only computes.

        Raise `BadParameters`, `ContextExceeded` for an input that is too long and may not be cut,
        and `LoadError` if there is no memory for vectors.
        """
        if len(request.inputs) > self._most:
            raise BadParameters(
                f"{len(request.inputs)} inputs are too many: this model accepts at most "
                f"{self._most} per request"
            )
        if self.ranks and request.query is None:
            raise BadParameters(
                "this is a reranker, which computes no embeddings; use /v1/rerank, or another model"
            )
        if request.query is not None and not self.ranks:
            raise BadParameters("this model is not a reranker; choose another one")
        pace, inputs = self._pace, []
        began, rested = pace.work(), 0.0
        for number, one in enumerate(request.inputs, 1):
            if request.query is None:
                inputs.append(self._tokens(number, one, request.truncate))
            else:
                inputs.append(self._pair(number, request.query, one, request.truncate))
            worked = pace.work() - began
            if worked >= _SLICE_S:
                if rested < _MOST_REST_S and pace.answering():
                    pace.rest(_REST * worked)
                    rested += _REST * worked
                began = pace.work()
        self._open()
        return EmbedJob(request.id, inputs, arrived, request.batch)

    def _pair(
        self, number: int, query: str, text: str | tuple[int | str, ...], truncate: bool
    ) -> list[int]:
        """Return the tokens of a query and a text, of which only the text is cut."""
        if not isinstance(text, str):
            raise BadParameters(f"input {number}: a reranker takes texts, not tokens")
        vocabulary = self._vocabulary
        asked, tokens = (vocabulary.tokenize(one, special=False) for one in (query, text))
        pair = vocabulary.pair(asked, tokens)
        if len(pair) > self._limit and truncate:
            room = self._limit - (len(pair) - len(tokens))
            if room > 0:
                pair = vocabulary.pair(asked, tokens[:room])
        if len(pair) > self._limit:
            raise ContextExceeded(len(pair), self._limit, f"query and input {number}")
        return pair

    def _tokens(self, number: int, one: str | tuple[int | str, ...], truncate: bool) -> list[int]:
        """Return the tokens of an input.

        A text gets the tokens that the model expects around it; tokens are used unchanged.
        """
        vocabulary = self._vocabulary
        if isinstance(one, str):
            inner = vocabulary.tokenize(one, special=False)
            tokens = vocabulary.enclosed(inner)
            if truncate and len(tokens) > self._limit:
                around = len(tokens) - len(inner)
                tokens = vocabulary.enclosed(inner[: max(0, self._limit - around)])
        else:
            try:
                tokens = tokens_of(vocabulary, one, special=False)
            except BadParameters as error:
                raise BadParameters(f"input {number}: {error}") from None
            if truncate:
                tokens = tokens[: self._limit]
        if not tokens:
            raise BadParameters(f"input {number} is empty")
        if len(tokens) > self._limit:
            raise ContextExceeded(len(tokens), self._limit, f"input {number}")
        return tokens
