"""Sampling in the loop: log probabilities, and requests that are refused."""

from __future__ import annotations

import math

import pytest

from chatsite.engine.backends.scripted.backend import ScriptedSampler
from chatsite.engine.contract.backend import BadParameters, ComputeError
from chatsite.engine.contract.messages import (
    Failed,
    Finished,
    Generate,
    PromptOptions,
    SamplingParams,
    Step,
    TokenLogprob,
)


def logprobs(harness, id: str) -> list[TokenLogprob]:
    steps = [frame for frame in harness.frames if isinstance(frame, Step)]
    return [
        one for step in steps for delta in step.deltas if delta.id == id for one in delta.logprobs
    ]


def test_each_token_has_its_log_probability(harness):
    harness.ask("g", "größe 你好 two", params=SamplingParams(top_logprobs=2))
    harness.ask("h", "one two")
    harness.finish()
    found = logprobs(harness, "g")
    assert b"".join(one.piece for one in found).decode() == harness.text("g") == "größe 你好 two"
    assert len(found) == harness.ends("g")[0].usage.completion_tokens
    assert all(len(one.top) == 2 and one.top[0][0] == one.token for one in found)
    assert logprobs(harness, "h") == []


@pytest.mark.parametrize(
    ("text", "params"),
    [
        ("one two", SamplingParams(top_logprobs=0, stop=("two three",))),
        ("one two three four", SamplingParams(top_logprobs=0, stop=("two three",))),
        ("one 你", SamplingParams(top_logprobs=0, max_tokens=3)),  # cut within a character
    ],
    ids=["held back", "stopped", "cut"],
)
def test_those_of_tokens_without_text_come_before_the_end(harness, text, params):
    harness.ask("g", text, params=params)
    harness.finish()
    (end,) = harness.ends("g")
    assert isinstance(end, Finished)
    assert len(logprobs(harness, "g")) == end.usage.completion_tokens


def test_those_held_back_come_at_a_cancel(harness):
    harness.ask("g", "one two three", params=SamplingParams(top_logprobs=0, stop=("two five",)))
    harness.steps(2)
    harness.engine.cancel("g")
    assert [one.piece for one in logprobs(harness, "g")] == [b"one", b" two"]


def test_a_request_that_can_not_be_sampled_is_refused_alone(harness):
    harness.ask("before", "@tokens 5")
    harness.ask("g", "hello", params=SamplingParams(logit_bias=((1 << 30, 1.0),)))
    harness.ask("h", "hello", params=SamplingParams(grammar="root ::= ("))
    harness.ask("behind", "hello")
    harness.finish()
    for id in ("g", "h"):
        (end,) = harness.ends(id)
        assert isinstance(end, Failed)
        assert end.code == "request_refused"
        assert len(end.message) > 20
    assert harness.reason("before") == harness.reason("behind") == "stop"
    assert not any(slot.busy for slot in harness.engine.slots)


def test_memory_that_refuses_to_be_cut_is_filled_again(harness, monkeypatch):
    harness.ask("g", "one two three")
    harness.finish()
    monkeypatch.setattr(harness.backend.memory, "truncate", lambda slot, length: False)
    harness.ask("h", "one two four")
    harness.finish()
    assert harness.started("h").cached_tokens == 0
    assert harness.text("h") == "one two four"


def test_an_answer_without_numbers_fails_alone(harness, monkeypatch):
    sample = ScriptedSampler.sample

    def spoilt(sampler, row):
        if sampler.top_logprobs == 3:
            raise ComputeError("its logits are not finite")
        return sample(sampler, row)

    monkeypatch.setattr(ScriptedSampler, "sample", spoilt)
    harness.ask("bad", "one two", params=SamplingParams(top_logprobs=3))
    harness.ask("good", "three four", owner="bob")
    harness.finish()
    assert harness.reason("bad") == "engine_error"
    assert harness.text("good") == "three four"
    assert harness.engine.idle


def test_d7_a_stop_token_ends_the_answer_and_is_no_part_of_it(harness):
    [token] = harness.backend.vocabulary.tokenize(" three", special=False)
    params = SamplingParams(stop_tokens=(token,), top_logprobs=0)
    harness.ask("g", "one two three four", params=params)
    harness.finish()
    [end] = harness.ends("g")
    assert (harness.text("g"), end.reason) == ("one two", "stop")
    assert [one.piece for one in logprobs(harness, "g")] == [b"one", b" two"]


RAW = "<|im_start|>user\n@say so it is<|im_end|>\n<|im_start|>assistant\n"


def complete(harness, id, raw=RAW, *, echo="prompt", prefix="", **params):
    options = PromptOptions(raw=raw, echo=echo)
    request = Generate(id, "ann", (), SamplingParams(**params), prefix, options=options)
    harness.engine.submit(harness.prompts.prepare(request, 0.0))


def test_d10_a_prompt_of_tokens_is_what_its_text_is(harness):
    tokens = harness.backend.vocabulary.tokenize(RAW, special=True)
    complete(harness, "text", echo="")
    complete(harness, "tokens", tuple(tokens), echo="")
    complete(harness, "both", ("<|im_start|>user\n", *tokens[len(tokens) - 12 :]), echo="")
    harness.finish()
    assert harness.text("text") == harness.text("tokens") == "so it is"
    assert harness.ends("text")[0].usage.prompt_tokens == len(tokens)
    with pytest.raises(BadParameters, match="no token"):
        complete(harness, "beyond", (1 << 30,))


def test_d10_an_echo_comes_in_front_of_the_answer(harness):
    complete(harness, "g")
    harness.finish()
    assert harness.text("g") == RAW + "so it is"
    assert harness.ends("g")[0].usage.completion_tokens == 3
    assert logprobs(harness, "g") == []


@pytest.mark.parametrize("cached", [False, True])
def test_d10_an_echo_has_the_log_probability_of_each_token_of_the_prompt(harness, cached):
    tokens = harness.backend.vocabulary.tokenize(RAW, special=True)
    if cached:
        complete(harness, "before", echo="")
        harness.finish()
    complete(harness, "g", top_logprobs=1, max_tokens=1)
    harness.finish()
    found = logprobs(harness, "g")
    assert [one.token for one in found[:-1]] == tokens
    assert math.isnan(found[0].logprob)
    assert all(one.logprob == -0.5 for one in found[1:])
    assert harness.text("g") == RAW + "so"
    # However long the prompt, a step requests the logits of few rows.
    chunks = [chunk for step in harness.backend.chunks for chunk in step if chunk.outputs > 1]
    assert sum(len(chunk.tokens) for chunk in chunks) == len(tokens)
    assert max(len(chunk.tokens) for chunk in chunks) <= 16


@pytest.mark.parametrize("rivals", [None, 0])
def test_d10_an_echo_alone_generates_nothing(harness, rivals):
    complete(harness, "g", echo="only", top_logprobs=rivals)
    harness.finish()
    [end] = harness.ends("g")
    assert (harness.text("g"), end.reason, end.usage.completion_tokens) == (RAW, "length", 0)
    tokens = harness.backend.vocabulary.tokenize(RAW, special=True)
    assert len(logprobs(harness, "g")) == (0 if rivals is None else len(tokens))


def test_d10_an_echo_that_was_published_does_not_come_again(harness):
    complete(harness, "g", prefix=RAW + "so it", top_logprobs=0)
    harness.finish()
    assert harness.text("g") == " is"


def test_d10_the_end_counts_where_a_prompt_is_scored(harness):
    """Scoring a prompt ignores the last token, so there has to be one."""
    complete(harness, "g", RAW.replace("@say so it is", "@tokens 0"), top_logprobs=0, max_tokens=1)
    harness.finish()
    [end] = harness.ends("g")
    assert len(logprobs(harness, "g")) == end.usage.prompt_tokens + 1
