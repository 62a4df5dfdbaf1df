from __future__ import annotations

from queue import SimpleQueue

import pytest

from chatsite.engine.batching.loop import MAX_FAULTS, Item
from chatsite.engine.contract.backend import Decoded
from chatsite.engine.contract.messages import (
    Cancel,
    ChatMessage,
    Failed,
    Finished,
    SamplingParams,
    Started,
    Stats,
    Step,
)


def test_an_answer_streams_and_ends(harness):
    harness.ask("g", "one two three")
    harness.finish()
    assert harness.text("g") == "one two three"
    assert isinstance(harness.frames[0], Started)
    (end,) = harness.ends("g")
    assert end is [frame for frame in harness.frames if not isinstance(frame, Stats)][-1]
    assert (end.reason, end.usage.completion_tokens) == ("stop", 3)
    assert end.usage.queue_ms > 0
    assert end.usage.prefill_ms > 0
    assert end.usage.decode_ms > 0


def test_all_text_of_a_step_is_in_one_frame(harness):
    for number in range(8):
        harness.ask(str(number), f"@tokens 20 {number}", owner=str(number))
    harness.finish()
    steps = [frame for frame in harness.frames if isinstance(frame, Step)]
    assert max(len(step.deltas) for step in steps) == 8
    for number in range(8):
        assert harness.text(str(number)) == " ".join(f"w{n + 1}" for n in range(20))
        assert harness.reason(str(number)) == "stop"


def test_a_ninth_waits_for_a_slot_and_then_runs(harness):
    for number in range(9):
        harness.ask(str(number), "@tokens 5", owner=str(number))
    harness.steps(2)
    assert len([frame for frame in harness.frames if isinstance(frame, Started)]) == 8
    harness.finish()
    assert harness.text("8") == "w1 w2 w3 w4 w5"


def test_characters_that_cross_tokens_come_whole(harness):
    harness.ask("g", "größe 你好 😀")
    harness.finish()
    deltas = [d for f in harness.frames if isinstance(f, Step) for d in f.deltas]
    assert "".join(delta.text for delta in deltas) == "größe 你好 😀"
    assert all("\ufffd" not in delta.text for delta in deltas)
    assert sum(delta.tokens for delta in deltas) == harness.ends("g")[0].usage.completion_tokens


def test_a_stop_string_ends_the_answer_before_itself(harness):
    harness.ask("g", "alpha beta gamma delta", params=SamplingParams(stop=("ta ga",)))
    harness.finish()
    assert harness.text("g") == "alpha be"
    assert harness.reason("g") == "stop"


def test_max_tokens_is_the_length(harness):
    harness.ask("g", "@tokens 50", params=SamplingParams(max_tokens=3))
    harness.finish()
    assert harness.text("g") == "w1 w2 w3"
    assert harness.reason("g") == "length"
    assert harness.ends("g")[0].usage.completion_tokens == 3


def test_a_held_back_beginning_of_a_stop_string_is_shown_at_the_end(harness):
    harness.ask("g", "one two", params=SamplingParams(stop=("two three",)))
    harness.finish()
    assert harness.text("g") == "one two"


def test_the_end_of_the_context_is_the_length(make_harness):
    harness = make_harness(context=64)
    harness.ask("g", "@tokens 500")
    harness.finish()
    assert harness.reason("g") == "length"
    end = harness.ends("g")[0]
    assert end.usage.prompt_tokens + end.usage.completion_tokens == 64


def test_ignore_eos_continues_to_max_tokens(harness):
    harness.ask("g", "one two", params=SamplingParams(max_tokens=6, ignore_eos=True))
    harness.finish()
    assert harness.ends("g")[0].usage.completion_tokens == 6


class TestCancel:
    def test_it_takes_effect_before_the_next_step(self, harness):
        harness.ask("g", "@tokens 50")
        harness.ask("h", "@tokens 5")
        harness.steps(3)
        shown = harness.text("g")
        harness.engine.cancel("g")
        harness.finish()
        assert harness.text("g") == shown
        assert shown
        assert harness.reason("g") == "cancelled"
        assert harness.reason("h") == "stop"

    def test_a_queued_request_is_cancelled_too(self, make_harness):
        harness = make_harness(slots=1)
        harness.ask("g", "@tokens 50")
        harness.ask("h", "hello")
        harness.steps(1)
        harness.engine.cancel("h")
        harness.finish()
        assert harness.reason("h") == "cancelled"
        assert harness.text("h") == ""

    def test_text_that_was_held_back_is_kept(self, harness):
        harness.ask("g", "one two three", params=SamplingParams(stop=("two five",)))
        harness.steps(2)
        harness.engine.cancel("g")
        assert harness.text("g") == "one two"

    def test_an_unknown_request_is_nothing(self, harness):
        harness.engine.cancel("nobody")
        assert harness.frames == []


class TestCache:
    def test_the_next_turn_of_a_conversation_prefills_only_new_tokens(self, harness):
        harness.ask("g", "one two three")
        harness.finish()
        assert harness.started("g").cached_tokens == 0
        history = (ChatMessage("user", "one two three"), ChatMessage("assistant", "one two three"))
        harness.ask("h", "four", history=history)
        harness.finish()
        started = harness.started("h")
        assert started.cached_tokens == harness.started("g").prompt_tokens + 3
        assert harness.text("h") == "four"
        assert harness.ends("h")[0].usage.cached_tokens == started.cached_tokens

    def test_another_owner_starts_from_nothing(self, harness):
        harness.ask("g", "one two three")
        harness.finish()
        harness.ask("h", "one two three", owner="bob")
        harness.finish()
        assert harness.started("h").cached_tokens == 0
        assert harness.text("h") == "one two three"

    def test_memory_that_can_not_be_cut_answers_rightly_all_the_same(self, make_harness):
        harness = make_harness(directives="@forgetful")
        for id, text in (("g", "one two"), ("h", "one three"), ("i", "one two")):
            harness.ask(id, text)
            harness.finish()
            assert harness.text(id) == text


class TestResume:
    def test_a_prefix_is_continued_and_only_the_rest_is_emitted(self, harness):
        harness.ask("g", "one two three four", prefix="one two", generated=2)
        harness.finish()
        assert harness.text("g") == " three four"
        assert harness.ends("g")[0].usage.completion_tokens == 4

    def test_earlier_tokens_count_against_max_tokens(self, harness):
        params = SamplingParams(max_tokens=3)
        harness.ask("g", "one two three four", params=params, prefix="one two", generated=2)
        harness.ask("h", "one two three four", params=params, prefix="one two three", generated=3)
        harness.finish()
        assert harness.text("g") == " three"
        assert harness.text("h") == ""
        assert harness.reason("g") == harness.reason("h") == "length"

    def test_a_prefix_that_fills_the_context_is_the_length(self, make_harness):
        harness = make_harness(context=64)
        harness.ask("g", "hi", prefix="word " * 80, generated=80)
        harness.finish()
        assert harness.reason("g") == "length"


class TestLongPrompts:
    def test_a_long_prompt_is_prefilled_in_chunks_while_other_answers_stream(self, make_harness):
        harness = make_harness(context=8192)
        harness.ask("g", "@tokens 400")
        harness.steps(3)
        harness.ask("long", "word " * 3000 + "@tokens 2", owner="bob")
        harness.finish()
        sizes = [sum(len(c.tokens) for c in chunks) for chunks in harness.backend.chunks]
        assert max(sizes) <= harness.backend.facts.max_rows
        both = [chunks for chunks in harness.backend.chunks if len(chunks) == 2]
        assert len(both) > 2
        assert harness.text("long") == "w1 w2"
        assert harness.text("g").endswith("w400")

    def test_rows_are_in_the_order_of_slots(self, harness):
        for number in range(8):
            harness.ask(str(number), "@tokens 9", owner=str(number))
        harness.finish()
        for chunks in harness.backend.chunks:
            slots = [chunk.slot for chunk in chunks]
            assert slots == sorted(slots)


class TestFailures:
    """A failed step changes no text: the final text is the same as without the failure."""

    def ask_three(self, harness) -> None:
        for id in "abc":
            harness.ask(id, f"{id} @tokens 12", owner=id)

    def check_three(self, harness) -> None:
        for id in "abc":
            assert harness.text(id) == " ".join(f"w{n + 1}" for n in range(12))
            assert harness.reason(id) == "stop"

    @pytest.mark.parametrize("outcome", [Decoded.ABORTED, Decoded.FATAL])
    @pytest.mark.parametrize("after", [0, 1, 5])
    def test_memory_changes_of_a_fatal_step_are_rolled_back(self, harness, outcome, after):
        self.ask_three(harness)
        harness.steps(after)
        harness.backend.outcomes = [outcome]
        harness.finish()
        self.check_three(harness)

    def test_memory_that_is_lost_is_computed_again(self, make_harness):
        harness = make_harness(directives="@forgetful")
        self.ask_three(harness)
        harness.steps(5)
        harness.backend.outcomes = [Decoded.FATAL]
        harness.finish()
        self.check_three(harness)

    def test_a_request_that_always_fails_is_isolated_and_the_others_continue(self, harness):
        self.ask_three(harness)
        harness.steps(3)
        harness.ask("bad", "@fail", owner="bad")
        harness.finish()
        self.check_three(harness)
        assert harness.reason("bad") == "engine_error"

    def test_permanent_failure_ends_every_request(self, harness):
        self.ask_three(harness)
        harness.backend.outcomes = [Decoded.FATAL] * (3 * MAX_FAULTS + 3)
        harness.finish()
        assert {harness.reason(id) for id in "abc"} == {"engine_error"}

    def test_a_batch_that_is_refused_fails_in_the_end_and_the_engine_lives(self, harness):
        harness.ask("g", "hello")
        harness.backend.outcomes = [Decoded.INVALID] * MAX_FAULTS
        harness.finish()
        assert harness.reason("g") == "engine_error"
        harness.ask("h", "hello")
        harness.finish()
        assert harness.text("h") == "hello"

    def test_without_space_idle_slots_are_evicted_first(self, harness):
        harness.ask("old", "@tokens 3", owner="old")
        harness.finish()
        self.ask_three(harness)
        harness.steps(3)
        harness.backend.outcomes = [Decoded.NO_SPACE]
        harness.finish()
        self.check_three(harness)
        assert not any(slot.owner == "old" and slot.tokens for slot in harness.engine.slots)

    def test_without_space_the_last_to_start_is_preempted_and_resumes_later(self, harness):
        self.ask_three(harness)
        harness.steps(4)
        harness.backend.outcomes = [Decoded.NO_SPACE]
        harness.steps(1)
        before = harness.text("c")
        harness.steps(3)
        assert harness.text("c") == before != ""
        assert len(harness.text("a")) > len(before)
        harness.finish()
        self.check_three(harness)
        assert len([f for f in harness.frames if isinstance(f, Started) and f.id == "c"]) == 1

    def test_without_space_for_one_alone_it_fails(self, harness):
        harness.ask("g", "@tokens 5")
        harness.steps(2)
        harness.backend.outcomes = [Decoded.NO_SPACE]
        harness.finish()
        assert harness.reason("g") == "engine_error"

    def test_a_second_request_with_the_same_id_changes_nothing(self, harness):
        harness.ask("g", "one two")
        harness.ask("g", "three four")
        harness.finish()
        assert harness.text("g") == "one two"
        assert len(harness.ends("g")) == 1


class TestRun:
    def test_it_takes_requests_between_steps_and_ends_with_its_input(self, harness):
        inbox: SimpleQueue[Item] = SimpleQueue()
        harness.ask("g", "@tokens 500")
        inbox.put(Failed("h", "context_length_exceeded", "too long"))
        inbox.put(Cancel("g"))
        inbox.put(None)
        harness.engine.run(inbox)
        assert [type(frame) for frame in harness.frames] == [Failed, Finished]


def test_warm_up_leaves_nothing_behind(harness):
    harness.engine.warm_up()
    assert harness.backend.memory.length(0) == 0
    harness.ask("g", "one two")
    harness.finish()
    assert harness.text("g") == "one two"


def test_warm_up_fits_the_smallest_context(make_harness):
    harness = make_harness(context=64)
    harness.engine.warm_up()
    harness.ask("g", "one two")
    harness.finish()
    assert harness.text("g") == "one two"


def test_a_build_that_can_not_compute_fails_the_warm_up(harness):
    harness.backend.outcomes = [Decoded.FATAL]
    with pytest.raises(RuntimeError, match="fatal"):
        harness.engine.warm_up()


def test_work_is_counted_and_reported(harness):
    harness.ask("a", "one two three")
    harness.finish()
    harness.ask("b", "one two three")
    harness.finish()
    last = [frame for frame in harness.frames if isinstance(frame, Stats)][-1]
    ends = [harness.ends(id)[0].usage for id in "ab"]
    started = [harness.started(id) for id in "ab"]
    assert last.cached == sum(one.cached_tokens for one in started) > 0
    assert last.prefilled + last.cached == sum(one.prompt_tokens for one in started)
    # The end is sampled too, but is no token of the answer.
    assert last.decoded == sum(usage.completion_tokens for usage in ends) + 2
    assert (last.running, last.waiting) == (0, 0)
    assert last.steps > 0
    assert last.step_seconds > 0
