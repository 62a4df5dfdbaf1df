"""Sampling one sequence: numpy narrows the vocabulary, llama.cpp's chain draws from what is left.

A vocabulary has up to 262,144 tokens, of which a top-k sampler looks at forty. So the logits are
read in place, the likeliest are found by one comparison over the array, and only they enter the
chain. What changes single logits (bias, penalties, barred ends) touches just those.
"""

from __future__ import annotations

import ctypes
import math
import secrets
from collections.abc import Sequence
from typing import Any, Final

import llama_cpp
import numpy as np
from numpy.typing import NDArray

from chatsite.engine.backend import BadParameters, ComputeError
from chatsite.engine.llama_vocabulary import LlamaVocabulary
from chatsite.engine.messages import SamplingParams, TokenLogprob
from chatsite.engine.token_grammar import TokenGrammar, TokenTexts, automaton_of

lib: Any = llama_cpp.llama_cpp

Logits = NDArray[np.float32]

# Natural logarithms below the best: where a search for the likeliest tokens begins, and from
# where on, at temperature 1, a token's probability is nothing beside a float's precision.
_FIRST_REACH: Final = 8.0
_NOTHING: Final = 30.0
_REACHES: Final = (2.0, 4.0, 8.0, 16.0, np.inf)
_TOKEN: Final = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])


class LlamaSampler:
    """Bias and penalties, then candidates by top-k, typical-p, top-p and min-p, then temperature
    and a draw; the likeliest token at temperature 0. With a grammar what was drawn is checked,
    and drawn again among what the grammar takes. Stages that do nothing are left out.

    ``prompt`` and ``answer`` are what penalties look back on at first; a grammar has taken
    ``answer`` already. ``window`` is the most tokens that penalties look back on. Raises
    `BadParameters`.
    """

    def __init__(
        self,
        context: int,
        params: SamplingParams,
        *,
        vocabulary: LlamaVocabulary,
        texts: TokenTexts,
        window: int,
        prompt: Sequence[int],
        answer: Sequence[int],
    ) -> None:
        self._context = context
        self._params = params
        self._vocabulary = vocabulary
        self._ends = np.fromiter(vocabulary.ends, dtype=np.int64)
        self._given = len(answer)
        self._window = _penalty_window(params, window)
        self._recent = [*prompt, *answer][-self._window :] if self._window else []
        self._biased = _bias(params, vocabulary.size)
        automaton = automaton_of(params)
        self._grammar = (
            TokenGrammar(automaton, vocabulary, texts, answer) if automaton is not None else None
        )
        self._chain = _chain(params, vocabulary.size)

    def sample(self, row: int) -> int:
        logits = self._adjusted(self._logits(row))
        token = self._draw(logits)
        if self._grammar is not None and not self._grammar.takes(token):
            token = self._draw(self._grammar.masked(logits))
        if self._grammar is not None and not self._grammar.accept(token):
            return min(self._vocabulary.ends, default=token)  # nothing can follow
        self._given += 1
        if self._window:
            self._recent = [*self._recent, token][-self._window :]
        if self._chain:
            lib.llama_sampler_accept(self._chain, token)
        return token

    def logprob(self, row: int, token: int) -> TokenLogprob | None:
        """Of the model's own distribution, before any stage; None when nobody asked."""
        if self._params.top_logprobs is None:
            return None
        logits = self._logits(row)
        highest = logits.max()
        total = float(highest) + math.log(np.exp(logits - highest).sum(dtype=np.float64))
        count = self._params.top_logprobs
        best = _likeliest(logits, count) if count else np.empty(0, dtype=np.int64)
        best = best[np.argsort(-logits[best], kind="stable")][:count]
        piece = self._vocabulary.piece
        return TokenLogprob(
            token,
            piece(token),
            float(logits[token]) - total,
            tuple((int(one), piece(int(one)), float(logits[one]) - total) for one in best),
        )

    def close(self) -> None:
        if self._chain:
            lib.llama_sampler_free(self._chain)
            self._chain = None

    def _logits(self, row: int) -> Logits:
        """llama.cpp's own array, good until the next decode; not to be written to."""
        pointer = lib.llama_get_logits_ith(self._context, row)
        return np.ctypeslib.as_array(pointer, shape=(self._vocabulary.size,))

    def _adjusted(self, logits: Logits) -> Logits:
        params = self._params
        barred = params.ignore_eos or self._given < params.min_tokens
        if not barred and self._biased is None and not self._recent:
            return logits
        logits = logits.copy()
        if self._biased is not None:
            tokens, biases = self._biased
            logits[tokens] += biases
        if self._recent:
            self._penalise(logits)
        if barred:
            logits[self._ends] = -np.inf
        return logits

    def _penalise(self, logits: Logits) -> None:
        tokens, counts = np.unique(np.asarray(self._recent), return_counts=True)
        values, repeat = logits[tokens], np.float32(self._params.repeat_penalty)
        values = np.where(values > 0, values / repeat, values * repeat)
        values -= counts * np.float32(self._params.frequency_penalty)
        logits[tokens] = values - np.float32(self._params.presence_penalty)

    def _draw(self, logits: Logits) -> int:
        if not self._chain:
            token = int(logits.argmax())
            _check(logits[token])
            return token
        wanted = self._params.top_k
        if wanted and wanted < len(logits):
            ids = _likeliest(logits, wanted)
        else:
            ids = _weighty(logits, self._params)
        candidates = np.empty(len(ids), dtype=_TOKEN)
        candidates["id"], candidates["logit"], candidates["p"] = ids, logits[ids], 0
        array = lib.llama_token_data_array(
            candidates.ctypes.data_as(lib.llama_token_data_p), len(ids), -1, False
        )
        lib.llama_sampler_apply(self._chain, ctypes.byref(array))
        return int(array.data[array.selected].id)


def _check(best: np.float32) -> None:
    """The best of all logits is no number if any is none, as when a device computes wrongly or
    weights overflow; and nothing can be drawn where everything is barred."""
    if not math.isfinite(best):
        raise ComputeError("it gave no finite numbers")


def _likeliest(logits: Logits, wanted: int) -> NDArray[np.int64]:
    """The ``wanted`` likeliest and some more; unordered."""
    best, reach = logits.max(), _FIRST_REACH
    _check(best)
    while True:
        found = np.flatnonzero(logits >= best - reach)
        if len(found) >= wanted:
            return found
        if reach > 1e4:
            return np.flatnonzero(logits > -np.inf)
        reach *= 1.4


def _weighty(logits: Logits, params: SamplingParams) -> NDArray[np.int64]:
    """Those that the stages may leave, without a top-k. Stages that look at all of a large
    vocabulary sort it for each token, which takes tens of milliseconds."""
    best = logits.max()
    _check(best)
    if _cuts_itself(params, len(logits)):
        return _nucleus(logits, best, params)
    reach = _NOTHING * max(1.0, params.temperature)
    if params.min_p and params.typical_p == 1:  # what is less likely goes in any case
        reach = min(reach, 1e-3 - math.log(params.min_p))
    return np.flatnonzero(logits >= best - reach)


def _cuts_itself(params: SamplingParams, size: int) -> bool:
    """Whether top-p is done here, and is no stage of the chain."""
    return not 0 < params.top_k < size and params.typical_p == 1 and params.top_p < 1


def _nucleus(logits: Logits, best: np.float32, params: SamplingParams) -> NDArray[np.int64]:
    """The likeliest that have top-p of all probability together, best first; no more of them
    than min-p leaves."""
    weights = np.exp(logits - best)
    enough = params.top_p * weights.sum(dtype=np.float64)
    for reach in (1e-3 - math.log(params.min_p),) if params.min_p else _REACHES:
        found = np.flatnonzero(logits >= best - reach)
        if weights[found].sum(dtype=np.float64) >= enough:
            break
    order = np.argsort(-weights[found], kind="stable")
    within = np.cumsum(weights[found][order], dtype=np.float64)
    return found[order[: int(np.searchsorted(within, enough)) + 1]]


def _chain(params: SamplingParams, size: int) -> Any:
    """What follows the narrowing; none at temperature 0."""
    if params.temperature == 0:
        return None
    chain = lib.llama_sampler_chain_init(lib.llama_sampler_chain_default_params())
    stages = [
        params.top_k and lib.llama_sampler_init_top_k(params.top_k),
        params.typical_p < 1 and lib.llama_sampler_init_typical(params.typical_p, 1),
        params.top_p < 1
        and not _cuts_itself(params, size)
        and lib.llama_sampler_init_top_p(params.top_p, 1),
        params.min_p and lib.llama_sampler_init_min_p(params.min_p, 1),
        lib.llama_sampler_init_temp(params.temperature),
        lib.llama_sampler_init_dist(
            secrets.randbelow(2**32 - 1) if params.seed is None else params.seed
        ),
    ]
    for stage in stages:
        if stage:
            lib.llama_sampler_chain_add(chain, stage)
    return chain


def _bias(params: SamplingParams, size: int) -> tuple[NDArray[np.int64], Logits] | None:
    """Tokens, each once, and what is added to their logits; -100 bars, as programs expect it."""
    if not params.logit_bias:
        return None
    biases = dict(params.logit_bias)
    if beyond := [token for token in biases if token >= size]:
        raise BadParameters(
            f"logit_bias names token {beyond[0]}, but the model's tokens end at {size - 1}"
        )
    values = [-np.inf if bias <= -100 else bias for bias in biases.values()]
    return np.fromiter(biases, dtype=np.int64), np.asarray(values, dtype=np.float32)


def _penalty_window(params: SamplingParams, longest: int) -> int:
    """Tokens that penalties look back on; 0 when there are none."""
    if (
        params.repeat_penalty == 1
        and params.presence_penalty == 0
        and params.frequency_penalty == 0
    ):
        return 0
    return longest if params.repeat_last_n < 0 else params.repeat_last_n
