"""Grammars that an answer keeps to: GBNF, or made from a JSON schema, run by llama.cpp."""

from __future__ import annotations

import ctypes
import json
from collections.abc import Sequence
from typing import Any, Final

import llama_cpp
import numpy as np
from llama_cpp.llama_grammar import json_schema_to_gbnf
from numpy.typing import NDArray

from chatsite.engine.backend import BadParameters
from chatsite.engine.llama_vocabulary import LlamaVocabulary
from chatsite.engine.messages import SamplingParams

lib: Any = llama_cpp.llama_cpp

# llama.cpp's parser calls itself for each bracket.
_MAX_DEPTH: Final = 200
_MAX_SCHEMA_DEPTH: Final = 64
# Whether tokens are allowed is asked of the likeliest first: asking for all of a vocabulary
# takes a hundred times as long as a step of sampling.
_FIRST_TRIED: Final = 256
_TOKEN: Final = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])


def schema_to_gbnf(schema: dict[str, Any]) -> str:
    """Raises `BadParameters` for what is no schema, or one that can't be turned into a grammar."""
    if _depth(schema) > _MAX_SCHEMA_DEPTH:
        raise BadParameters(f"the JSON schema is nested more than {_MAX_SCHEMA_DEPTH} deep")
    try:
        return str(json_schema_to_gbnf(json.dumps(schema)))
    except RecursionError:
        raise BadParameters("the JSON schema refers to itself without end") from None
    except Exception as error:  # the converter raises nearly anything on what it does not know
        raise BadParameters(f"the JSON schema can't be followed: {error!r}") from error


class LlamaGrammar:
    """Where one answer stands in its grammar. Raises `BadParameters` for one that does not parse,
    or that ``answer`` already broke."""

    def __init__(self, text: str, vocabulary: LlamaVocabulary, answer: Sequence[int]) -> None:
        _check(text)
        self._vocabulary = vocabulary
        self._sampler = lib.llama_sampler_init_grammar(
            vocabulary.pointer, text.encode("utf-8", "replace"), b"root"
        )
        if not self._sampler:
            raise BadParameters("the grammar does not parse: it must be GBNF with a rule `root`")
        for token in answer:
            if not self.accept(token):
                raise BadParameters("the text so far does not keep to the grammar")

    @classmethod
    def of(
        cls, params: SamplingParams, vocabulary: LlamaVocabulary, answer: Sequence[int]
    ) -> LlamaGrammar | None:
        if params.json_schema is not None:
            return cls(schema_to_gbnf(params.json_schema), vocabulary, answer)
        return cls(params.grammar, vocabulary, answer) if params.grammar else None

    def takes(self, token: int) -> bool:
        return bool(self._allowed(np.asarray([token], dtype=np.int64))[0])

    def accept(self, token: int) -> bool:
        """Goes on behind ``token``; False, with nothing changed, if it can't stand here.
        llama.cpp would abort the process instead."""
        if not self.takes(token):
            return False
        lib.llama_sampler_accept(self._sampler, token)
        return True

    def masked(self, logits: NDArray[np.float32]) -> NDArray[np.float32]:
        """The logits with all that can't stand here at minus infinity."""
        likely = np.argpartition(-logits, min(_FIRST_TRIED, len(logits) - 1))[:_FIRST_TRIED]
        for tokens in (likely, np.arange(len(logits))):
            allowed = tokens[self._allowed(tokens)]
            if np.isfinite(logits[allowed]).any():
                masked = np.full_like(logits, -np.inf)
                masked[allowed] = logits[allowed]
                return masked
        # Only what was barred is left: an end, if the grammar takes one, even so.
        masked = np.full_like(logits, -np.inf)
        masked[min(self._vocabulary.ends, default=0)] = 0
        return masked

    def close(self) -> None:
        lib.llama_sampler_free(self._sampler)

    def _allowed(self, tokens: NDArray[np.int64]) -> NDArray[np.bool_]:
        candidates = np.zeros(len(tokens), dtype=_TOKEN)
        candidates["id"] = tokens
        array = lib.llama_token_data_array(
            candidates.ctypes.data_as(lib.llama_token_data_p), len(tokens), -1, False
        )
        lib.llama_sampler_apply(self._sampler, ctypes.byref(array))
        allowed: NDArray[np.bool_] = np.isfinite(candidates["logit"])
        return allowed


def _check(text: str) -> None:
    depth = deepest = 0
    for character in text:
        depth += (character in "([") - (character in ")]")
        deepest = max(deepest, depth)
    if deepest > _MAX_DEPTH:
        raise BadParameters(f"the grammar is nested more than {_MAX_DEPTH} deep")


def _depth(value: Any, limit: int = _MAX_SCHEMA_DEPTH + 1) -> int:
    """How deep lists and objects are nested, up to ``limit``."""
    if limit == 0 or not isinstance(value, dict | list):
        return 0
    inner = value.values() if isinstance(value, dict) else value
    return 1 + max((_depth(one, limit - 1) for one in inner), default=0)
