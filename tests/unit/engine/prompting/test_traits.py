"""Conversations of any shape reach the prompt, whatever the template requires."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from functools import cache
from typing import Any

import pytest

from chatsite.engine.contract.messages import ChatMessage, Tool, ToolCall
from chatsite.engine.prompting.jinja import InProcess
from chatsite.engine.prompting.output import split
from chatsite.engine.prompting.template import CHATML, ChatTemplate
from tests.support import templates

S1, S2 = ChatMessage("system", "Be brief."), ChatMessage("system", "Speak Latin.")
U1, U2 = ChatMessage("user", "Salve!"), ChatMessage("user", "Quid novi?")
A1, A2 = ChatMessage("assistant", "Salvete."), ChatMessage("assistant", "Nihil.")
EMPTY = ChatMessage("assistant", "")
TOOL = Tool("weather", "Tells it.", {"type": "object", "properties": {"city": {"type": "string"}}})
ROME, OSLO = (
    ToolCall(f"call_{city}", "weather", json.dumps({"city": city})) for city in ("Rome", "Oslo")
)
CALL = ChatMessage("assistant", "", tool_calls=(ROME,))
BOTH = ChatMessage("assistant", "", tool_calls=(ROME, OSLO))
SUN = ChatMessage("tool", "sunny", tool_call_id="call_Rome", tool_name="weather")
SNOW = ChatMessage("tool", "snowy", tool_call_id="call_Oslo", tool_name="weather")

ALL = {
    name: text
    for name, text in {**vars(templates), "CHATML": CHATML}.items()
    if name.isupper() and not name.startswith("_")
}
SHAPES = {
    "two questions": (U1, U2),
    "a system message in the middle": (U1, A1, S1, U2),
    "two system messages": (S1, S2, U1),
    "system messages in two places": (S1, U1, A1, S2, U2),
    "a greeting first": (A1, U1),
    "a greeting behind a system message": (S1, A1, U1),
    "two answers": (U1, A1, A2, U2),
    "an empty answer": (U1, EMPTY, U2),
    "only a system message": (S1,),
    "only system messages": (S1, S2),
    "a call": (U1, CALL, SUN),
    "a call in an earlier turn": (S1, U1, CALL, SUN, A1, U2),
    "a question right behind a result": (U1, CALL, SUN, U2),
    "parallel calls": (U1, BOTH, SUN, SNOW),
    "parallel calls in an earlier turn": (U1, BOTH, SNOW, SUN, A1, U2),
    "a result without a call": (U1, SUN, U2),
    "a call without a result": (U1, CALL, U2),
}


@cache
def loaded(name: str) -> ChatTemplate:
    return ChatTemplate(ALL[name])


@pytest.mark.parametrize("template", ALL)
@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("tools", [(), (TOOL,)])
def test_t41_t42_t43_t48_t49_no_message_is_refused_or_lost(template, shape, tools):
    messages = SHAPES[shape]
    text = loaded(template).render(messages, tools)
    for message in messages:
        assert message.content in text
        assert all(json.loads(call.arguments)["city"] in text for call in message.tool_calls)
    assert all(tool.description in text for tool in tools)


def test_t41_neighbours_of_one_role_are_joined_where_turns_must_alternate():
    template = ChatTemplate(templates.ALTERNATING)
    assert template.render([U1, U2]) == ("<turn>user\nSalve!\n\nQuid novi?</turn>\n<turn>model\n")
    assert template.render([A1, U1]).startswith("<turn>user\n...</turn>\n<turn>model\nSalvete.")
    # Nothing is changed if the template accepts them.
    assert ChatTemplate(CHATML).render([U1, U2]).count("<|im_start|>user") == 2


def test_t42_parallel_calls_become_turns_each_with_its_result():
    text = ChatTemplate(templates.ONE_CALL).render([U1, BOTH, SNOW, SUN], [TOOL])
    assert text.index('"Rome"') < text.index("sunny") < text.index('"Oslo"') < text.index("snowy")


@pytest.mark.parametrize("name", ["LAST_SYSTEM", "FIRST_SYSTEM", "FOLDING", "HARMONY"])
def test_t43_system_messages_are_joined_in_front(name):
    text = loaded(name).render([S1, S2, U1])
    assert "Be brief.\n\nSpeak Latin." in text
    assert text.index("Latin") < text.index("Salve")


@pytest.mark.parametrize("name", ["ONE_CALL", "PAIRS", "UNKNOWN", "HARMONY"])
def test_t44_a_template_has_its_tools_if_its_own_calls_can_be_read(name):
    template = ChatTemplate(ALL[name])
    assert template.knows_tools
    text = template.render([U1, CALL, SUN], [TOOL])
    assert "You may call functions" not in text
    # The call that the template renders is parsed back to the same call.
    answer = re.split(r"<\|assistant\|>|<\|start\|>assistant", text)[1]
    written = re.split(r"<\|end\|>|<\|tool\|>", answer)[0]
    schemas = {TOOL.name: TOOL.parameters}
    _, _, calls = split(written, template.syntax, tools=True, schemas=schemas)
    assert [(one.name, one.arguments) for one in calls] == [(ROME.name, ROME.arguments)]


def test_t44_tools_of_unreadable_calls_are_described_in_words():
    python = templates.PAIRS.replace("<arg_key>{{ key }}</arg_key>", "let {{ key }} be")
    template = ChatTemplate(python)
    assert not template.knows_tools
    text = template.render([U1], [TOOL])
    assert "You may call functions" in text
    assert TOOL.description in text


def test_t45_tools_reach_the_model_where_the_template_only_names_them():
    named = ChatTemplate(CHATML + "{# tools <tool_call> </tool_call> #}")
    assert not named.knows_tools
    assert TOOL.description in named.render([U1], [TOOL])
    assert TOOL.description in ChatTemplate(templates.XML_TOOLS).render([U1], [TOOL])


def test_t46_unknown_marks_are_found_by_rendering():
    template = ChatTemplate(templates.UNKNOWN)
    syntax = template.syntax
    assert (syntax.think_open, syntax.think_close) == ("<|ponder|>", "<|/ponder|>")
    assert (syntax.tools, syntax.call_open, syntax.call_close) == ("marked", "<|do|>", "<|done|>")
    assert {"<|ponder|>", "<|/ponder|>", "<|do|>", "<|done|>"} <= set(template.marks)
    text = '<|ponder|>hm<|/ponder|>So:<|do|>[{"name": "f", "arguments": {"a": 1}}]<|done|>'
    reasoning, content, [call] = split(text, syntax, tools=True)
    assert (reasoning, content, call.arguments) == ("hm", "So:", '{"a": 1}')


@pytest.mark.parametrize(
    ("text", "syntax"),
    [
        ("thoughts in <seed:think> and </seed:think>", ("<seed:think>", "</seed:think>", "", "")),
        ("◁think▷ ◁/think▷", ("◁think▷", "◁/think▷", "", "")),
        (
            "<|START_THINKING|><|END_THINKING|><|START_RESPONSE|><|END_RESPONSE|>",
            ("<|START_THINKING|>", "<|END_THINKING|>", "<|START_RESPONSE|>", "<|END_RESPONSE|>"),
        ),
        (
            "Write thoughts in <think></think> and the answer in <response></response>.",
            ("<think>", "</think>", "<response>", "</response>"),
        ),
    ],
)
def test_t46_marks_in_the_templates_text(text, syntax):
    found = ChatTemplate(CHATML + f"{{# {text} #}}").syntax
    marks = (found.think_open, found.think_close, found.answer_open, found.answer_close)
    assert marks == syntax


def test_t46_a_mark_that_ends_the_prompt_opens_reasoning():
    opens = CHATML.replace("assistant\n'", "assistant\n<think>\n'")
    syntax = ChatTemplate(opens).syntax
    assert (syntax.think_open, syntax.think_close) == ("<think>", "</think>")


def test_contents_are_parts_where_the_template_reads_parts():
    assert ChatTemplate(templates.PARTS).render([U1]) == "<|user|>Salve!<|assistant|>"


def test_t40_harmony_is_prompted_as_it_was_trained():
    template = ChatTemplate(templates.HARMONY)
    assert template.syntax.tools == "harmony"
    thought = ChatMessage("assistant", "", "Ask.", (ROME,))
    text = template.render([S1, U1, thought, SUN, A1, U2], [TOOL], effort="high")
    assert "Reasoning: high" in text
    assert (
        "<|channel|>analysis<|message|>Ask.<|end|><|start|>assistant to=functions.weather"
        '<|channel|>commentary json<|message|>{"city": "Rome"}<|call|>'
        '<|start|>functions.weather to=assistant<|channel|>commentary<|message|>"sunny"<|end|>'
        "<|start|>assistant<|channel|>final<|message|>Salvete.<|end|>"
    ) in text
    assert text.endswith("<|start|>assistant")
    assert "Reasoning: medium" in template.render([U1])
    assert "Reasoning: low" in template.render([U1], effort="minimal")
    assert "Reasoning: high" in template.render([U1], effort="xhigh")


def test_t40_reasoning_and_text_of_a_call_that_exclude_each_other():
    both = ChatMessage("assistant", "Let me see.", "Ask.", (ROME,))
    text = ChatTemplate(templates.HARMONY).render([U1, both, SUN], [TOOL])
    assert '{"city": "Rome"}' in text


def test_arguments_that_are_no_object_are_rendered():
    for arguments in ("", "null", "[1]", '"Oslo"', "broken {", "{}"):
        strange = ChatMessage("assistant", "", tool_calls=(ToolCall("c", "weather", arguments),))
        for name in ("PAIRS", "UNKNOWN", "ONE_CALL"):
            assert "sunny" in loaded(name).render([U1, strange, SUN], [TOOL])


def test_all_probes_together_are_bounded():
    slow = "{% for m in messages %}{{ m.content }}{% endfor %}"
    rendered = []

    class Slow(InProcess):
        def render(self, template: str, variables: Mapping[str, Any], limit: int) -> str:
            rendered.append(template)
            return super().render(template, variables, limit)

    # Each of its renderings takes one second.
    template = ChatTemplate(slow, renderer=Slow(), clock=lambda: float(rendered.count(slow)))
    assert template.problem == "its probes took more than 8 s"
    assert template.source == "fallback"
    assert rendered.count(slow) == 9


def test_a_base_model_continues_the_text_of_the_messages():
    template = ChatTemplate(None, base=True)
    assert (template.source, template.problem, template.stops) == ("none", "", ())
    assert template.render([U1, A1, U2]) == "Salve!Salvete.\n\nQuid novi?"
