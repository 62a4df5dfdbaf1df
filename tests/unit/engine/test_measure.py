"""Tokens of what is not sent yet."""

from __future__ import annotations

from chatsite.engine.measure import Meter
from chatsite.engine.messages import ChatMessage, Generate, Measure, PromptOptions
from chatsite.engine.prompt import PromptBuilder
from chatsite.engine.scripted_backend import ScriptedVocabulary
from chatsite.engine.template import CHATML, ChatTemplate

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
    measured = Meter(VOCABULARY).measure(PROMPTS, Measure("m", TALK, options))
    prompt = PROMPTS.prepare(Generate("g", "ann", TALK, options=options), 0.0)
    assert (measured.prompt, measured.head) == (prompt.prompt_tokens, prompt.shared)
    assert 0 < measured.head < measured.prompt


def test_one_longer_than_the_context_is_measured_too():
    long = (ChatMessage("user", "word " * 500),)
    assert Meter(VOCABULARY).measure(PROMPTS, Measure("m", long)).prompt > 500


def test_texts_are_counted_by_themselves_and_once(monkeypatch):
    meter = Meter(VOCABULARY)
    request = Measure("m", texts=("one two three", "", "<|im_end|>"))
    first = meter.measure(PROMPTS, request)
    assert (first.prompt, first.head) == (0, 0)
    assert first.texts == (3, 0, 1)
    monkeypatch.setattr(meter, "_vocabulary", None)
    assert meter.measure(PROMPTS, request) == first
