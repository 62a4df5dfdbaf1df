"""What sampling needs of the loop: log probabilities on their way, requests that are refused."""

from __future__ import annotations

import pytest

from chatsite.engine.backend import ComputeError
from chatsite.engine.messages import Failed, Finished, SamplingParams, Step, TokenLogprob
from chatsite.engine.scripted_backend import ScriptedSampler


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
    assert not any(slot.busy for slot in harness.engine._slots.slots)


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
        if sampler._top == 3:
            raise ComputeError("it gave no finite numbers")
        return sample(sampler, row)

    monkeypatch.setattr(ScriptedSampler, "sample", spoilt)
    harness.ask("bad", "one two", params=SamplingParams(top_logprobs=3))
    harness.ask("good", "three four", owner="bob")
    harness.finish()
    assert harness.reason("bad") == "engine_error"
    assert harness.text("good") == "three four"
    assert harness.engine.idle
