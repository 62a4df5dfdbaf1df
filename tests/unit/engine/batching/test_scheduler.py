from __future__ import annotations

from dataclasses import dataclass

import pytest

from chatsite.engine.batching.scheduler import MIN_CHUNK, ScheduledChunk, Scheduler
from chatsite.engine.contract.messages import BACKGROUND


@dataclass
class Fixed:
    """Each decoding sequence costs ``each`` ms; prefill runs at ``prefill_tokens_per_ms``."""

    each: float = 10.0
    prefill_tokens_per_ms: float = 1.0

    def decode_ms(self, sequences: int) -> float:
        return self.each * sequences


def make(target: float = 100.0, max_rows: int = 512, **pending: int) -> Scheduler:
    """Return a scheduler of named sequences with tokens to prefill, in slots by order."""
    scheduler = Scheduler(max_rows=max_rows, step_target_ms=target)
    for slot, (id, tokens) in enumerate(pending.items()):
        scheduler.enqueue(id)
        scheduler.start(id, slot, tokens)
    return scheduler


def counts(parts: tuple[ScheduledChunk, ...]) -> dict[str, int]:
    return {part.id: part.count for part in parts}


def run(scheduler: Scheduler, speed: Fixed) -> dict[str, int]:
    """Run one step; prompts that are complete sample their first token."""
    parts = scheduler.plan(speed)
    scheduler.computed(parts)
    for part in parts:
        if part.outputs:
            scheduler.sampled(part.id)
    return counts(parts)


def test_decoding_sequences_are_in_every_step():
    scheduler = make(a=5, b=5, c=1000)
    run(scheduler, Fixed())
    for _ in range(5):
        planned = run(scheduler, Fixed())
        assert planned["a"] == planned["b"] == 1


def test_prefill_fills_the_time_that_decoding_leaves():
    scheduler = make(target=100, a=1, b=1, c=1600)
    run(scheduler, Fixed(each=0))
    fast, slow = Fixed(10, prefill_tokens_per_ms=2), Fixed(10, prefill_tokens_per_ms=0.5)
    assert run(scheduler, fast)["c"] == pytest.approx((100 - 20) * 2, rel=0.1)
    assert run(scheduler, slow)["c"] == pytest.approx((100 - 20) * 0.5, rel=0.1)


def test_prefill_progresses_when_decoding_alone_takes_the_step():
    scheduler = make(target=100, a=1, b=1000)
    run(scheduler, Fixed(each=500))
    assert run(scheduler, Fixed(each=500))["b"] in range(MIN_CHUNK - 1, MIN_CHUNK + 1)


def test_a_step_never_has_more_rows_than_a_batch_takes():
    scheduler = make(target=1e9, max_rows=64, a=1, b=1000, c=1000)
    for _ in range(3):
        assert sum(run(scheduler, Fixed()).values()) <= 64


def test_only_the_chunk_that_ends_a_prompt_has_an_output():
    scheduler = make(target=100, a=300)
    first = scheduler.plan(Fixed())
    assert first == (ScheduledChunk("a", 0, 150, 0),)
    scheduler.computed(first)
    assert scheduler.plan(Fixed()) == (ScheduledChunk("a", 0, 150, 1),)


def test_a_prompt_ends_with_a_step_that_it_need_not_share():
    """It takes as few steps as possible, all of the same size."""
    scheduler = make(target=100, first=1)
    run(scheduler, Fixed())
    for slot, (id, tokens) in enumerate({"a": 210, "b": 400}.items(), 1):
        scheduler.enqueue(id)
        scheduler.start(id, slot, tokens)
    steps = [run(scheduler, Fixed(each=0)) for _ in range(3)]
    assert steps[:2] == [{"first": 1, "a": 105}] * 2
    assert set(steps[2]) == {"first", "a", "b"}


def test_a_long_prompt_has_larger_steps_while_nothing_decodes():
    scheduler = make(target=100, long=800, short=10)
    assert run(scheduler, Fixed(each=0)) == {"short": 10, "long": 89}
    scheduler.remove("short")
    assert run(scheduler, Fixed(each=0)) == {"long": 178}
    slow = make(target=100, long=320)
    assert run(slow, Fixed(prefill_tokens_per_ms=0.1)) == {"long": 32}


def test_the_shortest_remaining_prompt_goes_first_and_leaves_its_rest_to_the_next():
    scheduler = make(target=100, long=700, short=30)
    assert counts(scheduler.plan(Fixed())) == {"short": 30, "long": 70}
    scheduler = make(target=100, long=700, short=90)
    assert counts(scheduler.plan(Fixed())) == {"short": 90}


def test_rows_are_in_the_order_of_slots():
    scheduler = make(target=100, c=30, a=20, b=10)
    for _ in range(3):
        parts = scheduler.plan(Fixed())
        assert [part.slot for part in parts] == sorted(part.slot for part in parts)
        run(scheduler, Fixed())


def test_a_long_prompt_is_overtaken_by_no_more_than_its_own_length():
    scheduler = make(target=100, long=300)
    overtaken = 0
    for number in range(100):
        id = f"short{number}"
        scheduler.enqueue(id)
        scheduler.start(id, 1, 100)
        planned = run(scheduler, Fixed(each=0))
        scheduler.remove(id)
        if "long" in planned:
            break
        overtaken += sum(planned.values())
    else:
        pytest.fail("starved")
    assert overtaken <= 300


def test_the_queue_is_first_come_first_served_with_a_preempted_one_in_front():
    scheduler = Scheduler(max_rows=64, step_target_ms=100)
    for id in "ab":
        scheduler.enqueue(id)
    scheduler.enqueue("p", first=True)
    order = []
    while scheduler.waiting:
        order.append(scheduler.waiting[0])
        scheduler.start(order[-1], len(order), 1)
    assert order == ["p", "a", "b"]


def test_a_removed_sequence_is_in_no_step_wherever_it_was():
    scheduler = make(decoding=1, prefilling=1000)
    run(scheduler, Fixed())
    scheduler.enqueue("waiting")
    for id in ("decoding", "prefilling", "waiting", "unknown"):
        scheduler.remove(id)
    assert scheduler.idle
    assert scheduler.waiting == []
    assert scheduler.plan(Fixed()) == ()


def test_the_sequence_started_last_is_preempted_unless_it_is_alone():
    scheduler = make(a=10, b=10, c=10)
    assert scheduler.preemption_candidate() == "c"
    scheduler.remove("c")
    assert scheduler.preemption_candidate() == "b"
    scheduler.remove("b")
    assert scheduler.preemption_candidate() is None


def test_a_sequence_that_lost_its_memory_prefills_again():
    scheduler = make(a=1)
    run(scheduler, Fixed())
    scheduler.restart("a", 400)
    assert counts(scheduler.plan(Fixed(each=0))) == {"a": 200}
    scheduler.restart("a", 1)
    assert scheduler.plan(Fixed()) == (ScheduledChunk("a", 0, 1, 1),)


def test_a_sequence_with_drafts_has_an_output_for_each_token():
    scheduler = make(a=1)
    run(scheduler, Fixed())
    scheduler.sampled("a")
    scheduler.draft("a", 3)
    assert scheduler.plan(Fixed()) == (ScheduledChunk("a", 0, 4, 4),)


def test_background_work_is_last_however_long_it_waits():
    scheduler = make(max_rows=16, target=16)
    scheduler.enqueue("title", priority=BACKGROUND)
    scheduler.start("title", 0, 10)
    for slot in range(1, 8):
        scheduler.enqueue(f"chat{slot}")
        scheduler.start(f"chat{slot}", slot, 16)
        assert "title" not in counts(scheduler.plan(Fixed(each=0)))
        scheduler.computed(scheduler.plan(Fixed(each=0)))
        scheduler.remove(f"chat{slot}")
    assert counts(scheduler.plan(Fixed(each=0))) == {"title": 10}
