"""Token counts of prompts that have not been sent yet."""

from __future__ import annotations

import pytest

from chatsite.engine.backends.scripted.backend import ScriptedVocabulary
from chatsite.engine.contract.backend import BadParameters
from chatsite.engine.contract.messages import ChatMessage, CountTokens, Generate, PromptOptions
from chatsite.engine.prompting.prompt import PromptBuilder
from chatsite.engine.prompting.template import CHATML, ChatTemplate
from chatsite.engine.token_counts import NAMED_MAX, Meter

VOCABULARY = ScriptedVocabulary()
PROMPTS = PromptBuilder(ChatTemplate(CHATML), VOCABULARY, 64)
TALK = (
    ChatMessage("system", "be kind"),
    ChatMessage("user", "one two"),
    ChatMessage("assistant", "three"),
    ChatMessage("user", "four"),
)


def test_a_prompt_is_measured_as_it_will_be_sent():
    options = PromptOptions(administered=1)
    measured = Meter(VOCABULARY).measure(PROMPTS, CountTokens("m", TALK, options))
    prompt = PROMPTS.prepare(Generate("g", "ann", TALK, options=options), 0.0)
    assert (measured.prompt, measured.head) == (prompt.prompt_tokens, prompt.shared)
    assert 0 < measured.head < measured.prompt


def test_one_longer_than_the_context_is_measured_too():
    long = (ChatMessage("user", "word " * 500),)
    assert Meter(VOCABULARY).measure(PROMPTS, CountTokens("m", long)).prompt > 500


def test_texts_are_counted_by_themselves_and_once(monkeypatch):
    meter = Meter(VOCABULARY)
    request = CountTokens("m", texts=("one two three", "", "<|im_end|>"))
    first = meter.measure(PROMPTS, request)
    assert (first.prompt, first.head) == (0, 0)
    assert first.texts == (3, 0, 1)
    monkeypatch.setattr(VOCABULARY, "tokenize", None)
    assert meter.measure(PROMPTS, request) == first


def test_d13_tokens_and_their_pieces_are_returned():
    meter = Meter(VOCABULARY)
    raw = PromptOptions(raw="<|im_start|>one two")
    found = meter.measure(None, CountTokens("m", options=raw, ids=True, pieces=True))
    assert found.prompt == len(found.tokens) == len(found.pieces)
    assert found.tokens == tuple(VOCABULARY.tokenize("<|im_start|>one two", special=True))
    assert b"".join(found.pieces) == b"one two"
    plain = meter.measure(None, CountTokens("m", options=raw, ids=True, special=False))
    assert found.tokens[0] not in plain.tokens
    back = PromptOptions(raw=plain.tokens)
    told = meter.measure(None, CountTokens("m", options=back, pieces=True))
    assert b"".join(told.pieces) == b"<|im_start|>one two"
    for wrong in (-1, 1 << 30):
        with pytest.raises(BadParameters, match="no token"):
            meter.measure(None, CountTokens("m", options=PromptOptions(raw=(wrong,))))


def test_d13_a_model_of_vectors_has_no_conversations():
    with pytest.raises(BadParameters, match="no chat template"):
        Meter(VOCABULARY).measure(None, CountTokens("m", TALK))


def test_more_tokens_than_a_host_decodes_between_two_frames_are_counted_but_not_named():
    raw = PromptOptions(raw=(97,) * (NAMED_MAX + 1))
    meter = Meter(VOCABULARY)
    assert meter.measure(None, CountTokens("m", options=raw)).prompt == NAMED_MAX + 1
    for ids in (True, False):
        with pytest.raises(BadParameters, match="split it"):
            meter.measure(None, CountTokens("m", options=raw, ids=ids, pieces=not ids))
