"""Reasoning, content and calls in a model's text, however it is split."""

from __future__ import annotations

import json
import random
from itertools import pairwise
from pathlib import Path

import msgspec
import pytest

from chatsite.engine.contract.messages import OutputSyntax
from chatsite.engine.prompting import call_body
from chatsite.engine.prompting.harmony import FORCED
from chatsite.engine.prompting.output import (
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
    """Return kinds and texts, with neighbours of a kind joined, and calls without random IDs."""
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


# The page's parser is tested with the same cases.
SHARED = json.loads((Path(__file__).parents[3] / "cases/output.json").read_text())


@pytest.mark.parametrize("case", SHARED, ids=lambda case: case["name"])
def test_t40_t44_t46_t47_marks_of_many_families_are_read_however_the_text_is_cut(case):
    syntax = msgspec.convert(case["syntax"], OutputSyntax)
    expected = (case["reasoning"], case["content"], case["calls"])

    def read(*pieces: str) -> tuple[str, str, list[dict[str, object]]]:
        parser = OutputParser(syntax, tools=True)
        events = [event for piece in pieces for event in parser.push(piece)] + parser.finish()
        reasoning = "".join(event.text for event in events if isinstance(event, Reasoning))
        content = "".join(event.text for event in events if isinstance(event, Content))
        calls = [event.call for event in events if isinstance(event, Call)]
        called = [{"name": one.name, "arguments": json.loads(one.arguments)} for one in calls]
        return reasoning, content, called

    text = case["text"]
    assert read(text) == expected
    assert read(*text) == expected
    for cut in range(len(text)):
        assert read(text[:cut], text[cut:]) == expected


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


def test_a_call_is_emitted_when_closed_and_has_a_unique_id():
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
def test_the_template_determines_the_syntax(template, syntax):
    assert syntax_of(template) == syntax
    assert all(marks(syntax))


HARMONY = OutputSyntax("<|channel|>analysis<|message|>", "<|end|>", "harmony")
SCHEMAS = {"weather": {"type": "object", "properties": {"code": {"type": "string"}}}}
Cut = tuple[list[tuple[str, str, bool]], str]


def cut(text: str, syntax: OutputSyntax, *, forced: str = "") -> Cut:
    """Return the calls and the content of an answer truncated by its token limit."""
    parser = OutputParser(syntax, tools=True, schemas=SCHEMAS)
    events = parser.push(text) + parser.finish(cut=True, forced=forced)
    calls = [(e.call.name, e.call.arguments, e.whole) for e in events if isinstance(e, Call)]
    return calls, "".join(event.text for event in events if isinstance(event, Content))


@pytest.mark.parametrize(
    ("syntax", "text", "calls"),
    [
        (HERMES, '<tool_call>\n{"name": "weather", "arguments": {"city": "O', '{"city": "O'),
        (
            HERMES,
            '<tool_call>\n{"name": "weather", "arguments": {"city": "Oslo"}',
            '{"city": "Oslo"}',
        ),
        (HERMES, '<tool_call>\n{"name": "weather", "argum', ""),
        (HERMES, "<tool_call>weather<arg_key>a</arg_key><arg_value>1</arg_value><arg_k", '{"a": 1'),
        (
            HERMES,
            "<tool_call><function=weather><parameter=code>\n12\n</parameter>",
            '{"code": "12"',
        ),
        (LLAMA, '{"name": "weather", "parameters": {"city": "O', '{"city": "O'),
        (LLAMA, '<|python_tag|>{"name": "weather", "parameters": {"c', '{"c'),
        (MISTRAL, '[TOOL_CALLS][{"name": "weather", "arguments": {"city": "O', '{"city": "O'),
        (MISTRAL, '[TOOL_CALLS]weather[ARGS]{"city": "O', '{"city": "O'),
        (
            HARMONY,
            '<|channel|>commentary to=functions.weather <|constrain|>json<|message|>{"city": "O',
            '{"city": "O',
        ),
        (
            HARMONY,
            f'{FORCED}{{"name": "weather", "arguments": {{"city": "O',
            '{"city": "O',
        ),
    ],
)
@pytest.mark.parametrize("forced", ["", "*", "weather"])
def test_d5_a_call_that_was_cut_has_the_arguments_so_far(syntax, text, calls, forced):
    assert cut(text, syntax, forced=forced) == ([("weather", calls, False)], "")


@pytest.mark.parametrize("syntax", [HERMES, LLAMA, MISTRAL, HARMONY])
@pytest.mark.parametrize("size", range(40))
def test_d5_a_forced_call_never_shows_its_marks(syntax, size):
    texts = {
        "hermes": '<tool_call>\n{"name": "weather", "arguments": {}}',
        "llama": '{"name": "weather", "parameters": {"city": 1}}',
        "mistral": '[TOOL_CALLS][{"name": "weather", "arguments": {}}]',
        "harmony": "<|channel|>commentary to=functions.weather <|constrain|>json<|message|>{}",
    }
    calls, content = cut(texts[syntax.tools][:size], syntax, forced="weather")
    assert content == ""
    assert [name for name, *_ in calls] == ["weather"]
    _, content = cut(texts[syntax.tools][:size], syntax, forced="*")
    assert content == ""


def test_d5_calls_before_a_truncated_one_are_complete():
    first = '<tool_call>{"name": "weather", "arguments": {}}</tool_call>'
    calls, content = cut(f"{first}\n{first[:40]}", HERMES)
    assert calls[0] == ("weather", "{}", True)
    assert [whole for *_, whole in calls] == [True, False]
    assert content == ""


def test_d5_json_that_calls_nothing_stays_content():
    assert cut('{"name": "Bob", "age": 4', LLAMA) == ([], '{"name": "Bob", "age": 4')
    assert cut("All right, I wi", HERMES) == ([], "All right, I wi")
    mention = "So <tool_call> is a mark, and"
    assert cut(mention, HERMES) == ([], mention)
    assert cut("<think>I could", HERMES, forced="weather") == ([], "")


def test_a_call_that_ended_by_itself_is_not_guessed():
    parser = OutputParser(HERMES, tools=True)
    text = '<tool_call>{"name": "weather", "argum'
    events = parser.push(text) + parser.finish()
    assert brief(events) == [("content", text)]


@pytest.mark.parametrize(
    ("begun", "value"),
    [
        ('{"a": 1, "b": "x', {"a": 1, "b": "x"}),
        ('{"a": 1, "b', {"a": 1}),
        ('{"a": [1, {"c": tr', {"a": [1, {}]}),
        ('{"a": {"b": "\\"}', {"a": {"b": '"}'}}),
        ('{"a": 1}', {"a": 1}),
        ("{", {}),
        ("", {}),
        ("nonsense", {}),
        ("[" * 5000, {}),
    ],
)
def test_d5_arguments_as_far_as_they_go_are_an_object(begun, value):
    assert call_body.closed(begun) == value


def test_t44_values_without_quotes_have_the_type_of_the_schema():
    text = (
        "<tool_call>weather\n<arg_key>code</arg_key>\n<arg_value>0047</arg_value>\n"
        "<arg_key>days</arg_key>\n<arg_value>3</arg_value>\n</tool_call>"
    )
    _, _, [call] = split(text, HERMES, tools=True, schemas=SCHEMAS)
    assert json.loads(call.arguments) == {"code": "0047", "days": 3}
