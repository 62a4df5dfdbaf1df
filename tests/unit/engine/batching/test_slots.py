from __future__ import annotations

import random

import pytest

from chatsite.engine.backends.scripted.backend import ScriptedKVCache
from chatsite.engine.batching.host_kv_cache import HostKVCache
from chatsite.engine.batching.slots import MIN_COPY, MIN_SAVE, PrefixQuery, Slot, SlotPool
from chatsite.engine.prompting.prefix import common_prefix


class RecordingMemory(ScriptedKVCache):
    """``copies`` has (source, target) pairs; ``refuses`` makes truncation fail."""

    def __init__(self, slots: int, can_cut: bool = True) -> None:
        super().__init__(slots, can_cut)
        self.copies: list[tuple[int, int]] = []
        self.refuses = False

    def copy(self, source: int, target: int) -> None:
        super().copy(source, target)
        self.copies.append((source, target))

    def truncate(self, slot: int, length: int) -> bool:
        return not self.refuses and super().truncate(slot, length)


def pool(slots: int = 4, can_cut: bool = True, budget: int = 0) -> tuple[SlotPool, RecordingMemory]:
    memory = RecordingMemory(slots, can_cut)
    return SlotPool(memory, slots, supports_truncation=can_cut, tier=HostKVCache(budget)), memory


def fill(memory: RecordingMemory, slot: Slot, tokens: list[int]) -> None:
    """Extend the slot to ``tokens``, as decoding does."""
    new = tokens[len(slot.tokens) :]
    memory.tokens[slot.index].extend(new)
    slot.tokens.extend(new)


def acquire(slots: SlotPool, owner: str, tokens: list[int], shared: int = 0) -> Slot:
    return slots.acquire(PrefixQuery(owner, tokens, shared))


def talk(slots: SlotPool, memory: RecordingMemory, owner: str, tokens: list[int]) -> int:
    """Run a whole request; return the index of its slot."""
    slot = acquire(slots, owner, tokens)
    fill(memory, slot, tokens)
    slots.release(slot)
    return slot.index


A = list(range(100))
B = list(range(500, 600))


def test_a_conversation_continues_in_its_slot():
    slots, memory = pool()
    first = talk(slots, memory, "ann", A)
    slot = acquire(slots, "ann", [*A, 7, 8])
    assert (slot.index, slot.tokens) == (first, A)
    assert memory.copies == []


def test_the_last_token_is_always_decoded_again():
    slots, memory = pool()
    talk(slots, memory, "ann", A)
    assert acquire(slots, "ann", list(A)).tokens == A[:-1]


def test_the_tail_that_differs_is_cut_in_memory_too():
    slots, memory = pool()
    talk(slots, memory, "ann", [*A, 1, 2, 3])
    slot = acquire(slots, "ann", [*A, 9, 9])
    assert slot.tokens == memory.tokens[slot.index] == A


def test_a_second_conversation_leaves_the_first_and_starts_from_a_copy():
    slots, memory = pool()
    system = A[:40]
    first = talk(slots, memory, "ann", [*system, *B])
    slot = acquire(slots, "ann", [*system, 1, 2, 3])
    assert slot.index != first
    assert slot.tokens == memory.tokens[slot.index] == system
    assert memory.tokens[first] == [*system, *B]


def test_a_running_sequence_is_copied_and_stays_unchanged():
    slots, memory = pool()
    running = acquire(slots, "ann", A)
    fill(memory, running, A)
    slot = acquire(slots, "ann", [*A[:60], 1, 2])
    assert slot is not running
    assert slot.tokens == memory.tokens[slot.index] == A[:60]
    assert running.tokens == memory.tokens[running.index] == A


def test_a_short_prefix_is_not_worth_a_copy():
    slots, memory = pool()
    running = acquire(slots, "ann", A)
    fill(memory, running, A)
    assert acquire(slots, "ann", [*A[: MIN_COPY - 1], 1]).tokens == []
    assert memory.copies == []


def test_without_an_empty_slot_a_regenerated_answer_takes_its_own_slot():
    slots, memory = pool(2)
    talk(slots, memory, "bob", B)
    prompt, answer = A[:30], list(range(1000, 1100))
    ann = talk(slots, memory, "ann", [*prompt, *answer])
    slot = acquire(slots, "ann", prompt)
    assert (slot.index, slot.tokens) == (ann, prompt[:-1])


def test_tokens_never_pass_to_another_owner():
    slots, memory = pool(2)
    talk(slots, memory, "ann", A)
    bob = acquire(slots, "bob", list(A))
    assert bob.tokens == []
    assert memory.tokens[bob.index] == []
    assert acquire(slots, "eve", list(A)).tokens == []
    assert memory.copies == []


@pytest.mark.parametrize("seed", range(40))
def test_whatever_happens_a_slot_holds_only_its_owners_tokens(seed):
    """Each owner has distinct tokens, so a leak would show.

    The memory and the pool's record of it stay equal.
    """
    rng = random.Random(seed)
    slots, memory = pool(rng.randint(1, 5), can_cut=rng.random() < 0.7)
    running: list[Slot] = []
    for _ in range(200):
        if slots.any_idle and rng.random() < 0.6:
            owner = rng.randint(0, 2)
            stem = [owner * 1000] * rng.randint(0, 80)
            tail = [owner * 1000 + rng.randint(1, 3) for _ in range(rng.randint(1, 80))]
            tokens = stem + tail
            slot = acquire(slots, str(owner), tokens)
            assert slot not in running
            assert slot.tokens == tokens[: len(slot.tokens)]
            assert len(slot.tokens) < len(tokens)
            fill(memory, slot, tokens)
            running.append(slot)
        elif running:
            slots.release(running.pop(rng.randrange(len(running))))
        for slot in slots.slots:
            assert memory.tokens[slot.index] == slot.tokens
            assert {token // 1000 for token in slot.tokens} <= {int(slot.owner or 0)}


def test_the_least_recently_used_slot_is_evicted_first():
    slots, memory = pool(3)
    used = [talk(slots, memory, owner, [*A, index]) for index, owner in enumerate("abc")]
    slot = acquire(slots, "new", B)
    assert slot.index == used[0]
    fill(memory, slot, B)
    slots.release(slot)
    assert acquire(slots, "other", B).index == used[1]


def test_new_sequences_stay_beside_running_ones():
    slots, _ = pool(8)
    middle = [acquire(slots, owner, A) for owner in "abcd"]
    assert [slot.index for slot in middle] == [0, 1, 2, 3]
    for slot in middle[:2]:
        slots.release(slot)
        slots.clear(slot)
    assert acquire(slots, "e", B).index in {1, 4}


def test_a_slot_beside_the_running_ones_need_not_be_the_oldest():
    slots, memory = pool(8)
    for number in range(8):
        talk(slots, memory, f"old{number}", [*A, number])
    for number in (4, 5, 0, 3, 6, 1, 2, 7):  # used again, in this order
        talk(slots, memory, f"old{number}", [*A, number])
    running = [acquire(slots, f"new{number}", B).index for number in range(3)]
    assert running == [4, 5, 3]
    # The most recently used slot is never chosen for its position.
    assert 7 not in running


def test_memory_that_refuses_a_cut_is_cleared_and_prefilled_again():
    slots, memory = pool()
    talk(slots, memory, "ann", A)
    memory.refuses = True
    slot = acquire(slots, "ann", [*A[:80], 1])
    assert slot.tokens == memory.tokens[slot.index] == []


def test_memory_that_forgot_more_than_asked_is_cleared():
    slots, memory = pool()
    talk(slots, memory, "ann", A)
    slot = slots.slots[0]
    del memory.tokens[0][50:]
    slots.rewind(slot, 80)
    assert slot.tokens == memory.tokens[0] == []


class TestRecurrentModels:
    def test_a_conversation_that_only_grew_is_reused(self):
        slots, memory = pool(can_cut=False)
        talk(slots, memory, "ann", A)
        assert acquire(slots, "ann", [*A, 1]).tokens == A

    def test_any_other_prompt_is_prefilled_whole(self):
        slots, memory = pool(can_cut=False)
        talk(slots, memory, "ann", A)
        assert acquire(slots, "ann", [*A[:-1], 5]).tokens == []


def test_evict_clears_idle_slots_one_by_one_and_never_a_running_one():
    slots, memory = pool(3)
    for owner in "ab":
        talk(slots, memory, owner, [*A, ord(owner)])
    running = acquire(slots, "c", B)
    fill(memory, running, B)
    assert slots.evict()
    assert slots.slots[0].tokens == []
    assert slots.evict()
    assert not slots.evict()
    assert running.tokens == B


def test_no_idle_slot_is_an_error():
    slots, _ = pool(1)
    acquire(slots, "a", A)
    assert not slots.any_idle
    with pytest.raises(RuntimeError):
        acquire(slots, "b", A)


@pytest.mark.parametrize("seed", range(50))
def test_common_prefix_equals_a_naive_loop(seed):
    rng = random.Random(seed)
    left, right = (rng.choices((0, 1), weights=(9, 1), k=rng.randint(0, 40)) for _ in range(2))
    slow = 0
    while slow < min(len(left), len(right)) and left[slow] == right[slow]:
        slow += 1
    assert common_prefix(left, right) == slow


def test_a_saved_window_is_restored_only_if_the_prompt_continues_its_end():
    slots, memory = pool(slots=1, budget=1 << 20)
    memory.restores_only_at_end = True
    slot = acquire(slots, "ann", A)
    fill(memory, slot, A)
    slots.release(slot)
    other = acquire(slots, "bob", B)
    slots.release(other)
    assert acquire(slots, "ann", [*A[:-2], 1, 2, 3]).tokens == []
    assert slots.restored == 0
    slots.release(slots.slots[0])
    assert acquire(slots, "ann", [*A, 1]).tokens == A


class TestSharedHeads:
    """An administrator's tokens at the start of a prompt may be shared between users; no others."""

    def test_another_owner_starts_from_the_head_shared_on_both_sides(self):
        slots, memory = pool()
        slot = acquire(slots, "ann", A, shared=60)
        fill(memory, slot, A)
        slots.release(slot)
        assert acquire(slots, "bob", list(A), shared=40).tokens == A[:40]
        assert acquire(slots, "eve", list(A)).tokens == []

    def test_the_owner_of_the_source_keeps_truncated_tokens(self):
        slots, memory = pool(slots=1, budget=1 << 20)
        slot = acquire(slots, "ann", A, shared=60)
        fill(memory, slot, A)
        slots.release(slot)
        slot = acquire(slots, "bob", [*A[:30], 1, 2], shared=30)
        assert slot.tokens == A[:30]
        slots.release(slot)
        assert acquire(slots, "ann", [*A, 1]).tokens == A


class TestTier:
    def test_a_conversation_that_lost_its_slot_comes_back(self):
        slots, memory = pool(slots=1, budget=1 << 20)
        talk(slots, memory, "ann", A)
        talk(slots, memory, "bob", B)
        slot = acquire(slots, "ann", [*A, 7])
        assert slot.tokens == memory.tokens[0] == A
        slots.release(slot)
        assert acquire(slots, "bob", [*B, 7]).tokens == B

    def test_saved_sequences_are_not_shared_between_owners(self):
        slots, memory = pool(slots=1, budget=1 << 20)
        talk(slots, memory, "ann", A)
        talk(slots, memory, "bob", B)
        assert acquire(slots, "eve", list(A)).tokens == []

    def test_the_budget_holds_and_the_oldest_is_evicted_first(self):
        size = 4 * len(A)
        slots, memory = pool(slots=1, budget=2 * size)
        prompts = {owner: [ord(owner) * 1000 + n for n in range(len(A))] for owner in "abcd"}
        for owner, tokens in prompts.items():
            talk(slots, memory, owner, tokens)
            assert slots.tier.bytes <= 2 * size
        assert [saved.owner for saved in slots.tier.entries] == ["b", "c"]
        slots.tier.limit(size)
        assert [saved.owner for saved in slots.tier.entries] == ["c"]
        slots.tier.limit(0)
        assert (slots.tier.entries, slots.tier.bytes) == ((), 0)

    def test_a_later_state_of_a_conversation_replaces_the_earlier(self):
        slots, memory = pool(slots=1, budget=1 << 20)
        talk(slots, memory, "ann", A)
        talk(slots, memory, "bob", B)
        talk(slots, memory, "ann", [*A, *B])
        talk(slots, memory, "bob", B)
        assert [len(saved.tokens) for saved in slots.tier.entries if saved.owner == "ann"] == [200]

    def test_little_is_not_saved(self):
        slots, memory = pool(slots=1, budget=1 << 20)
        talk(slots, memory, "ann", A[: MIN_SAVE - 1])
        talk(slots, memory, "bob", B)
        assert slots.tier.entries == ()

    @pytest.mark.parametrize("half", [True, False])
    def test_an_unreadable_saved_sequence_is_prefilled_and_leaves_nothing(self, half):
        slots, memory = pool(slots=1, budget=1 << 20)
        talk(slots, memory, "ann", A)
        talk(slots, memory, "bob", B)

        def restore(slot: int, data: memoryview) -> bool:
            memory.tokens[slot] = A[:50] if half else []
            return half

        memory.restore = restore  # type: ignore[method-assign]
        slot = acquire(slots, "ann", [*A, 7])
        assert slot.tokens == memory.tokens[0] == []
        assert slots.tier.bytes == 4 * len(B)

    def test_memory_that_can_not_be_cut_comes_back_only_whole(self):
        slots, memory = pool(slots=1, can_cut=False, budget=1 << 20)
        talk(slots, memory, "ann", A)
        talk(slots, memory, "bob", B)
        slot = acquire(slots, "ann", [*A[:-5], 7])
        assert slot.tokens == []
        slots.release(slot)
        assert acquire(slots, "ann", [*A, 7]).tokens == A


def test_dropping_an_owner_leaves_no_token_of_theirs() -> None:
    slots, memory = pool(2, budget=10_000)
    talk(slots, memory, "ann", A)
    talk(slots, memory, "bob", B)
    talk(slots, memory, "ann", [*B[:50], *A])  # evicts and saves a sequence of ann's
    running = acquire(slots, "ann", [*A, 1])
    fill(memory, running, [*A, 1])
    slots.drop_owner("ann")
    assert {saved.owner for saved in slots.tier.entries} <= {"bob"}
    assert running.tokens == [*A, 1], "a running request continues"
    slots.release(running)
    assert all(slot.owner != "ann" for slot in slots.slots)
    cleared = [slot for slot in slots.slots if slot.owner is None]
    assert cleared
    assert all(not slot.tokens and not memory.tokens[slot.index] for slot in cleared)
    assert slots.prefix(PrefixQuery("ann", [*A, 1, 2], 0)) == 0
