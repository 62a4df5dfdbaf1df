"""Sampler chains of llama.cpp, one per sequence."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from typing import Any

import llama_cpp

from chatsite.engine.messages import SamplingParams

lib: Any = llama_cpp.llama_cpp


class LlamaSampler:
    """Penalties, then candidates by top-k, top-p and min-p, then temperature and a draw; the
    likeliest token at temperature 0. Stages that do nothing are left out. ``context`` is the
    pointer whose logits are sampled, ``window`` the most tokens that penalties look back on."""

    def __init__(
        self,
        context: int,
        params: SamplingParams,
        *,
        vocabulary: int,
        ends: Iterable[int],
        window: int,
        history: Sequence[int],
    ) -> None:
        self._context = context
        chain = self._chain = lib.llama_sampler_chain_init(lib.llama_sampler_chain_default_params())

        def add(stage: int) -> None:
            lib.llama_sampler_chain_add(chain, stage)

        if params.ignore_eos:
            biases = [lib.llama_logit_bias(token, float("-inf")) for token in ends]
            array = (lib.llama_logit_bias * len(biases))(*biases)
            add(lib.llama_sampler_init_logit_bias(vocabulary, len(biases), array))
        if window := _penalty_window(params, window):
            add(
                lib.llama_sampler_init_penalties(
                    vocabulary,
                    window,
                    params.repeat_penalty,
                    params.frequency_penalty,
                    params.presence_penalty,
                )
            )
        if params.temperature == 0:
            add(lib.llama_sampler_init_greedy())
        else:
            if params.top_k:
                add(lib.llama_sampler_init_top_k(params.top_k))
            if params.top_p < 1:
                add(lib.llama_sampler_init_top_p(params.top_p, 1))
            if params.min_p:
                add(lib.llama_sampler_init_min_p(params.min_p, 1))
            add(lib.llama_sampler_init_temp(params.temperature))
            seed = secrets.randbelow(2**32 - 1) if params.seed is None else params.seed
            add(lib.llama_sampler_init_dist(seed))
        for token in history[-window:] if window else ():
            lib.llama_sampler_accept(chain, token)

    def sample(self, row: int) -> int:
        return int(lib.llama_sampler_sample(self._chain, self._context, row))

    def close(self) -> None:
        if self._chain:
            lib.llama_sampler_free(self._chain)
            self._chain = None


def _penalty_window(params: SamplingParams, longest: int) -> int:
    """Tokens that penalties look back on; 0 when there are none."""
    if (
        params.repeat_penalty == 1
        and params.presence_penalty == 0
        and params.frequency_penalty == 0
    ):
        return 0
    return longest if params.repeat_last_n < 0 else params.repeat_last_n
