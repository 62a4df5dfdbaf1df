"""`PromptOptions.context`: prompt and answer together keep to the request's own bound."""

from __future__ import annotations

import pytest

from chatsite.engine.contract.messages import (
    ChatMessage,
    Generate,
    PromptOptions,
    SamplingParams,
)
from chatsite.engine.prompting.prompt import ContextExceeded, Prompt, PromptBuilder
from chatsite.engine.prompting.template import CHATML, ChatTemplate
from tests.unit.engine.prompting.test_prompt_options import VOCABULARY


def prepare(bound: int, *, max_tokens: int | None = None, raw: str | None = None, **more) -> Prompt:
    builder = PromptBuilder(ChatTemplate(CHATML), VOCABULARY, 4096)
    options = PromptOptions(context=bound, raw=raw)
    params = SamplingParams(max_tokens=max_tokens)
    messages = (ChatMessage("user", "Hello there"),)
    return builder.prepare(Generate("g", "ann", messages, params, options=options, **more), 0.0)


@pytest.mark.parametrize("raw", [None, "Once upon a time"])
def test_the_answer_gets_what_the_prompt_leaves(raw: str | None) -> None:
    prompt = prepare(100, raw=raw)
    assert prompt.params.max_tokens == 100 - prompt.prompt_tokens
    assert prepare(100, max_tokens=7, raw=raw).params.max_tokens == 7
    assert prepare(0, raw=raw).params.max_tokens is None
    assert prepare(9999, raw=raw).params.max_tokens is None  # the model's context is smaller


@pytest.mark.parametrize("raw", [None, "Once upon a time"])
def test_a_prompt_above_the_bound_is_refused_with_both_figures(raw: str | None) -> None:
    with pytest.raises(ContextExceeded) as caught:
        prepare(3, raw=raw)
    assert caught.value.limited
    assert caught.value.details["context"] == 3
    assert caught.value.details["prompt_tokens"] > 3


def test_tokens_of_an_earlier_attempt_count_and_those_of_a_continued_answer_do_not() -> None:
    rest = prepare(100).params.max_tokens or 0
    written = len(VOCABULARY.tokenize("a b c", special=False))
    assert prepare(100, prefix="a b c", generated=written).params.max_tokens == rest
    assert prepare(100, prefix="a b c").params.max_tokens == rest - written


def test_an_attempt_that_has_used_the_bound_up_ends_at_once() -> None:
    rest = prepare(100).params.max_tokens or 0
    assert prepare(100, prefix="a " * rest, generated=rest).params.max_tokens == rest
    assert prepare(100, prefix="a " * rest).params.max_tokens == 0
