"""KV slots: who gets which, and how much of a prompt is already there.

A slot holds the tokens of one sequence and their owner, also after the sequence ended: the
next prompt of the same owner starts from the longest common prefix. **Tokens never pass from
one owner to another**: every lookup below begins with the owner.

No clock: "recently" is the order of calls.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

from chatsite.engine.backend import Memory

log = logging.getLogger(__name__)

# Copying a whole sequence costs about as much as prefilling a few dozen tokens.
MIN_COPY = 32


@dataclass(slots=True)
class Slot:
    """``tokens`` is exactly what the KV memory holds for ``index``."""

    index: int
    owner: str | None = None
    tokens: list[int] = field(default_factory=list)
    busy: bool = False
    used: int = 0


class SlotPool:
    def __init__(self, memory: Memory, count: int, *, can_cut: bool) -> None:
        self._memory = memory
        self._can_cut = can_cut
        self._uses = 0
        self.slots = tuple(Slot(index) for index in range(count))

    @property
    def any_idle(self) -> bool:
        return any(not slot.busy for slot in self.slots)

    def acquire(self, owner: str, tokens: Sequence[int]) -> Slot:
        """Takes an idle slot, which `any_idle` promised, and leaves in it as much of the prefix
        of ``tokens`` as the owner has anywhere, but never all: the last token must be decoded
        for its logits."""
        source, common = self._longest_prefix(owner, tokens)
        slot = self._choose(source, common, len(tokens))
        if slot is source:
            self.rewind(slot, common)
        else:
            self.clear(slot)
            if source is not None and common >= MIN_COPY:
                self._memory.copy(source.index, slot.index)
                slot.tokens = list(source.tokens)
                self.rewind(slot, common)
        self._uses += 1
        slot.owner, slot.busy, slot.used = owner, True, self._uses
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
            self.clear(min(holding, key=lambda slot: slot.used))
        return bool(holding)

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

    def _longest_prefix(self, owner: str, tokens: Sequence[int]) -> tuple[Slot | None, int]:
        best: Slot | None = None
        length = 0
        for slot in self.slots:
            if slot.owner != owner or not slot.tokens:
                continue
            common = min(common_prefix(slot.tokens, tokens), len(tokens) - 1)
            if common < len(slot.tokens) and not self._can_cut:
                continue
            # An idle slot wins a tie: it can be taken in place.
            if common > length or (common == length and best and best.busy and not slot.busy):
                best, length = slot, common
        return best, length

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
