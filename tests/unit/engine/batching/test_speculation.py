from __future__ import annotations

from dataclasses import dataclass

import pytest

from chatsite.engine.batching.speculation import (
    MOST,
    Acceptance,
    Candidate,
    PromptLookupDrafter,
    choose,
)
from chatsite.engine.contract.messages import SamplingParams


@dataclass(frozen=True)
class Line:
    """A pass costs ``first`` ms for one row, and ``more`` for each further one."""

    first: float
    more: float

    def rows_ms(self, rows: int) -> float:
        return self.first + (rows - 1) * self.more


CHEAP = Line(first=10, more=1)


def guess(id: str, length: int, probability: float) -> Candidate:
    return Candidate.of(id, [probability**n for n in range(1, length + 1)])


def chosen(
    candidates: list[Candidate],
    decoding: int,
    costs: Line = CHEAP,
    *,
    rows: int = 100,
    target_ms: float = 200,
) -> dict[str, int]:
    return choose(candidates, decoding, costs, rows=rows, target_ms=target_ms)


class TestLookup:
    def test_tokens_that_followed_the_same_three_tokens_are_guessed(self):
        assert PromptLookupDrafter().draft([1, 2, 3, 4, 5, 6, 1, 2, 3], 3) == [4, 5, 6]

    def test_the_last_time_counts(self):
        assert PromptLookupDrafter().draft([1, 2, 3, 4, 1, 2, 3, 9, 1, 2, 3], 2) == [9, 1]

    def test_a_new_end_is_not_guessed_at(self):
        assert PromptLookupDrafter().draft([1, 2, 3, 4, 5], 4) == []
        assert PromptLookupDrafter().draft([1, 2], 4) == []

    def test_a_repeating_text_is_guessed_beyond_its_end(self):
        assert PromptLookupDrafter().draft([7, 8, 7, 8, 7, 8], 5) == [7, 8, 7, 8, 7]

    def test_it_learns_added_tokens(self):
        lookup, tokens = PromptLookupDrafter(), [1, 2, 3, 4]
        assert lookup.draft(tokens, 2) == []
        tokens += [1, 2, 3]
        assert lookup.draft(tokens, 2) == [4, 1]

    def test_a_copy_follows_its_source_after_a_replaced_token(self):
        """Every line has the same words; only the source says which line is next."""
        lookup = PromptLookupDrafter()
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
        assert bad.odds(1)[0] < 0.25
        assert good.odds(8)[7] > 0.8

    def test_the_last_ones_count_most(self):
        acceptance = Acceptance()
        for _ in range(10):
            acceptance.record(8, 0)
        for _ in range(40):
            acceptance.record(1, 1)
        assert acceptance.odds(1)[0] > 0.7

    def test_a_repeated_form_is_wrong_in_the_same_places(self):
        """Three words of each line are the same, the fourth is not."""
        acceptance = Acceptance()
        for _ in range(10):
            acceptance.record(8, 3)
        one, two, three, four = acceptance.odds(4)
        assert one > two > three > 0.7
        assert four < 0.2


class TestChoose:
    def test_cheap_rows_and_likely_guesses_are_taken(self):
        assert chosen([guess("a", MOST, 0.95)], 1) == {"a": MOST}

    def test_expensive_rows_are_not_taken(self):
        assert chosen([guess("a", MOST, 0.95)], 1, Line(10, 10)) == {}

    def test_unlikely_guesses_are_not_taken(self):
        assert chosen([guess("a", MOST, 0.05)], 1) == {}

    def test_all_participants_have_the_same_length(self):
        found = chosen([guess("a", 16, 0.9), guess("b", 5, 0.9)], 2)
        assert len(set(found.values())) == 1

    def test_a_second_pass_counts_against_guessing(self):
        """Eight decode and one could guess: the weights would be read twice."""
        one = [guess("a", 16, 0.9)]
        assert chosen(one, 1)
        assert chosen(one, 8) == {}

    def test_an_unlikely_one_takes_part_where_it_saves_the_second_pass(self):
        likely, unlikely = guess("a", 2, 0.95), guess("b", 2, 0.5)
        assert chosen([unlikely, likely], 2, Line(40, 3)).keys() == {"a", "b"}
        assert chosen([unlikely, likely], 3, Line(10, 3)).keys() <= {"a"}

    def test_the_rows_that_are_left_bound_it(self):
        found = chosen([guess(id, 16, 0.99) for id in "abcd"], 4, rows=9)
        assert sum(found.values()) <= 9

    def test_guesses_keep_a_step_under_half_of_the_target(self):
        found = chosen([guess("a", 16, 0.99)], 1, Line(25, 10), target_ms=150)
        assert found == {"a": 4}

    def test_a_slow_model_may_take_twice_its_plain_step(self):
        found = chosen([guess("a", 16, 0.99)], 1, Line(300, 60), target_ms=200)
        assert found == {"a": 4}


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
        monkeypatch.setattr(
            PromptLookupDrafter, "draft", lambda self, tokens, most: [ord("x")] * most
        )
        text = " ".join(f"a b c {n}" for n in range(30))
        harness.ask("g", f"@say {text}")
        harness.finish()
        assert harness.text("g") == text
        for slot in harness.engine.slots:
            assert slot.tokens == harness.backend.memory.tokens[slot.index]
        usage = harness.ends("g")[0].usage
        assert usage.drafted > usage.accepted == 0

    def test_unprofitable_guesses_still_update_their_acceptance(self, harness):
        """The harness's clock does not show the cost of rows, so the test sets it."""
        harness.engine.speed.learn(1, 10.0)
        for rows in range(2, 18):
            harness.engine.speed.learn(rows, 1000.0)
        text = " ".join(f"x{n % 6}" for n in range(120))
        harness.ask("g", f"@say {text}")
        for _ in range(60):
            harness.engine.step()
        (sequence,) = harness.engine.sequences.values()
        assert sequence.drafted == 0
        assert sequence.acceptance.odds(1)[0] > 0.9

    def test_without_truncation_nothing_is_guessed(self, make_harness):
        harness = make_harness(directives="@forgetful")
        text = " ".join(f"x{n % 6}" for n in range(60))
        harness.ask("g", f"@say {text}")
        harness.finish()
        assert harness.text("g") == text
        assert harness.ends("g")[0].usage.drafted == 0


def test_a_head_that_another_sequence_prefills_is_waited_for(harness):
    head = " ".join(f"h{n}" for n in range(400))
    for id in "abc":
        harness.ask(id, f"{head} {id} @tokens 3")
    harness.finish()
    assert [harness.started(id).cached_tokens > 390 for id in "abc"] == [False, True, True]


def test_no_sequence_waits_for_the_head_of_another_user(harness):
    head = " ".join(f"h{n}" for n in range(400))
    for id in "abc":
        harness.ask(id, f"{head} {id} @tokens 3", owner=id)
    harness.finish()
    assert [harness.started(id).cached_tokens for id in "abc"] == [0, 0, 0]
