"""Grammars, and answers that keep to them token by token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest

from chatsite.engine.automaton import Automaton, TooAmbiguous
from chatsite.engine.backend import BadParameters
from chatsite.engine.gbnf import parse
from chatsite.engine.messages import SamplingParams
from chatsite.engine.scripted_backend import ScriptedVocabulary
from chatsite.engine.token_grammar import TokenGrammar, TokenTexts, automaton_of, compiled


def chain(length: int, rule: str) -> str:
    rules = [rule.format(number, number + 1) for number in range(length)]
    return "\n".join(["root ::= a0", *rules, f'a{length} ::= "x"'])


def accepts(grammar: str, text: str) -> bool:
    automaton = Automaton(parse(grammar))
    state = automaton.walk(automaton.start, text)
    return state is not None and state.may_end


@pytest.mark.parametrize(
    ("grammar", "good", "bad"),
    [
        ('root ::= "a" | "b" "c"', ["a", "bc"], ["", "ab", "b"]),
        ('root ::= x*\nx ::= "ab"', ["", "abab"], ["aba"]),
        ('root ::= "ab"* "c"', ["c", "ababc"], ["abbc"]),
        ('root ::= ("a" | "b")+ "c"? # end', ["ab", "bc"], ["c", "acc"]),
        ("root ::= [a-c]{2} [^x-z\\n]{1,2} .{0,}", ["abq", "ccqq\n"], ["ab", "abx", "a"]),
        ('root ::= ("a"{2}){2,3}', ["aaaa", "aaaaaa"], ["aa", "aaaaa", "aaaaaaaa"]),
        ('root ::= (("a"*)*)* "b"', ["b", "aaab"], ["a"]),
        ('root ::= ""', [""], ["a"]),
        ('root ::= "\\x41\\u00fc\\U0001F600\\"\\\\" [\\]\\-]', ['Aü😀"\\]'], ["A"]),
        ('root ::= (\n  "a" |\n  "b"\n)\n\n# a note\nother ::= root\n', ["a", "b"], [""]),
        ("root ::= [一-龥]+", ["你好"], ["a", "你a"]),
        ('root ::= "(" root ")" | "."', ["((.))", "."], ["((.)", "()"]),
    ],
)
def test_what_a_grammar_takes(grammar, good, bad):
    assert [accepts(grammar, text) for text in good] == [True] * len(good)
    assert [accepts(grammar, text) for text in bad] == [False] * len(bad)


@pytest.mark.parametrize(
    ("grammar", "reason"),
    [
        ("", "`root`"),
        ("no such thing", "`::=` is expected"),
        ("root ::= (", "`[)]` is expected"),
        ('root ::= "a', "ends within"),
        ("root ::= [a", "ends within"),
        ("root ::= [z-a]", "ends before"),
        ('root ::= "\\q"', "no character"),
        ("root ::= *", "nothing in front"),
        ('root ::= "a"{3,2}', "ends before"),
        ('root ::= "a"{1000000000}', "numbers up to"),
        ('root ::= "a"{', "numbers up to"),
        ("root ::= other", "no rule `other`"),
        ('rot ::= "x"', "`root`"),
        ('root ::= "a" )', "line 1"),
        ('root ::= root "x"', "begins with itself"),
        ('root ::= y root "b" | "a"\ny ::= x\nx ::= ""', "begins with itself"),
        ('root ::= ("a"?){2} root | "b"', "begins with itself"),
        ("root ::= " + "(" * 20_000 + '"x"' + ")" * 20_000, "deep"),
        ("root ::= " + "a " * 250_000 + '\na ::= "x"', "parts"),
    ],
)
def test_what_can_not_be_followed_is_refused_with_a_reason(grammar, reason):
    with pytest.raises(BadParameters, match=reason):
        parse(grammar)


@pytest.mark.parametrize(
    "grammar",
    [
        chain(60, "a{0} ::= a{1} | a{1}"),
        chain(6000, "a{0} ::= a{1}"),
        "root ::= " + '"x" ' * 40_000,
        "root ::= " + "a " * 400 + '\na ::= "x"?',
        'root ::= "x"{100000}',
    ],
    ids=["visits", "chain", "long", "empty", "times"],
)  # fmt: skip
def test_large_grammars_are_followed_in_bounded_work(grammar):
    automaton = Automaton(parse(grammar))
    automaton.walk(automaton.start, "x" * 30)
    assert automaton.work < 100_000


def test_a_grammar_that_is_too_ambiguous_is_given_up():
    with pytest.raises(BadParameters, match="ambiguous"):
        compiled(chain(40, 'a{0} ::= a{1} "x" | a{1} "y"'))
    later = Automaton(parse('root ::= s\ns ::= "x" s "y" | "x" s "z" | "x"'))
    with pytest.raises(TooAmbiguous):
        later.walk(later.start, "x" * 60)


@dataclass
class Vocabulary(ScriptedVocabulary):
    """Tokens are the places of ``pieces``; the last one is the end."""

    pieces: Sequence[bytes] = field(default_factory=list)

    @property
    def size(self) -> int:
        return len(self.pieces)

    @property
    def ends(self) -> frozenset[int]:  # type: ignore[override]
        return frozenset({len(self.pieces) - 1})

    def piece(self, token: int) -> bytes:
        return self.pieces[token]


PIECES = [
    b"a",
    b"b",
    b"ab",
    b"abc",
    b"ba",
    "ü".encode(),
    b"\xc3",
    b"\xbc",
    b"\xc3\xbcb",
    b"",
    b"x",
    b"",
]
A, B, AB, ABC, BA, UE, FIRST, SECOND, UEB, NOTHING, X, END = range(len(PIECES))  # fmt: skip


def start(grammar: str, answer: Sequence[int] = ()) -> TokenGrammar:
    vocabulary = Vocabulary(PIECES)
    return TokenGrammar(compiled(grammar), vocabulary, TokenTexts(vocabulary), answer)


def left(grammar: TokenGrammar, logits: Sequence[float] | None = None) -> set[int]:
    values = np.asarray(logits if logits is not None else range(len(PIECES)), dtype=np.float32)
    return {int(token) for token in np.flatnonzero(np.isfinite(grammar.masked(values)))}


@pytest.mark.parametrize("tried", [256, 0], ids=["the likeliest", "all"])
def test_what_can_not_stand_is_masked(monkeypatch, tried):
    monkeypatch.setattr("chatsite.engine.token_grammar._FIRST_TRIED", tried or 1)
    # With one tried, the likeliest is the last: an end, which is taken only at the end.
    grammar = start('root ::= "ab" "c"? "ü"')
    assert left(grammar) == {A, AB, ABC}
    assert grammar.accept(AB)
    assert left(grammar) == {UE, FIRST}
    assert grammar.accept(FIRST)
    assert left(grammar) == {SECOND}
    assert grammar.accept(SECOND)
    assert left(grammar) == {END}
    assert grammar.accept(END)


def test_pieces_of_characters_that_lead_nowhere_are_not_taken():
    grammar = start("root ::= [一-龥]+")
    assert not grammar.takes(FIRST)  # begins characters up to U+00FF only
    assert not grammar.takes(SECOND)
    assert not grammar.takes(NOTHING)


def test_a_refused_token_ends_it():
    grammar = start('root ::= "ab"')
    assert not grammar.accept(X)
    assert not grammar.takes(AB)
    assert left(grammar) == {END}  # nothing else is left to say


def test_an_answer_goes_on_behind_an_earlier_attempt():
    assert left(start('root ::= "ab" "x"', [A, B])) == {X}
    with pytest.raises(BadParameters, match="so far"):
        start('root ::= "ab"', [B])


def test_barred_tokens_stay_barred_while_others_can_stand():
    grammar = start('root ::= "a" | "ab"')
    logits = [0.0] * len(PIECES)
    logits[A] = -np.inf
    assert left(grammar, logits) == {AB}


def test_a_token_has_a_budget_of_work():
    grammar = start('root ::= s\ns ::= "a" s "b" | "a" s "x" | "a"')
    taken = 0
    while grammar.accept(A):
        taken += 1
    assert 3 < taken < 50
    assert left(grammar) == {END}


def test_schemas_and_grammars_of_parameters():
    assert automaton_of(SamplingParams()) is None
    schema = SamplingParams(json_schema={"type": "object"})
    assert automaton_of(schema) is automaton_of(SamplingParams(json_schema={"type": "object"}))
    with pytest.raises(BadParameters):
        automaton_of(SamplingParams(grammar="root ::= ("))
