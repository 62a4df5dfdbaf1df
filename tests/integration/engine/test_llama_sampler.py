"""Sampling on llama.cpp: what is drawn, what is barred, what it is said to be worth."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chatsite.engine.backend import BadParameters, Chunk
from chatsite.engine.llama_backend import LlamaBackend
from chatsite.engine.messages import Load, SamplingParams
from chatsite.engine.schema_grammar import to_gbnf
from chatsite.engine.tuning import Tuning

PERSON = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "maxLength": 12},
        "kind": {"enum": ["cat", "dog"]},
        "ages": {"type": "array", "items": {"$ref": "#/$defs/age"}, "maxItems": 3},
    },
    "required": ["name", "kind", "ages"],
    "$defs": {"age": {"type": "integer"}},
}
PROMPT = "<|im_start|>user\nGive me a record.<|im_end|>\n<|im_start|>assistant\n"


@pytest.fixture(scope="module")
def backend(starter_model: Path) -> Iterator[LlamaBackend]:
    tuning = Tuning(use_extra_bufts=False, flash_attention=False, threads=1)
    load = Load("starter", str(starter_model), tuning, context=512, slots=1, step_target_ms=200)
    backend = LlamaBackend(load, lambda progress: None)
    yield backend
    backend.close()


def write(
    backend: LlamaBackend, params: SamplingParams, most: int = 80, prompt: str = PROMPT
) -> tuple[str, bool]:
    """The answer, and whether it came to its end by itself."""
    tokens = backend.vocabulary.tokenize(prompt, special=True)
    backend.memory.clear(0)
    sampler = backend.sampler(params, tokens, [])
    text, at, new = b"", 0, tokens
    try:
        for _ in range(most):
            backend.decode([Chunk(0, at, new, 1)])
            at += len(new)
            token = sampler.sample(len(new) - 1)
            if token in backend.vocabulary.ends:
                return text.decode(errors="replace"), True
            text += backend.vocabulary.piece(token)
            new = [token]
        return text.decode(errors="replace"), False
    finally:
        sampler.close()


@pytest.mark.parametrize("temperature", [0.0, 1.5])
def test_an_answer_keeps_to_its_schema(backend, temperature):
    params = SamplingParams(temperature=temperature, seed=3, json_schema=PERSON)
    text, ended = write(backend, params)
    assert ended
    record = json.loads(text)
    assert set(record) == {"name", "kind", "ages"}
    assert record["kind"] in {"cat", "dog"}
    assert all(isinstance(age, int) for age in record["ages"])


def test_a_grammar_holds_where_nothing_likely_fits(backend):
    """No token of the alphabet is among the likeliest: all of the vocabulary must be asked."""
    text, ended = write(backend, SamplingParams(temperature=0, grammar='root ::= "ξψζ"'))
    assert (text, ended) == ("ξψζ", True)


def test_a_schema_made_by_a_program_can_be_followed(backend):
    schema: dict[str, Any] = {
        "title": "Order",
        "type": "object",
        "properties": {
            "id": {"type": "integer", "title": "Id"},
            "note": {"anyOf": [{"type": "string"}, {"type": "null"}], "default": None},
        },
        "required": ["id"],
        "additionalProperties": False,
    }
    assert "root ::=" in to_gbnf(schema)


@pytest.mark.parametrize(
    "params",
    [
        SamplingParams(grammar="root ::= ("),
        SamplingParams(grammar="no such thing"),
        SamplingParams(grammar='rot ::= "x"'),
        SamplingParams(grammar='root ::= root "x"'),
        SamplingParams(grammar="root ::= " + "(" * 20_000 + '"x"' + ")" * 20_000),
        SamplingParams(json_schema={"$ref": "#/$defs/nowhere"}),
        SamplingParams(logit_bias=((1 << 30, 1.0),)),
    ],
    ids=["open", "text", "no-root", "left-recursion", "deep", "dangling", "bias"],
)
def test_what_can_not_be_followed_is_refused_with_a_reason(backend, params):
    with pytest.raises(BadParameters) as caught:
        backend.sampler(params, [], [])
    assert len(str(caught.value)) > 20


def test_a_schema_without_bottom_is_refused():
    schema: dict[str, Any] = {}
    for _ in range(500):
        schema = {"type": "array", "items": schema}
    with pytest.raises(BadParameters, match="deep"):
        to_gbnf(schema)


def test_a_grammar_goes_on_behind_text_of_an_earlier_attempt(backend):
    vocabulary = backend.vocabulary
    params = SamplingParams(temperature=0, json_schema=PERSON)
    half = vocabulary.tokenize('{"name": "Tom", "kind"', special=False)
    sampler = backend.sampler(params, [], half)
    tokens = vocabulary.tokenize(PROMPT, special=True) + half
    backend.memory.clear(0)
    backend.decode([Chunk(0, 0, tokens, 1)])
    assert vocabulary.piece(sampler.sample(len(tokens) - 1)).strip().startswith(b":")
    sampler.close()
    with pytest.raises(BadParameters, match="keep to the grammar"):
        backend.sampler(params, [], vocabulary.tokenize("no JSON", special=False))


def test_bias_bars_and_forces_tokens(backend):
    free, _ = write(backend, SamplingParams(temperature=0), most=1)
    (first,) = backend.vocabulary.tokenize(free, special=False)
    (other,) = backend.vocabulary.tokenize(" cat", special=False)
    barred, _ = write(backend, SamplingParams(temperature=0, logit_bias=((first, -100),)), most=1)
    assert barred != free
    forced = SamplingParams(temperature=1.0, logit_bias=((other, 100),))
    assert write(backend, forced, most=3)[0] == " cat cat cat"


def test_an_answer_does_not_end_before_its_least_length(backend):
    prompt = PROMPT.replace("Give me a record.", "Say only the word yes.")
    _, ended = write(backend, SamplingParams(temperature=0, min_tokens=40), 40, prompt)
    assert not ended


def test_log_probabilities_are_those_of_the_model(backend):
    tokens = backend.vocabulary.tokenize(PROMPT, special=True)
    backend.memory.clear(0)
    backend.decode([Chunk(0, 0, tokens, 1)])
    row = len(tokens) - 1
    sampler = backend.sampler(SamplingParams(temperature=0, top_logprobs=20), tokens, [])
    drawn = sampler.logprob(row, sampler.sample(row))
    assert drawn is not None
    assert drawn.token == drawn.top[0][0]
    assert drawn.logprob == drawn.top[0][2]
    values = [logprob for _, _, logprob in drawn.top]
    assert values == sorted(values, reverse=True)
    assert 0.3 < sum(map(math.exp, values)) <= 1
    sampler.close()
    silent = backend.sampler(SamplingParams(temperature=0), tokens, [])
    assert silent.logprob(row, silent.sample(row)) is None
    silent.close()


def test_narrowing_draws_what_the_whole_vocabulary_would(backend):
    """The same seed over forty candidates, found either way."""
    near = SamplingParams(temperature=1.0, top_k=40, top_p=1, min_p=0, seed=11)
    assert write(backend, near, 20) == write(backend, near, 20)
    wide = SamplingParams(temperature=1.0, top_k=backend.vocabulary.size, min_p=0.9, seed=11)
    narrow = SamplingParams(temperature=1.0, top_k=5, min_p=0.9, top_p=1, seed=11)
    assert write(backend, wide, 20)[0] == write(backend, narrow, 20)[0]
