"""Sampling with llama.cpp: drawn tokens, banned tokens, log probabilities."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from chatsite.api.core import foreign
from chatsite.engine.backends.llama.backend import LlamaBackend
from chatsite.engine.backends.llama.sampler import LlamaSampler
from chatsite.engine.batching.loop import Engine
from chatsite.engine.contract.backend import BadParameters, Chunk, ConstraintError
from chatsite.engine.contract.messages import (
    Generate,
    Load,
    PromptOptions,
    SamplingParams,
    Step,
    TokenLogprob,
)
from chatsite.engine.contract.tuning import Tuning
from chatsite.engine.grammar.schema import to_gbnf
from chatsite.engine.prompting.prompt import PromptBuilder
from chatsite.engine.prompting.template import ChatTemplate

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
    """Return the answer, and whether it ended by itself."""
    tokens = backend.vocabulary.tokenize(prompt, special=True)
    backend.memory.clear(0)
    sampler = backend.sampler(params, tokens, [])
    text, at, new = b"", 0, tokens
    try:
        for _ in range(most):
            backend.begin_step()
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
    """No token of this alphabet is among the likeliest, so the whole vocabulary is searched."""
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


@pytest.mark.parametrize("temperature", [0, 1.5])
def test_t02_an_enum_of_a_thousand_values_gives_whole_json(backend, temperature):
    values = [f"value-{n:04}" for n in range(1200)]
    schema = {"type": "object", "properties": {"x": {"enum": values}}, "required": ["x"]}
    params = SamplingParams(temperature=temperature, seed=3, json_schema=schema)
    text, ended = write(backend, params)
    assert ended
    assert json.loads(text)["x"] in values


def test_h4_a_hostile_grammar_ends_its_own_answer_with_an_error(backend):
    ways = " | ".join(f"[a-z ] e{n}" for n in range(300))
    rules = "\n".join(f'e{n} ::= "" | "x{n}"' for n in range(300))
    grammar = f"root ::= r{{0,90000}}\nr ::= {ways}\n{rules}"
    with pytest.raises(ConstraintError, match="ambiguous"):
        write(backend, SamplingParams(temperature=0, grammar=grammar))


def read(backend: LlamaBackend, sampler: LlamaSampler) -> None:
    while not sampler.ready():
        backend.begin_step()


def test_a_grammar_continues_after_text_of_an_earlier_attempt(backend):
    vocabulary = backend.vocabulary
    params = SamplingParams(temperature=0, json_schema=PERSON)
    half = vocabulary.tokenize('{"name": "Tom", "kind"', special=False)
    sampler = backend.sampler(params, [], half)
    read(backend, sampler)
    tokens = vocabulary.tokenize(PROMPT, special=True) + half
    backend.memory.clear(0)
    backend.decode([Chunk(0, 0, tokens, 1)])
    assert vocabulary.piece(sampler.sample(len(tokens) - 1)).strip().startswith(b":")
    sampler.close()
    other = backend.sampler(params, [], vocabulary.tokenize("no JSON", special=False))
    with pytest.raises(BadParameters, match="match the grammar"):
        read(backend, other)
    other.close()


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


def test_narrowing_draws_the_same_tokens_as_the_whole_vocabulary(backend):
    """Draws among the same forty candidates with the same seed, found either way."""
    near = SamplingParams(temperature=1.0, top_k=40, top_p=1, min_p=0, seed=11)
    assert write(backend, near, 20) == write(backend, near, 20)
    wide = SamplingParams(temperature=1.0, top_k=backend.vocabulary.size, min_p=0.9, seed=11)
    narrow = SamplingParams(temperature=1.0, top_k=5, min_p=0.9, top_p=1, seed=11)
    assert write(backend, wide, 20)[0] == write(backend, narrow, 20)[0]


def test_d7_stop_tokens_are_barred_before_min_tokens_and_must_exist(backend: LlamaBackend) -> None:
    tokens = backend.vocabulary.tokenize(PROMPT, special=True)
    backend.memory.clear(0)
    backend.decode([Chunk(0, 0, tokens, 1)])
    row = len(tokens) - 1
    greedy = SamplingParams(temperature=0)
    likeliest = backend.sampler(greedy, tokens, []).sample(row)
    barring = SamplingParams(temperature=0, stop_tokens=(likeliest,), min_tokens=1)
    assert backend.sampler(barring, tokens, []).sample(row) != likeliest
    with pytest.raises(BadParameters, match="stop_token_ids"):
        backend.sampler(SamplingParams(stop_tokens=(1 << 30,)), tokens, [])


def run(backend: LlamaBackend, request: Generate) -> tuple[str, list[TokenLogprob]]:
    """Return the text of one request and its log probabilities, through the loop."""
    frames: list[Any] = []
    engine = Engine(backend, frames.append, step_target_ms=200)
    template = ChatTemplate(backend.template)
    prompts = PromptBuilder(template, backend.vocabulary, backend.facts.context, backend.grammar)
    engine.submit(prompts.prepare(request, 0.0))
    while not engine.idle:
        engine.step()
    deltas = [delta for frame in frames if isinstance(frame, Step) for delta in frame.deltas]
    found = [logprob for delta in deltas for logprob in delta.logprobs]
    return "".join(delta.text for delta in deltas), found


def test_d10_a_prompt_is_scored_as_an_answer_is(backend: LlamaBackend) -> None:
    """Generated tokens have the same log probabilities when they are sent as a prompt."""
    tokens = tuple(backend.vocabulary.tokenize(PROMPT * 3, special=True))
    asked = SamplingParams(temperature=0, max_tokens=8, top_logprobs=1)
    _text, answer = run(backend, Generate("a", "ann", (), asked, options=PromptOptions(raw=tokens)))
    again = (*tokens, *(one.token for one in answer))
    options = PromptOptions(raw=again, echo="prompt")
    params = SamplingParams(temperature=0, max_tokens=1, top_logprobs=1)
    text, scored = run(backend, Generate("b", "ann", (), params, options=options))
    assert [one.token for one in scored[:-1]] == list(again)
    assert math.isnan(scored[0].logprob)
    behind = scored[len(tokens) : len(again)]
    assert [one.logprob for one in behind] == pytest.approx(
        [one.logprob for one in answer], abs=0.2
    )
    # The test by which lm-evaluation-harness recognizes a greedy answer.
    assert all(one.top[0][0] == one.token for one in behind)
    assert text.startswith("user\nGive me a record.")


@pytest.mark.parametrize(
    ("constraint", "shape"),
    [
        (foreign.regex(r"[A-C]{2,4}-\d{3}", "regex"), r"[A-C]{2,4}-\d{3}"),
        (foreign.regex('a?b|c"\\\\d', "regex"), r'a?b|c"\\d'),
        (
            foreign.choice(["positive", "negative", 'so "so"'], "choice"),
            'positive|negative|so "so"',
        ),
    ],
    ids=["class", "escapes", "choice"],
)
@pytest.mark.parametrize("temperature", [0.0, 1.5])
def test_d7_an_answer_keeps_to_the_constraints_of_other_servers(
    backend: LlamaBackend, constraint: dict[str, Any], shape: str, temperature: float
) -> None:
    text, ended = write(backend, SamplingParams(temperature=temperature, seed=3, **constraint))
    assert ended
    assert re.fullmatch(shape, text)
