"""Which texts match a query, and which parts are highlighted."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from chatsite.search.find import snippet
from chatsite.text_terms import PART_CHARS, parse, parts, sequence, terms


def marked(query: str, text: str) -> list[str] | None:
    """Return the highlighted parts; check that the index agrees."""
    parsed = parse(query)
    spans = parsed.find(text)
    if spans is None:
        return None
    have = terms(text)
    assert parsed.whole <= have
    assert all(any(term.startswith(prefix) for term in have) for prefix in parsed.prefixes)
    return [text[start:end] for start, end in spans]


@pytest.mark.parametrize(
    ("query", "text", "expected"),
    [
        ("数据库", "我们的数据库很慢", ["数据库"]),
        ("数据", "我们的数据库很慢", ["数据"]),
        ("慢", "我们的数据库很慢", ["慢"]),
        ("库", "我们的数据库很慢", ["库"]),
        ("据数", "我们的数据库很慢", None),
        ("数据库 慢", "我们的数据库很慢", ["数据库", "慢"]),
        ("用Python写", "请用 Python 写一个", ["用 Python 写"]),
        ("python", "请用Python写一个", ["Python"]),
        ("ｐｙｔｈｏｎ", "请用Python写一个", ["Python"]),
        ("サーバ", "このサーバーは", ["サーバ"]),
        ("カ", "ガ", None),
        ("resume", "Mein Résumé, kurz", ["Résumé"]),
        ("strasse", "Die Straße", ["Straße"]),
        ("RED", "red green blue", ["red"]),
        ("red blu", "red green blue", ["red", "blu"]),
        ("blu red", "red green blue", None),
        ("blu ", "red green blue", None),
        ('"green blue"', "red green blue", ["green blue"]),
        ('"red blue"', "red green blue", None),
        ('"green bl', "red green blue", ["green bl"]),
        ("“green”", "red green blue", ["green"]),
        ("foo_bar", "call foo_bar() or foo.bar, not foo and bar", ["foo_bar", "foo.bar"]),
        ("3.14", "pi is 3.14159", ["3.14"]),
        ("art", "smart party", None),
        ("a" * 60, "x " + "a" * 60, ["a" * 60]),
        ("café", "cafe\u0301 noir", ["cafe\u0301"]),
        ("ﬁne", "so ﬁne", ["ﬁne"]),
    ],
)
def test_matching_texts_are_found(query: str, text: str, expected: list[str] | None) -> None:
    assert marked(query, text) == expected


@pytest.mark.parametrize(
    "query",
    ["", "   ", '"', '""', "*", "' OR 1=1 --", "NEAR(", "a AND", "(", "-", "!:|&", "\\", "😀"],
)
def test_no_query_is_an_error(query: str) -> None:
    assert not parse(query).find("some text")


def test_a_query_without_a_word_asks_for_nothing() -> None:
    assert parse(' "*" ').patterns == ()


def test_a_long_text_is_indexed_to_its_last_word() -> None:
    text = "字" * (PART_CHARS - 1) + "最后" + "字" * PART_CHARS + " end"
    pieces = list(parts(text))
    assert len(pieces) == 3
    assert any("最后" in piece for piece in pieces)
    assert "end" in terms(pieces[-1])


def test_snippets_are_pieces_of_one_line() -> None:
    text = "one " * 40 + "\n\n**needle** in\na needle stack " + "more " * 60
    spans = parse("needle").find(text)
    assert spans
    pieces = snippet(text, spans)
    assert pieces[0].startswith("…one ")
    assert pieces[1::2] == ["needle", "needle"]
    assert pieces[0].endswith(" **")
    assert pieces[-1].endswith("…")
    assert "\n" not in "".join(pieces)
    assert snippet("needle", [(0, 6)]) == ["", "needle", ""]


@given(st.text(st.characters(max_codepoint=127)))
def test_text_without_accents_has_the_same_terms_alone_and_in_mixed_text(text: str) -> None:
    """ASCII is found in a faster way."""
    assert [*sequence(text), "字"] == sequence(f"{text} 字")
    assert terms(text) | {"字"} == terms(f"{text} 字")
