"""Grammars, and answers constrained by them token by token."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
import pytest

from chatsite.engine.backends.scripted.backend import ScriptedVocabulary
from chatsite.engine.contract.backend import BadParameters, ConstraintError
from chatsite.engine.contract.messages import SamplingParams
from chatsite.engine.grammar.automaton import Automaton, WorkExceeded
from chatsite.engine.grammar.gbnf import parse
from chatsite.engine.grammar.token_grammar import (
    POOL_WORK,
    STEP_WORK,
    TokenGrammar,
    TokenTexts,
    WorkBudget,
    automaton_of,
    compiled,
)


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
def test_texts_that_a_grammar_accepts(grammar, good, bad):
    assert [accepts(grammar, text) for text in good] == [True] * len(good)
    assert [accepts(grammar, text) for text in bad] == [False] * len(bad)


@pytest.mark.parametrize(
    ("grammar", "reason"),
    [
        ("", "`root`"),
        ("no such thing", "expected `::=`"),
        ("root ::= (", "expected `[)]`"),
        ('root ::= "a', "unterminated"),
        ("root ::= [a", "unterminated"),
        ("root ::= [z-a]", "range is reversed"),
        ('root ::= "\\q"', "not a valid character escape"),
        ("root ::= *", "nothing to repeat before `[*]`"),
        ('root ::= "a"{3,2}', "maximum is below"),
        ('root ::= "a"{1000000000}', "limited to"),
        ('root ::= "a"{', "limited to"),
        ("root ::= other", "undefined rule `other`"),
        ('rot ::= "x"', "`root`"),
        ('root ::= "a" )', "line 1"),
        ('root ::= root "x"', "left-recursive"),
        ('root ::= y root "b" | "a"\ny ::= x\nx ::= ""', "left-recursive"),
        ('root ::= ("a"?){2} root | "b"', "left-recursive"),
        ("root ::= " + "(" * 20_000 + '"x"' + ")" * 20_000, "deep"),
        ("root ::= " + "a " * 250_000 + '\na ::= "x"', "parts"),
    ],
)
def test_what_is_not_supported_is_refused_with_a_reason(grammar, reason):
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
    assert automaton.work < 200_000


def test_alternatives_that_begin_alike_cost_once():
    automaton = Automaton(parse(chain(40, 'a{0} ::= a{1} "x" | a{1} "y"')))
    assert automaton.walk(automaton.start, "x" + "xy" * 20) is not None
    assert automaton.work < 5_000


def test_a_grammar_that_is_too_ambiguous_is_given_up():
    rules = 'a{0} ::= a{1} "x" | b{0}\nb{0} ::= a{1} "y"'
    with pytest.raises(BadParameters, match="ambiguous"):
        compiled(chain(40, rules))
    later = Automaton(parse('root ::= s | t\ns ::= "x" s "y" | "x" t\nt ::= "x" s "z" | "x"'))
    with pytest.raises(WorkExceeded):
        later.walk(later.start, "x" * 60)


@pytest.mark.parametrize(
    "grammar",
    [
        'root ::= "a" root',
        'root ::= "a" other\nother ::= "b" other | "c" root',
        'root ::= ("a" root)+',
        'root ::= "a" []',
    ],
)
def test_t06_a_grammar_whose_texts_never_end_is_refused(grammar):
    with pytest.raises(BadParameters, match="no finite text"):
        compiled(grammar)


def test_t06_alternatives_that_never_end_are_left_out():
    grammar = 'root ::= "a" | "b" endless | "c" endless* endless?\nendless ::= "x" endless'
    automaton = compiled(grammar)
    assert [automaton.walk(automaton.start, one) is not None for one in "abc"] == [
        True,
        False,
        True,
    ]
    assert automaton.walk(automaton.start, "cx") is None


def h4(rules: int) -> str:
    empty = " | ".join(['""'] * rules)
    return f"root ::= r{{0,90000}}\nr ::= {' | '.join(['[a-z] e'] * rules)}\ne ::= {empty}"


def distinct(rules: int) -> str:
    """Return equivalent alternatives with different texts."""
    empties = "\n".join(f'e{n} ::= "" | "x{n}"' for n in range(rules))
    choice = " | ".join(f"[a-z] e{n}" for n in range(rules))
    return f"root ::= r{{0,90000}}\nr ::= {choice}\n{empties}"


HOSTILE = {
    "h4": h4(300),
    "h4 with distinct rules": distinct(300),
    "pushes": "root ::= r*\nr ::= "
    + " | ".join(f"[a-z] e{n}" for n in range(300))
    + "".join(f"\ne{n} ::= " + " | ".join(f"f{m}?" for m in range(300)) for n in range(300))
    + "".join(f'\nf{m} ::= "{m}"' for m in range(300)),
    "binary": 'root ::= s | t\ns ::= "a" s "b" | "a" t\nt ::= "a" s "x" | "a"',
    "counted": "root ::= ((([a-z]{0,50}){0,50}){0,50}){0,50}",
    "counted pairs": 'root ::= ([a-z] | [a-z] [a-z]){0,90000} "."',
    "nullable": "root ::= ((([a-z]?)*)*)*",
    "nested": "root ::= " + "(" * 90 + "[a-z]" + "*)" * 90,
    "hollow rounds": 'root ::= (("a"? "b"?){0,90000} [a-z]){0,90000}',
    "wide": "root ::= (" + " | ".join(f"[a-z] [{chr(97 + n % 26)}-z] x{n}" for n in range(500))
    + ")*" + "".join(f'\nx{n} ::= [a-z]{{{n}}}' for n in range(500)),
    "deep": 'root ::= "(" root ")" | [a-z] root | "."',
}  # fmt: skip


@pytest.mark.parametrize("name", HOSTILE)
def test_h4_no_grammar_works_beyond_its_budget_in_a_step(name):
    """All work counts, including pushes, and an exhausted budget ends the answer."""
    vocabulary = Vocabulary([b"a", b"b", b"ab", b"abab", b"q", b".", b""])
    try:
        automaton = compiled(HOSTILE[name])
    except BadParameters:
        return
    counted = counting(automaton)
    budget = WorkBudget()
    grammar = TokenGrammar(automaton, vocabulary, TokenTexts(vocabulary), [], budget, "mallory")
    for _ in range(200):
        budget.begin_step()
        before = counted.looks
        try:
            grammar.masked(np.zeros(len(vocabulary.pieces), dtype=np.float32))
            grammar.accept(0)
        except ConstraintError:
            break
        finally:
            assert counted.looks - before <= STEP_WORK + POOL_WORK


class Counted:
    looks = 0


def counting(automaton: Automaton) -> Counted:
    """Count the actual work: the stacks that the automaton creates or looks up."""
    counted = Counted()
    original = automaton.interned

    def interned(*arguments):
        counted.looks += 1
        return original(*arguments)

    automaton.interned = interned  # type: ignore[method-assign]
    return counted


def test_h4_the_answers_of_one_owner_share_a_budget():
    vocabulary = Vocabulary(PIECES)
    texts, budget = TokenTexts(vocabulary), WorkBudget()
    automaton = Automaton(parse(HOSTILE["binary"]))
    answers = [TokenGrammar(automaton, vocabulary, texts, [], budget, "mallory") for _ in range(8)]
    other = TokenGrammar(compiled('root ::= "a"* "b"'), vocabulary, texts, [], budget, "bob")
    failed = set[int]()
    for _ in range(300):
        budget.begin_step()
        before = automaton.work
        for number, answer in enumerate(answers):
            if number not in failed:
                try:
                    answer.accept(A)
                except ConstraintError:
                    failed.add(number)
        assert automaton.work - before <= STEP_WORK + POOL_WORK + 100
        other.accept(A)
    assert failed == set(range(8))
    assert other.takes(B)


def test_b9_a_state_far_from_likely_tokens_costs_little():
    """None of the likeliest tokens is allowed; the search uses the grammar's next characters."""
    words = [f"{a}{b}{c}".encode() for a in LETTERS for b in LETTERS for c in LETTERS]
    vocabulary = Vocabulary([*words, b"1", b"12", b"123", b"7", "数".encode(), b""])
    automaton = compiled("root ::= [0-9]+ | [一-龥]")
    grammar = TokenGrammar(automaton, vocabulary, TokenTexts(vocabulary), [])
    logits = np.zeros(vocabulary.size, dtype=np.float32)
    logits[: len(words)] = 9
    before = automaton.work
    masked = grammar.masked(logits)
    assert set(np.flatnonzero(np.isfinite(masked))) == {len(words) + n for n in range(5)}
    assert automaton.work - before < 2_000


LETTERS = "abcdefghijklmnopqrst"


def test_b9_a_wide_state_takes_the_likeliest_allowed_tokens():
    words = [f"{a}{b}{c}".encode() for a in LETTERS for b in LETTERS for c in LETTERS]
    other = [f"{n}".encode() for n in range(3000)]
    vocabulary = Vocabulary([*words, *other, b""])
    automaton = compiled("root ::= [a-z]+")
    grammar = TokenGrammar(automaton, vocabulary, TokenTexts(vocabulary), [])
    logits = np.zeros(vocabulary.size, dtype=np.float32)
    logits[len(words) :] = 9
    logits[1234] = 1
    assert int(grammar.masked(logits).argmax()) == 1234
    assert automaton.work < STEP_WORK


def test_t02_thousands_of_alternatives_are_few_stacks():
    values = [f"value-{n:05}" for n in range(5_000)]
    automaton = Automaton(parse("root ::= " + " | ".join(f'"{one}"' for one in values)))
    for one in values[::613]:
        state = automaton.walk(automaton.start, one)
        assert state is not None
        assert state.may_end
    assert automaton.walk(automaton.start, "value-05000") is None
    assert automaton.work < 1_000


def test_automata_are_kept_by_size(monkeypatch):
    monkeypatch.setattr("chatsite.engine.grammar.token_grammar.KEPT_SIZE", 2_000)
    large = [
        "root ::= " + " | ".join(f'"{n * 7919 % 10_007:05}{m}xyz{n}"' for n in range(150))
        for m in range(3)
    ]
    first = compiled(large[0])
    assert compiled(large[0]) is first
    assert 700 < first.size < 2_000
    for one in large[1:]:
        compiled(one)
    assert compiled(large[0]) is not first


def test_stored_states_are_bounded():
    automaton = Automaton(parse('root ::= [a-z]{0,90000} "."'))
    state = automaton.start
    for _ in range(12_000):
        found = automaton.walk(state, "ab")
        assert found is not None
        state = found
        automaton.limit = automaton.work + 1_000
    assert automaton.stored <= 30_100


@dataclass
class Vocabulary(ScriptedVocabulary):
    """Token IDs are indices into ``pieces``; the last one is the end token."""

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
    found = TokenGrammar(compiled(grammar), vocabulary, TokenTexts(vocabulary), answer)
    assert found.ready()
    return found


def left(grammar: TokenGrammar, logits: Sequence[float] | None = None) -> set[int]:
    values = np.asarray(logits if logits is not None else range(len(PIECES)), dtype=np.float32)
    return {int(token) for token in np.flatnonzero(np.isfinite(grammar.masked(values)))}


@pytest.mark.parametrize("tried", [256, 0], ids=["the likeliest", "all"])
def test_disallowed_tokens_are_masked(monkeypatch, tried):
    monkeypatch.setattr("chatsite.engine.grammar.token_grammar.FIRST_TRIED", tried or 1)
    # With one tried, the likeliest is the end token, which is allowed only at the end.
    grammar = start('root ::= "ab" "c"? "ü"')
    assert left(grammar) == {A, AB, ABC}
    grammar.accept(AB)
    assert left(grammar) == {UE, FIRST}
    grammar.accept(FIRST)
    assert left(grammar) == {SECOND}
    grammar.accept(SECOND)
    assert left(grammar) == {END}
    grammar.accept(END)


def test_pieces_of_characters_that_lead_nowhere_are_not_taken():
    grammar = start("root ::= [一-龥]+")
    assert not grammar.takes(FIRST)  # begins characters up to U+00FF only
    assert not grammar.takes(SECOND)
    assert not grammar.takes(NOTHING)


def test_t02_a_token_that_is_not_taken_is_an_error_not_an_end():
    grammar = start('root ::= "ab"')
    with pytest.raises(ConstraintError):
        grammar.accept(X)
    assert grammar.takes(AB)


def test_t02_a_grammar_that_no_token_can_follow_is_an_error_not_an_end():
    grammar = start('root ::= "a" "%"')
    grammar.accept(A)
    with pytest.raises(ConstraintError, match="no token of this model"):
        left(grammar)


def test_an_allowed_but_banned_token_is_an_error():
    with pytest.raises(ConstraintError, match="logit_bias"):
        left(start('root ::= "x"'), [-np.inf if n == X else 0.0 for n in range(len(PIECES))])


def test_an_answer_continues_after_an_earlier_attempt():
    assert left(start('root ::= "ab" "x"', [A, B])) == {X}
    with pytest.raises(BadParameters, match="so far"):
        start('root ::= "ab"', [B])


def test_an_earlier_attempt_is_read_over_several_steps():
    vocabulary, budget = Vocabulary(PIECES), WorkBudget()
    automaton = Automaton(parse('root ::= "a"{20000} "x"'))
    grammar = TokenGrammar(automaton, vocabulary, TokenTexts(vocabulary), [A] * 20_000, budget)
    steps = 0
    while not grammar.ready():
        before = automaton.work
        budget.begin_step()
        steps += 1
        assert automaton.work - before <= STEP_WORK + POOL_WORK
    assert steps > 1
    assert grammar.takes(X)


def test_banned_tokens_stay_banned_while_others_are_allowed():
    grammar = start('root ::= "a" | "ab"')
    logits = [0.0] * len(PIECES)
    logits[A] = -np.inf
    assert left(grammar, logits) == {AB}


def test_t02_an_exhausted_budget_is_an_error_not_an_end():
    grammar = start(HOSTILE["binary"].replace('"x"', '"c"'))
    with pytest.raises(ConstraintError, match="ambiguous"):
        accept_many(grammar, A, 100)


def accept_many(grammar: TokenGrammar, token: int, times: int) -> None:
    for _ in range(times):
        grammar.accept(token)


def test_schemas_and_grammars_of_parameters():
    assert automaton_of(SamplingParams()) is None
    schema = SamplingParams(json_schema={"type": "object"})
    assert automaton_of(schema) is automaton_of(SamplingParams(json_schema={"type": "object"}))
    with pytest.raises(BadParameters):
        automaton_of(SamplingParams(grammar="root ::= ("))
