"""No object of a constrained answer has a duplicate key."""

from __future__ import annotations

import json

import numpy as np
import pytest

from chatsite.engine.backends.scripted.backend import ScriptedVocabulary
from chatsite.engine.contract.backend import ConstraintError
from chatsite.engine.contract.messages import OutputSyntax
from chatsite.engine.grammar.json_keys import Keys, behind, keys_of
from chatsite.engine.grammar.schema import to_gbnf
from chatsite.engine.grammar.token_grammar import TokenGrammar, TokenTexts, WorkBudget, compiled
from chatsite.engine.prompting.tool_prompt import behind_reasoning

ANY = to_gbnf({"type": "object"})
VOCABULARY = ScriptedVocabulary()
TEXTS = TokenTexts(VOCABULARY)


@pytest.mark.parametrize(
    "text",
    [
        '{"a": 1, "b": {"a": 1}, "c": [{"a": 1}, {"a": "a"}], "d": "a"}',
        '{"a": ["a", "a"], "b": "{\\"a\\"", "c": {}}',
        '{"a\\"": 1, "a": 2, "a\\\\": 3}',
        '["a", "a", ["a"]]',
    ],
)
def test_t05_keys_of_other_objects_and_values_are_no_repetition(text):
    assert Keys().after(text) is not None
    keys = Keys()
    for one in text:  # in any chunks
        after = keys.after(one)
        assert after is not None
        keys = after


@pytest.mark.parametrize(
    "text",
    [
        '{"a": 1, "a"',
        '{"a": {"b": [1, {"c": 2}]}, "b": 1, "a"',
        '{"a": 1, "\\u0061"',
        '[{"x": 1}, {"y": 1, "y"',
        '{"": 1, ""',
    ],
)
def test_t05_a_repeated_key_is_seen_where_it_ends(text):
    assert Keys().after(text) is None
    assert Keys().after(text[:-1]) is not None


def follow(grammar: str, text: str) -> TokenGrammar:
    budget = WorkBudget()
    found = TokenGrammar(compiled(grammar), VOCABULARY, TEXTS, [], budget)
    for token in VOCABULARY.tokenize(text, special=False):
        budget.begin_step()
        found.accept(token)
    return found


def test_t05_an_answer_of_a_schema_has_no_key_twice():
    grammar = follow(ANY, '{"a": 1, "a')
    (quote,) = VOCABULARY.tokenize('"', special=False)
    (letter,) = VOCABULARY.tokenize("b", special=False)
    assert not grammar.takes(quote)
    assert grammar.takes(letter)
    masked = grammar.masked(np.zeros(VOCABULARY.size, dtype=np.float32))
    assert not np.isfinite(masked[quote])
    with pytest.raises(ConstraintError):
        follow(ANY, '{"a": 1, "a"')


def test_t05_a_grammar_of_a_client_may_have_any_text():
    assert keys_of('root ::= "{" [^}]* "}"') is None


def test_t05_keys_count_from_behind_the_reasoning():
    syntax = OutputSyntax(think_open="<think>", think_close="</think>")
    grammar = behind_reasoning(ANY, syntax)
    follow(grammar, 'A 5" pipe: {"a": 1, "a": 2} </think>\n{"a": 1, "b": 2}')
    with pytest.raises(ConstraintError):
        follow(grammar, 'A 5" pipe </think>{"a": 1, "a"')


def test_marks_may_hold_quotes():
    assert keys_of(behind(ANY, 'end "x"')) == Keys(mark='end "x"')


def test_names_from_a_list_are_each_written_once():
    schema = {"propertyNames": {"enum": ["a", "b"]}, "additionalProperties": {"type": "integer"}}
    automaton = compiled(to_gbnf(schema | {"type": "object"}))
    for value, allowed in (({"a": 1, "b": 2}, True), ({"b": 2}, True), ({"c": 1}, False)):
        state = automaton.walk(automaton.start, json.dumps(value))
        assert (state is not None and state.may_end) == allowed
    assert automaton.walk(automaton.start, '{"a": 1, "a') is None
