"""Samples one sequence: numpy narrows the vocabulary, llama.cpp's chain draws from the rest.

A vocabulary has up to 262,144 tokens, of which a top-k sampler needs forty. So the logits are read
in place, the most likely are found by one comparison over the array, and only they enter the chain.
Stages that change single logits (bias, penalties, barred ends) touch only those.
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

from chatsite.engine.backends.llama.vocabulary import LlamaVocabulary
from chatsite.engine.contract.backend import BadParameters, ComputeError
from chatsite.engine.contract.messages import SamplingParams, TokenLogprob
from chatsite.engine.grammar.token_grammar import TokenGrammar

lib: Any = llama_cpp.llama_cpp

Logits = NDArray[np.float32]

# Natural logarithms below the best logit: where a search for the most likely tokens begins, and
# from where on, at temperature 1, a probability is below float precision.
_FIRST_REACH: Final = 8.0
_NOTHING: Final = 30.0
_REACHES: Final = (2.0, 4.0, 8.0, 16.0, np.inf)
_TOKEN: Final = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])


class LlamaSampler:
    """The sampler chain of one sequence.

    It applies bias and penalties, then selects candidates by top-k, typical-p, top-p and min-p,
    then applies temperature and draws; at temperature 0 it takes the most likely token. With a
    grammar the drawn token is checked, and drawn again among the allowed ones if rejected. Stages
    without effect are left out.

    Penalties look back on ``prompt`` and ``answer`` at first, at most ``window`` tokens; `ready`
    lets the grammar read ``answer``. Raises `BadParameters`.
    """

    def __init__(
        self,
        context: int,
        params: SamplingParams,
        *,
        vocabulary: LlamaVocabulary,
        grammar: TokenGrammar | None,
        window: int,
        prompt: Sequence[int],
        answer: Sequence[int],
    ) -> None:
        self._context = context
        self._params = params
        self._vocabulary = vocabulary
        self._ends = np.fromiter(vocabulary.ends, dtype=np.int64)
        self._stops = np.asarray(_known_stops(params, vocabulary.size), dtype=np.int64)
        self._given = len(answer)
        self._window = _penalty_window(params, window)
        self._recent = [*prompt, *answer][-self._window :] if self._window else []
        self._biased = _bias(params, vocabulary.size)
        self._grammar = grammar
        self._chain = _chain(params, vocabulary.size)

    def ready(self) -> bool:
        return self._grammar is None or self._grammar.ready()

    def sample(self, row: int) -> int:
        logits = self._adjusted(self.logits(row))
        token = self._draw(logits)
        if self._grammar is not None:
            if not self._grammar.takes(token):
                token = self._draw(self._grammar.masked(logits))
            self._grammar.accept(token)
        self._given += 1
        if self._window:
            self._recent = [*self._recent, token][-self._window :]
        if self._chain:
            lib.llama_sampler_accept(self._chain, token)
        return token

    def logprob(self, row: int, token: int) -> TokenLogprob | None:
        """Return the log probability in the model's distribution before any stage.

        None if not requested.
        """
        if self._params.top_logprobs is None:
            return None
        logits = self.logits(row)
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
        if self._grammar is not None:
            self._grammar.close()
            self._grammar = None

    def logits(self, row: int) -> Logits:
        """Return llama.cpp's own array, valid until the next decode. Do not write to it."""
        pointer = lib.llama_get_logits_ith(self._context, row)
        return np.ctypeslib.as_array(pointer, shape=(self._vocabulary.size,))

    def _adjusted(self, logits: Logits) -> Logits:
        params = self._params
        early = self._given < params.min_tokens
        barred = params.ignore_eos or early
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
        if early:
            logits[self._stops] = -np.inf
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
    """Raise `ComputeError` unless the highest logit is finite.

    It is NaN if any logit is, as when a device computes wrongly or weights overflow; and nothing
    can be drawn if all tokens are barred.
    """
    if not math.isfinite(best):
        raise ComputeError("its logits are not finite")


def _likeliest(logits: Logits, wanted: int) -> NDArray[np.int64]:
    """Return at least the ``wanted`` most likely tokens, unordered."""
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
    """Return the tokens that the stages without a top-k may keep.

    Stages over a whole large vocabulary would sort it for each token, which takes tens of
    milliseconds.
    """
    best = logits.max()
    _check(best)
    if _cuts_itself(params, len(logits)):
        return _nucleus(logits, best, params)
    reach = _NOTHING * max(1.0, params.temperature)
    if params.min_p and params.typical_p == 1:  # less likely tokens are cut by min-p anyway
        reach = min(reach, 1e-3 - math.log(params.min_p))
    return np.flatnonzero(logits >= best - reach)


def _cuts_itself(params: SamplingParams, size: int) -> bool:
    """Return whether top-p is applied here instead of in the chain."""
    return not 0 < params.top_k < size and params.typical_p == 1 and params.top_p < 1


def _nucleus(logits: Logits, best: np.float32, params: SamplingParams) -> NDArray[np.int64]:
    """Return the most likely tokens with a total probability of top-p, best first.

    At most those that min-p keeps.
    """
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
    """Return the chain that follows the narrowing; None at temperature 0."""
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
    """Return distinct tokens and the biases of their logits; -100 bars, as clients expect."""
    if not params.logit_bias:
        return None
    biases = dict(params.logit_bias)
    if beyond := [token for token in biases if token >= size]:
        raise BadParameters(
            f"logit_bias names token {beyond[0]}, but the model's highest token ID is {size - 1}"
        )
    values = [-np.inf if bias <= -100 else bias for bias in biases.values()]
    return np.fromiter(biases, dtype=np.int64), np.asarray(values, dtype=np.float32)


def _known_stops(params: SamplingParams, size: int) -> tuple[int, ...]:
    if beyond := [token for token in params.stop_tokens if token >= size]:
        raise BadParameters(
            f"stop_token_ids names token {beyond[0]}, but the model's highest token ID is "
            f"{size - 1}"
        )
    return params.stop_tokens


def _penalty_window(params: SamplingParams, longest: int) -> int:
    """Return how many tokens penalties look back on; 0 without penalties."""
    if (
        params.repeat_penalty == 1
        and params.presence_penalty == 0
        and params.frequency_penalty == 0
    ):
        return 0
    return longest if params.repeat_last_n < 0 else params.repeat_last_n
