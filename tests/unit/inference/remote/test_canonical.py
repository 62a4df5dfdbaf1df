"""Answers of engines as canonical text, parsed again by the parser of all readers."""

from __future__ import annotations

import json
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from chatsite.engine.prompting.output import (
    Call,
    Content,
    Event,
    OutputParser,
    Reasoning,
)
from chatsite.inference.remote.canonical import SEPARATOR, SYNTAX, CanonicalWriter, read

# Text with everything that has a meaning somewhere.
_MARKS = [
    "<think>",
    "</think>",
    "<tool_call>",
    "</tool_call>",
    SEPARATOR,
    '{"name": "f"}',
    "\n",
    " ",
]
_texts = st.lists(st.one_of(st.text(max_size=12), st.sampled_from(_MARKS)), max_size=6).map("".join)
_names = st.from_regex(r"[A-Za-z_][A-Za-z0-9_\-]{0,20}", fullmatch=True)
_arguments = st.dictionaries(
    st.text(max_size=8),
    st.recursive(
        st.one_of(st.none(), st.booleans(), st.integers(-(2**53), 2**53), _texts),
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner),
        max_leaves=6,
    ),
    max_size=4,
)


def cut_up(text: str, data: st.DataObject) -> list[str]:
    places = sorted(data.draw(st.sets(st.integers(0, len(text)), max_size=5)))
    return [text[a:b] for a, b in zip([0, *places], [*places, len(text)], strict=True)]


def written(text: str) -> str:
    """Return what the writer keeps of a text, without the blanks around it."""
    return text.replace(SEPARATOR, "").strip()


def parsed(pieces: list[str], *, cut: bool = False) -> list[Event]:
    parser = OutputParser(SYNTAX, tools=True)
    events = [event for piece in pieces for event in parser.push(piece)]
    return events + parser.finish(cut=cut)


def parts(events: list[Event]) -> tuple[str, str, list[tuple[str, Any]]]:
    return (
        "".join(event.text for event in events if isinstance(event, Reasoning)),
        "".join(event.text for event in events if isinstance(event, Content)),
        [
            (event.call.name, json.loads(event.call.arguments))
            for event in events
            if isinstance(event, Call)
        ],
    )


@settings(max_examples=60)
@given(
    reasoning=_texts,
    content=_texts,
    calls=st.lists(st.tuples(_names, _arguments), max_size=3),
    data=st.data(),
)
def test_readers_find_the_parts_that_the_engine_sent(
    reasoning: str, content: str, calls: list[tuple[str, dict[str, Any]]], data: st.DataObject
) -> None:
    writer = CanonicalWriter()
    pieces = [writer.reasoning(part) for part in cut_up(reasoning, data)]
    if not written(reasoning) and written(content).startswith("<think>"):
        content = "x" + content  # of an engine that leaves reasoning in the content
    pieces += [writer.content(part) for part in cut_up(content, data)]
    fragments = [
        [(index, f"call{index}", name, ""), *((index, "", "", part) for part in parts)]
        for index, (name, given_) in enumerate(calls)
        for parts in [cut_up(json.dumps(given_, ensure_ascii=data.draw(st.booleans())), data)]
    ]
    # Fragments of parallel calls may be interleaved.
    while any(fragments):
        turn = data.draw(st.sampled_from([one for one in fragments if one]))
        writer.call(*turn.pop(0))
    pieces.append(writer.finish(cut=False))
    got_reasoning, got_content, got_calls = parts(parsed(cut_up("".join(pieces), data)))
    hidden = reasoning.replace(SEPARATOR, "").replace("</think>", f"<{SEPARATOR}/think>")
    assert got_reasoning == hidden.strip()
    shown = content.replace(SEPARATOR, "")
    assert got_content.strip() == shown.strip()
    if not written(reasoning) and not calls:
        assert got_content == shown
    assert got_calls == [(name, json.loads(json.dumps(given_))) for name, given_ in calls]


@settings(max_examples=40)
@given(content=_texts, further=_texts, data=st.data())
def test_a_continued_answer_is_read_like_a_whole_one(
    content: str, further: str, data: st.DataObject
) -> None:
    first = CanonicalWriter()
    begun = first.reasoning("Hm.") + first.content("So: " + content)
    second = CanonicalWriter(begun)
    text = begun + "".join(second.content(part) for part in cut_up(further, data))
    text += second.finish(cut=False)
    assert read(text)[:2] == ("Hm.", ("So: " + content + further).replace(SEPARATOR, ""))


def test_malformed_calls_are_content() -> None:
    for name, arguments in [
        ("f", '{"a": '),
        ("f", "[1]"),
        ("f", '{"a": 1} and more'),
        ("", '{"a": 1}'),
        ("f", "NaN"),
        ("f", "[" * 5000),
    ]:
        writer = CanonicalWriter()
        text = writer.content("Let me call.")
        writer.call(0, "a", name, arguments)
        text += writer.finish(cut=False)
        reasoning, content, calls = parts(parsed([text]))
        assert (reasoning, calls) == ("", [])
        assert content.startswith("Let me call.\n<tool_call>\n{")
        assert arguments.strip() in content


def test_a_malformed_call_between_good_ones() -> None:
    writer = CanonicalWriter()
    writer.call(0, "a", "f", "{}")
    writer.call(1, "b", "g", "{")
    writer.call(2, "c", "h", '{"x": 1}')
    _, content, calls = parts(parsed([writer.finish(cut=False)]))
    assert calls == [("f", {}), ("h", {"x": 1})]
    assert '"g"' in content


def test_a_call_in_which_the_answer_was_cut() -> None:
    writer = CanonicalWriter()
    writer.call(0, "a", "f", '{"x": 1}')
    writer.call(1, "b", "g", '{"city": "Ber')
    events = parsed([writer.finish(cut=True)], cut=True)
    calls = [event for event in events if isinstance(event, Call)]
    assert [(one.call.name, one.call.arguments, one.whole) for one in calls] == [
        ("f", '{"x": 1}', True),
        ("g", '{"city": "Ber', False),
    ]


def test_calls_without_index_or_with_the_same_one() -> None:
    """Gemini sends no index, and some servers send 0 with each call."""
    for index in (None, 0):
        writer = CanonicalWriter()
        writer.call(index, "a", "f", "")
        writer.call(index, "", "", '{"x": 1}')
        writer.call(index, "b", "f", '{"x": 2}')
        _, _, calls = parts(parsed([writer.finish(cut=False)]))
        assert calls == [("f", {"x": 1}), ("f", {"x": 2})]


def test_a_name_that_is_repeated_or_sent_in_pieces() -> None:
    writer = CanonicalWriter()
    writer.call(0, "a", "get_", "")
    writer.call(0, "a", "weather", "")
    writer.call(0, "a", "get_weather", '{"x"')
    writer.call(0, "a", "get_weather", ": 1}")
    _, _, calls = parts(parsed([writer.finish(cut=False)]))
    assert calls == [("get_weather", {"x": 1})]


def test_arguments_that_are_json_in_a_string() -> None:
    writer = CanonicalWriter()
    writer.call(0, "a", "f", json.dumps('{"x": 1}'))
    assert parts(parsed([writer.finish(cut=False)]))[2] == [("f", {"x": 1})]


def test_text_that_only_looks_like_a_call_stays_content() -> None:
    writer = CanonicalWriter()
    said = 'Write <tool_call>{"name": "f", "arguments": {}}</tool_call> to call.'
    text = "".join(writer.content(char) for char in said) + writer.finish(cut=False)
    assert parts(parsed([text])) == ("", said, [])


def test_reasoning_in_the_content_of_an_engine_without_a_parser() -> None:
    writer = CanonicalWriter()
    text = writer.content("<think>\nHm.\n</think>\n\nYes.") + writer.finish(cut=False)
    assert read(text)[:2] == ("Hm.", "Yes.")


def test_reasoning_after_content_is_not_lost() -> None:
    writer = CanonicalWriter()
    text = writer.reasoning("a") + writer.content("One.") + writer.reasoning("b")
    text += writer.content("Two.") + writer.finish(cut=False)
    assert read(text)[:2] == ("a", "One.<think>b</think>Two.")


def test_blank_content_does_not_end_the_reasoning() -> None:
    writer = CanonicalWriter()
    text = writer.reasoning("a") + writer.content("\n\n") + writer.reasoning("b")
    text += writer.content("Yes.") + writer.finish(cut=False)
    assert read(text)[:2] == ("a\n\nb", "Yes.")


def test_an_answer_that_is_all_reasoning() -> None:
    for cut in (False, True):
        writer = CanonicalWriter()
        text = writer.reasoning("so it</thi") + writer.finish(cut=cut)
        assert read(text)[:2] == ("so it</thi", "")
        assert read(text).open_reasoning == cut


def test_what_follows_a_text_that_ends_in_the_reasoning() -> None:
    writer = CanonicalWriter("<think>\nHm, ")
    text = "<think>\nHm, " + writer.reasoning("yes") + writer.content("Yes.")
    assert read(text)[:2] == ("Hm, yes", "Yes.")


def test_reasoning_of_a_continued_and_of_a_restarted_answer() -> None:
    """Engines misjudge where the reasoning of a continued answer ended."""
    continued = CanonicalWriter("<think>a</think>One")
    assert continued.reasoning(" two") == " two"
    restarted = CanonicalWriter("<think>a</think>One\n\n", restart=True)
    assert restarted.reasoning("Let me see") == ""
    assert restarted.content("One two") == "One two"


def test_whitespace_that_the_engine_repeats_is_not_doubled() -> None:
    for sent, expected in [
        ([" world"], "Hello world"),
        (["world"], "Hello world"),
        ([" ", " world"], "Hello  world"),
        (["\nworld"], "Hello \nworld"),
    ]:
        writer = CanonicalWriter("Hello ", owed=" ")
        assert "Hello " + "".join(map(writer.content, sent)) == expected
