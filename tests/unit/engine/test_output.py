"""Reasoning, content and calls in a model's text, however it is cut into pieces."""

from __future__ import annotations

import json
import random
from itertools import pairwise

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
LLAMA = OutputSyntax(tools="llama")
MISTRAL = OutputSyntax("[THINK]", "[/THINK]", "mistral")

Brief = list[tuple[str, ...]]


def brief(events: list[Event]) -> Brief:
    """Kinds and texts, neighbours of a kind joined; calls without their random ids."""
    found: Brief = []
    for event in events:
        match event:
            case Call(call=call):
                number = sum(kind == "call" for kind, *_ in found)
                found.append(("call", str(number), call.name, call.arguments))
            case Reasoning() | Content():
                kind = type(event).__name__.lower()
                if found and found[-1][0] == kind:
                    found[-1] = (kind, found[-1][1] + event.text)
                else:
                    found.append((kind, event.text))
    return found


def parse(*pieces: str, syntax: OutputSyntax, tools: bool = True) -> Brief:
    parser = OutputParser(syntax, tools=tools)
    events = [event for piece in pieces for event in parser.push(piece)]
    return brief(events + parser.finish())


WEATHER = '{"name": "weather", "arguments": {"city": "Zürich"}}'
PARAMETERS = '{"name": "weather", "parameters": {"city": "Zürich"}}'
CALLED = ("call", "0", "weather", '{"city": "Zürich"}')
AGAIN = ("call", "1", "weather", '{"city": "Zürich"}')

CASES: list[tuple[OutputSyntax, str, Brief]] = [
    (HERMES, "Hello <b>you</b>", [("content", "Hello <b>you</b>")]),
    (HERMES, "  indented\n", [("content", "  indented\n")]),
    (HERMES, "<think>\nhm\n</think>\n\nYes.", [("reasoning", "hm"), ("content", "Yes.")]),
    (HERMES, "<think>\n\n</think>\n\nYes.", [("content", "Yes.")]),
    (HERMES, "<think>a < b and </thin", [("reasoning", "a < b and </thin")]),
    (HERMES, "not <think>at</think> the start", [("content", "not <think>at</think> the start")]),
    (HERMES, "<thi", [("content", "<thi")]),
    (HERMES, f"<tool_call>\n{WEATHER}\n</tool_call>", [CALLED]),
    (HERMES, f"Look:\n<tool_call>{WEATHER}</tool_call>\n", [("content", "Look:"), CALLED]),
    (
        HERMES,
        f"<think>x</think>\n<tool_call>{WEATHER}</tool_call>\n<tool_call>{WEATHER}</tool_call>",
        [("reasoning", "x"), CALLED, AGAIN],
    ),
    (HERMES, f"<tool_call>{WEATHER}", [CALLED]),
    (
        HERMES,
        f"<tool_call>{WEATHER}</tool_call> done",
        [CALLED, ("content", "done")],
    ),
    (
        HERMES,
        'a <tool_call>{"name": }</tool_call> b',
        [("content", 'a <tool_call>{"name": }</tool_call> b')],
    ),
    (
        HERMES,
        f'<tool_call>{{"name"</tool_call><tool_call>{WEATHER}</tool_call>',
        [("content", '<tool_call>{"name"</tool_call>'), CALLED],
    ),
    (
        HERMES,
        f'<tool_call>{{"open</tool_call>\n<tool_call>{WEATHER}</tool_call>',
        [("content", '<tool_call>{"open</tool_call>'), CALLED],
    ),
    (
        HERMES,
        '<tool_call>{"name": "say", "arguments": {"text": "</tool_call> is text"}}</tool_call>',
        [("call", "0", "say", '{"text": "</tool_call> is text"}')],
    ),
    (HERMES, '<tool_call>{"name": "now"}</tool_call>', [("call", "0", "now", "{}")]),
    (
        HERMES,
        '<tool_call>{"name": "f", "arguments": {"x": NaN}}</tool_call>',
        [("content", '<tool_call>{"name": "f", "arguments": {"x": NaN}}</tool_call>')],
    ),
    (
        HERMES,
        '<tool_call>{"name": "f", "arguments": "{\\"x\\": 1}"}</tool_call>',
        [("call", "0", "f", '{"x": 1}')],
    ),
    (LLAMA, PARAMETERS, [CALLED]),
    (LLAMA, f"\n<|python_tag|>{PARAMETERS}", [CALLED]),
    (LLAMA, f"{PARAMETERS}; {PARAMETERS}", [CALLED, AGAIN]),
    (LLAMA, f'{{"type": "function", "function": {WEATHER}}}', [CALLED]),
    (LLAMA, '{"answer": 42}', [("content", '{"answer": 42}')]),
    (LLAMA, f"{PARAMETERS} is a call", [("content", f"{PARAMETERS} is a call")]),
    (LLAMA, f"So: {PARAMETERS}", [("content", f"So: {PARAMETERS}")]),
    (LLAMA, "<|python_tag|>search(1)", [("content", "<|python_tag|>search(1)")]),
    (LLAMA, f"Look. <|python_tag|>{PARAMETERS}", [("content", "Look."), CALLED]),
    (MISTRAL, f"[TOOL_CALLS][{WEATHER}, {WEATHER}]", [CALLED, AGAIN]),
    (MISTRAL, f"[TOOL_CALLS] [{WEATHER}]", [CALLED]),
    (MISTRAL, '[TOOL_CALLS]weather{"city": "Zürich"}', [CALLED]),
    (
        MISTRAL,
        (
            '[THINK]hm[/THINK]Well.[TOOL_CALLS]weather[ARGS]{"city": "Zürich"}'
            '[TOOL_CALLS]weather[CALL_ID]abc123def[ARGS]{"city": "Zürich"}'
        ),
        [("reasoning", "hm"), ("content", "Well."), CALLED, AGAIN],
    ),
    (MISTRAL, "[TOOL_CALLS][{]", [("content", "[TOOL_CALLS][{]")]),
    (
        MISTRAL,
        f"[TOOL_CALLS][{WEATHER}] and [TOOL_CALLS]so",
        [CALLED, ("content", "and [TOOL_CALLS]so")],
    ),
]


@pytest.mark.parametrize(("syntax", "text", "expected"), CASES)
def test_a_text_gives_its_events(syntax, text, expected):
    assert parse(text, syntax=syntax) == expected


@pytest.mark.parametrize(("syntax", "text", "expected"), CASES)
def test_cuts_change_nothing(syntax, text, expected):
    for cut in range(len(text) + 1):
        assert parse(text[:cut], text[cut:], syntax=syntax) == expected
    assert parse(*text, syntax=syntax) == expected


@pytest.mark.parametrize("syntax", [HERMES, LLAMA, MISTRAL])
@pytest.mark.parametrize("seed", range(40))
def test_a_mixture_of_pieces_gives_the_same_events_however_it_is_cut(syntax, seed):
    rng = random.Random(seed)
    parts = [
        *("<think>", "</think>", "[THINK]", "[/THINK]", "<tool_call>", "</tool_call>"),
        *("[TOOL_CALLS]", "[ARGS]", "<|python_tag|>", "weather", WEATHER, PARAMETERS),
        *("{", "}", '"', "\\", ";", " ", "\n", "<", "[", "name", "é"),
    ]
    text = "".join(rng.choices(parts, k=rng.randint(1, 14)))
    expected = parse(text, syntax=syntax)
    for _ in range(12):
        cuts = sorted(rng.choices(range(len(text) + 1), k=3))
        bounds = [0, *cuts, len(text)]
        pieces = [text[a:b] for a, b in pairwise(bounds)]
        assert parse(*pieces, syntax=syntax) == expected


@pytest.mark.parametrize(("syntax", "text", "_"), CASES)
def test_without_tools_nothing_is_a_call(syntax, text, _):
    found = parse(text, syntax=syntax, tools=False)
    assert all(kind != "call" for kind, *_ in found)
    said = "".join(part for _, part in found)
    markers = (syntax.think_open, syntax.think_close)
    bare = text
    if text.startswith(markers[0]) and markers[0]:
        bare = text.removeprefix(markers[0]).replace(markers[1], "", 1)
    assert "".join(said.split()) == "".join(bare.split())


def test_text_comes_as_soon_as_it_can_be_no_marker():
    parser = OutputParser(HERMES, tools=True)
    assert parser.push("Hello") == [Content("Hello")]
    assert parser.push(" <tool") == []
    assert parser.push("box>") == [Content(" <toolbox>")]


def test_a_json_answer_is_not_held_back_once_its_first_key_is_none_of_a_call():
    parser = OutputParser(LLAMA, tools=True)
    assert parser.push('{"na') == []
    assert parser.push('tion": "CH"') == [Content('{"nation": "CH"')]


def test_a_call_comes_when_it_is_closed_and_has_an_id_of_its_own():
    parser = OutputParser(HERMES, tools=True)
    text = f"<tool_call>{WEATHER}</tool_call>"
    first, second = parser.push(text)[0], parser.push(text)[0]
    assert isinstance(first, Call)
    assert isinstance(second, Call)
    assert first.call.id.startswith("call_")
    assert first.call.id != second.call.id


def test_half_a_surrogate_pair_does_not_break_the_arguments():
    text = '<tool_call>{"name": "f", "arguments": {"x": "\\ud83d"}}</tool_call>'
    _, _, calls = split(text, HERMES, tools=True)
    assert json.loads(calls[0].arguments) == {"x": "\ud83d"}
    assert calls[0].arguments.encode().isascii()


def test_a_nest_that_is_too_deep_is_content():
    text = "<tool_call>" + '{"name": "f", "arguments": {"x": ' + "[" * 100_000 + "</tool_call>"
    assert parse(text, syntax=HERMES) == [("content", text)]


def test_split_gives_the_whole():
    text = f"<think>hm</think>Look.<tool_call>{WEATHER}</tool_call>"
    reasoning, content, calls = split(text, HERMES, tools=True)
    assert (reasoning, content) == ("hm", "Look.")
    assert [(call.name, call.arguments) for call in calls] == [("weather", '{"city": "Zürich"}')]
    assert split(text, HERMES, tools=False)[2] == ()


@pytest.mark.parametrize(
    ("template", "syntax"),
    [
        ("{{ messages }}", OutputSyntax("", "", "hermes")),
        ("<tool_call> </tool_call>", OutputSyntax("", "", "hermes")),
        ("{{ content.split('</think>') }}<tool_call>", HERMES),
        ("[TOOL_CALLS]", OutputSyntax(tools="mistral")),
        ('{"name": x, "parameters": y} ipython', LLAMA),
        ("[THINK] [/THINK] [TOOL_CALLS]", MISTRAL),
    ],
)
def test_the_template_tells_the_syntax(template, syntax):
    assert syntax_of(template) == syntax
    assert all(marks(syntax))
