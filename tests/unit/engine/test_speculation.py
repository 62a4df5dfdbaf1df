from __future__ import annotations

import pytest

from chatsite.engine.messages import SamplingParams
from chatsite.engine.speculation import MOST, Acceptance, Candidate, Costs, Lookup, choose

CHEAP = Costs(step_ms=10, row_ms=1, pass_ms=0)


class TestLookup:
    def test_what_followed_the_same_three_tokens_is_guessed(self):
        assert Lookup().draft([1, 2, 3, 4, 5, 6, 1, 2, 3], 3) == [4, 5, 6]

    def test_the_last_time_counts(self):
        assert Lookup().draft([1, 2, 3, 4, 1, 2, 3, 9, 1, 2, 3], 2) == [9, 1]

    def test_a_new_end_is_not_guessed_at(self):
        assert Lookup().draft([1, 2, 3, 4, 5], 4) == []
        assert Lookup().draft([1, 2], 4) == []

    def test_a_text_that_repeats_itself_goes_on(self):
        assert Lookup().draft([7, 8, 7, 8, 7, 8], 5) == [7, 8, 7, 8, 7]

    def test_it_learns_what_is_added(self):
        lookup, tokens = Lookup(), [1, 2, 3, 4]
        assert lookup.draft(tokens, 2) == []
        tokens += [1, 2, 3]
        assert lookup.draft(tokens, 2) == [4, 1]

    def test_a_copy_keeps_to_its_source_behind_a_token_that_was_replaced(self):
        """The same words stand in each line; which line is next, the source tells."""
        lookup = Lookup()
        tokens = [token for n in range(5) for token in (100 + n, 1, 2, 3, 4, 5)]
        for token in (100, 1, 2, 9, 4, 5):  # 3 became 9
            tokens.append(token)
            guess = lookup.draft(tokens, 2)
        assert guess == [101, 1]


class TestAcceptance:
    def test_right_guesses_raise_it_and_wrong_ones_lower_it(self):
        good, bad = Acceptance(), Acceptance()
        for _ in range(10):
            good.record(8, 8)
            bad.record(8, 0)
        assert bad.probability < 0.25
        assert good.probability > 0.9

    def test_a_sequence_is_tried_again_in_time(self):
        acceptance = Acceptance()
        for _ in range(10):
            acceptance.record(8, 0)
        for _ in range(300):
            acceptance.record(0, 0)
        assert acceptance.probability > 0.5


class TestChoose:
    def test_cheap_rows_and_likely_guesses_are_taken(self):
        assert choose([Candidate("a", MOST, 0.95)], 1, CHEAP, 100) == {"a": MOST}

    def test_dear_rows_are_not(self):
        costs = Costs(step_ms=10, row_ms=10, pass_ms=0)
        assert choose([Candidate("a", MOST, 0.95)], 1, costs, 100) == {}

    def test_unlikely_guesses_are_not(self):
        assert choose([Candidate("a", MOST, 0.05)], 1, CHEAP, 100) == {}

    def test_all_who_take_part_have_the_same_length(self):
        found = choose([Candidate("a", 16, 0.9), Candidate("b", 5, 0.9)], 2, CHEAP, 100)
        assert len(set(found.values())) == 1

    def test_a_second_pass_counts_against_those_who_guess(self):
        """Eight decode and one could guess: the weights would be read twice."""
        one = [Candidate("a", 16, 0.9)]
        assert choose(one, 8, Costs(80, 1, 0), 100)
        assert choose(one, 8, Costs(80, 1, 60), 100) == {}

    def test_the_rows_that_are_left_bound_it(self):
        found = choose([Candidate(id, 16, 0.99) for id in "abcd"], 4, CHEAP, 9)
        assert sum(found.values()) <= 9


class TestInTheEngine:
    def test_a_guessed_answer_is_the_same_answer_in_fewer_steps(self, harness):
        text = " ".join(f"x{n % 6}" for n in range(120))
        harness.ask("g", f"@say {text}")
        harness.finish()
        assert harness.text("g") == text
        (end,) = harness.ends("g")
        assert end.usage.accepted > 60
        assert len(harness.backend.chunks) < 60

    @pytest.mark.parametrize("limit", [1, 2, 5, 17, 50])
    def test_a_limit_holds_in_the_middle_of_guesses(self, harness, limit):
        text = " ".join(f"x{n % 3}" for n in range(120))
        harness.ask("g", f"@say {text}", params=SamplingParams(max_tokens=limit))
        harness.finish()
        assert harness.text("g").split() == text.split()[:limit]
        assert harness.ends("g")[0].usage.completion_tokens == limit

    def test_wrong_guesses_leave_nothing_in_the_memory(self, harness, monkeypatch):
        monkeypatch.setattr(Lookup, "draft", lambda self, tokens, most: [ord("x")] * most)
        text = " ".join(f"a b c {n}" for n in range(30))
        harness.ask("g", f"@say {text}")
        harness.finish()
        assert harness.text("g") == text
        for slot in harness.engine._slots.slots:
            assert slot.tokens == harness.backend.memory.tokens[slot.index]
        usage = harness.ends("g")[0].usage
        assert usage.drafted > usage.accepted == 0

    def test_memory_that_can_not_be_cut_is_not_guessed_into(self, make_harness):
        harness = make_harness(directives="@forgetful")
        text = " ".join(f"x{n % 6}" for n in range(60))
        harness.ask("g", f"@say {text}")
        harness.finish()
        assert harness.text("g") == text
        assert harness.ends("g")[0].usage.drafted == 0


def test_a_head_that_another_prefills_is_waited_for(harness):
    head = " ".join(f"h{n}" for n in range(400))
    for id in "abc":
        harness.ask(id, f"{head} {id} @tokens 3")
    harness.finish()
    assert [harness.started(id).cached_tokens > 390 for id in "abc"] == [False, True, True]


def test_nobody_waits_for_the_head_of_another_person(harness):
    head = " ".join(f"h{n}" for n in range(400))
    for id in "abc":
        harness.ask(id, f"{head} {id} @tokens 3", owner=id)
    harness.finish()
    assert [harness.started(id).cached_tokens for id in "abc"] == [0, 0, 0]


def test_guesses_keep_a_step_under_the_target():
    assert Costs(step_ms=50, row_ms=5, pass_ms=10).rows_within(200) == 28


def test_a_slow_model_may_take_twice_its_plain_step():
    assert Costs(step_ms=300, row_ms=50, pass_ms=100).rows_within(200) == 4
