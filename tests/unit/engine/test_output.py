from __future__ import annotations

import json

import pytest

from chatsite.engine.messages import OutputSyntax
from chatsite.engine.output import (
    Call,
    Content,
    Event,
    OutputParser,
    Reasoning,
    marks,
    split,
    syntax_of,
)

HERMES = OutputSyntax("<think>", "</think>", "hermes")
LLAMA = OutputSyntax("", "", "llama")
MISTRAL = OutputSyntax("", "", "mistral")
WEATHER = '{"name": "weather", "arguments": {"city": "Köln"}}'
TIME = '{"name": "time", "arguments": {}}'

# Syntax, text, then reasoning, content, and names of the calls.
ANSWERS = [
    (HERMES, "plain text", "", "plain text", []),
    (HERMES, "<think>\nhm\n</think>\n\nyes", "hm", "yes", []),
    (HERMES, "<think>only this", "only this", "", []),
    (HERMES, "say <think>no</think>", "", "say <think>no</think>", []),
    (HERMES, f"<tool_call>\n{WEATHER}\n</tool_call>", "", "", ["weather"]),
    (HERMES, f"<tool_call>{WEATHER}</tool_call>\n<tool_call>{TIME}</tool_call>", "", "",
     ["weather", "time"]),
    (HERMES, f"<think>x</think>I look.<tool_call>{TIME}</tool_call>", "x", "I look.", ["time"]),
    (HERMES, f"<tool_call>{TIME}", "", "", ["time"]),
    (HERMES, "<tool_call>{broken</tool_call> so", "", "<tool_call>{broken</tool_call>so", []),
    (HERMES, "a <b> c </tool_call> <tool", "", "a <b> c </tool_call> <tool", []),
    (LLAMA, '{"name": "time", "parameters": {"zone": "UTC"}}', "", "", ["time"]),
    (LLAMA, f"<|python_tag|>{TIME}; {WEATHER}", "", "", ["time", "weather"]),
    (LLAMA, '{"a": 1} is JSON', "", '{"a": 1} is JSON', []),
    (LLAMA, "text {", "", "text {", []),
    (MISTRAL, f"[TOOL_CALLS][{WEATHER}, {TIME}]", "", "", ["weather", "time"]),
    (MISTRAL, '[TOOL_CALLS]time[ARGS]{"zone": 1}', "", "", ["time"]),
    (MISTRAL, 'Well. [TOOL_CALLS]time{"zone": 1}', "", "Well. ", ["time"]),
    (MISTRAL, "[TOOL_CALLS] oops", "", "[TOOL_CALLS] oops", []),
    (OutputSyntax(), f"<think>a</think><tool_call>{TIME}</tool_call>", "",
     f"<think>a</think><tool_call>{TIME}</tool_call>", []),
]  # fmt: skip


def read(events: list[Event]) -> tuple[str, str, list[tuple[str, str]]]:
    return (
        "".join(event.text for event in events if isinstance(event, Reasoning)),
        "".join(event.text for event in events if isinstance(event, Content)),
        [(e.call.name, e.call.arguments) for e in events if isinstance(e, Call)],
    )


@pytest.mark.parametrize(("syntax", "text", "reasoning", "content", "names"), ANSWERS)
def test_answers_are_read_however_they_are_cut(syntax, text, reasoning, content, names):
    whole = OutputParser(syntax, tools=True)
    expected = read(whole.push(text) + whole.finish())
    assert (expected[0], expected[1], [name for name, _ in expected[2]]) == (
        reasoning,
        content,
        names,
    )
    for cut in range(len(text) + 1):
        parser = OutputParser(syntax, tools=True)
        events = parser.push(text[:cut]) + parser.push(text[cut:]) + parser.finish()
        assert read(events) == expected
    letters = OutputParser(syntax, tools=True)
    events = [event for letter in text for event in letters.push(letter)]
    assert read(events + letters.finish()) == expected


def test_arguments_are_the_text_of_an_object_and_ids_differ():
    _, _, calls = split(f"<tool_call>{WEATHER}</tool_call>" * 2, HERMES, tools=True)
    assert [json.loads(call.arguments) for call in calls] == [{"city": "Köln"}] * 2
    assert calls[0].id != calls[1].id


def test_without_tools_nothing_is_a_call():
    text = f"<tool_call>{TIME}</tool_call>"
    assert split(text, HERMES, tools=False) == ("", text, ())


def test_plain_text_is_held_back_no_longer_than_a_mark_may_need():
    parser = OutputParser(HERMES, tools=True)
    assert read(parser.push("Hello <"))[1] == "Hello "
    assert read(parser.push("b>"))[1] == "<b>"


@pytest.mark.parametrize(
    ("template", "syntax"),
    [
        ("{{ messages }}", OutputSyntax("", "", "hermes")),
        ("<tool_call> </tool_call>", OutputSyntax("", "", "hermes")),
        ("{{ content.split('</think>') }}<tool_call>", HERMES),
        ("[TOOL_CALLS]", MISTRAL),
        ('{"name": x, "parameters": y} ipython', LLAMA),
        ("[THINK] [/THINK] [TOOL_CALLS]", OutputSyntax("[THINK]", "[/THINK]", "mistral")),
    ],
)
def test_the_template_tells_the_syntax(template, syntax):
    assert syntax_of(template) == syntax
    assert all(marks(syntax))
