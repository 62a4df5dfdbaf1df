"""KV slots: who gets which, and how much of a prompt is already there.

A slot holds the tokens of one sequence and their owner, also after the sequence ended: the
next prompt of the same owner starts from the longest common prefix, in a slot or in the tier of
RAM behind them. **Tokens never pass from one owner to another**, but for those at the start of
a prompt that are an administrator's (``shared``) on both sides: `usable` is the one place that
decides it.

No clock: "recently" is the order of calls.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

from chatsite.engine.backend import Memory
from chatsite.engine.ram_tier import RamTier, Saved

log = logging.getLogger(__name__)

# Copying a whole sequence costs about as much as prefilling a few dozen tokens.
MIN_COPY = 32
# What is prefilled as fast as it is read back is not worth its RAM.
MIN_SAVE = 64


@dataclass(slots=True)
class Slot:
    """``tokens`` is exactly what the KV memory holds for ``index``. The first ``shared`` of them
    came from an administrator's text and the template alone."""

    index: int
    owner: str | None = None
    tokens: list[int] = field(default_factory=list)
    shared: int = 0
    busy: bool = False
    used: int = 0


@dataclass(frozen=True, slots=True)
class Wanted:
    """A prompt that looks for its prefix."""

    owner: str | None
    tokens: Sequence[int]
    shared: int


class SlotPool:
    def __init__(
        self, memory: Memory, count: int, *, can_cut: bool, tier: RamTier | None = None
    ) -> None:
        self._memory = memory
        self._can_cut = can_cut
        self._uses = 0
        self.tier = tier or RamTier(0)
        self.restored = 0
        self.slots = tuple(Slot(index) for index in range(count))

    @property
    def any_idle(self) -> bool:
        return any(not slot.busy for slot in self.slots)

    def prefix(self, wanted: Wanted) -> int:
        """Tokens of the prompt that need no prefill."""
        return max(self._best_slot(wanted)[1], self._best_saved(wanted)[1])

    def acquire(self, wanted: Wanted) -> Slot:
        """Takes an idle slot, which `any_idle` promised, and leaves in it as much of the prompt
        as its owner may use from anywhere, but never all: the last token must be decoded for
        its logits."""
        length = len(wanted.tokens)
        source, common = self._best_slot(wanted)
        saved, saved_common = self._best_saved(wanted)
        if saved is not None and saved_common >= common + MIN_COPY:
            slot = self._choose(None, 0, length)
            self._keep(slot, 0)
            self._restore(slot, saved, saved_common)
        else:
            slot = self._choose(source, common, length)
            self._keep(slot, common if slot is source else 0)
            self._begin(slot, source, common)
        self._uses += 1
        slot.owner, slot.busy, slot.used = wanted.owner, True, self._uses
        slot.shared = wanted.shared
        return slot

    def release(self, slot: Slot) -> None:
        """The sequence ended; its tokens stay for the owner's next prompt."""
        slot.busy = False
        self._uses += 1
        slot.used = self._uses

    def clear(self, slot: Slot) -> None:
        self._memory.clear(slot.index)
        slot.tokens = []

    def evict(self) -> bool:
        """Clears the idle slot unused for longest; False when no idle slot holds anything."""
        holding = [slot for slot in self.slots if not slot.busy and slot.tokens]
        if holding:
            oldest = min(holding, key=lambda slot: slot.used)
            self._keep(oldest, 0)
            self.clear(oldest)
        return bool(holding)

    def give_up(self, slot: Slot) -> None:
        """Takes the slot from a running sequence, which will look for its tokens again."""
        self._keep(slot, 0)
        self.clear(slot)
        self.release(slot)

    def rewind(self, slot: Slot, length: int) -> None:
        """Cuts the slot to ``length`` tokens; to none where the memory can't be cut."""
        if length == len(slot.tokens) == self._memory.length(slot.index):
            return
        if (
            length
            and self._memory.truncate(slot.index, length)
            and self._memory.length(slot.index) == length
        ):
            del slot.tokens[length:]
            return
        if length:
            log.info("slot %d can't be cut to %d tokens: prefill again", slot.index, length)
        self.clear(slot)

    # Prefixes.

    def _usable(self, wanted: Wanted, holder: Slot | Saved) -> int:
        common = usable(wanted, holder)
        whole = isinstance(holder, Saved) and self._memory.saves_ends
        can_cut = self._can_cut and not whole
        return 0 if common < len(holder.tokens) and not can_cut else common

    def _best_slot(self, wanted: Wanted) -> tuple[Slot | None, int]:
        best: Slot | None = None
        length = 0
        for slot in self.slots:
            common = self._usable(wanted, slot)
            # An idle slot wins a tie: it can be taken in place.
            if common > length or (common == length and best and best.busy and not slot.busy):
                best, length = slot, common
        return best, length

    def _best_saved(self, wanted: Wanted) -> tuple[Saved | None, int]:
        found = [(self._usable(wanted, saved), saved) for saved in self.tier.entries]
        length, best = max(found, key=lambda pair: pair[0], default=(0, None))
        return (best, length) if length else (None, 0)

    def _begin(self, slot: Slot, source: Slot | None, common: int) -> None:
        if slot is source:
            self.rewind(slot, common)
            return
        self.clear(slot)
        if source is not None and common >= MIN_COPY:
            self._memory.copy(source.index, slot.index)
            slot.tokens = list(source.tokens)
            self.rewind(slot, common)

    def _keep(self, slot: Slot, length: int) -> None:
        """Saves what the slot holds if more than a little of it, behind ``length``, is about to
        be lost."""
        if slot.owner is None or len(slot.tokens) - length < MIN_SAVE:
            return
        if not self.tier.room_for(self._memory.size(slot.index)):
            return
        data = self._memory.save(slot.index)
        if data is not None:
            self.tier.put(Saved(slot.owner, list(slot.tokens), slot.shared, data))

    def _restore(self, slot: Slot, saved: Saved, common: int) -> None:
        """Reads a saved sequence back. One that can't be read is forgotten, and prefilled."""
        self.clear(slot)
        length = len(saved.tokens)
        restored = self._memory.restore(slot.index, saved.data)
        if not restored or self._memory.length(slot.index) != length:
            log.warning("a sequence of %d tokens could not be read back: prefill again", length)
            self.tier.drop(saved)
            self.clear(slot)
            return
        self.restored += 1
        slot.tokens = list(saved.tokens)
        if common * 2 >= length:
            self.tier.drop(saved)  # the same conversation: it is saved again when it leaves
        else:
            self.tier.touch(saved)
        self.rewind(slot, common)

    # Slots.

    def _choose(self, source: Slot | None, common: int, wanted: int) -> Slot:
        """The slot for a prompt of ``wanted`` tokens, ``common`` of which ``source`` has.

        The idle source itself, where the same conversation goes on (at least half of what it
        holds stays of use); else an empty slot, so that the owner's other conversation is kept
        too; else the source again if it has half of the prompt; else one of the half that was
        unused longest, so that slots near the running ones need not be the oldest of all.
        """
        if not (idle := [slot for slot in self.slots if not slot.busy]):
            raise RuntimeError("no idle slot")
        empty = [slot for slot in idle if not slot.tokens]
        if source is not None and not source.busy:
            worth = len(source.tokens) if empty else min(len(source.tokens), wanted)
            if common * 2 >= worth:
                return source
        running = [slot.index for slot in self.slots if slot.busy]
        by_age = sorted(idle, key=lambda slot: slot.used)
        candidates = empty or by_age[: (len(by_age) + 1) // 2]
        return min(candidates, key=lambda slot: (_span(running, slot.index), slot.used, slot.index))


def usable(wanted: Wanted, holder: Slot | Saved | Wanted) -> int:
    """Tokens at the start of ``holder`` that ``wanted`` may go on from."""
    limit = len(wanted.tokens) - 1
    if holder.owner != wanted.owner:
        limit = min(limit, holder.shared, wanted.shared)
    return min(common_prefix(holder.tokens, wanted.tokens), limit) if limit > 0 else 0


def _span(running: Sequence[int], index: int) -> int:
    """Slots from the first running one to the last, if ``index`` ran too: the fewer, the fewer
    gaps, and llama.cpp computes rows together only while their slots rise by one."""
    return max((*running, index)) - min((*running, index))


def common_prefix(left: Sequence[int], right: Sequence[int]) -> int:
    """Number of equal tokens at the start, by halving: list comparison runs in C."""
    low, high = 0, min(len(left), len(right))
    while low < high:
        middle = (low + high + 1) // 2
        if left[low:middle] == right[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low
