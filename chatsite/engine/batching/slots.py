"""KV cache slots: slot allocation and prefix reuse.

A slot holds the tokens of one sequence and their owner, also after the sequence has ended: the
owner's next prompt starts from the longest common prefix, in a slot or in the RAM tier behind them.
**Tokens never pass from one owner to another**, except those at the start of a prompt that come
from an administrator (``shared``) on both sides. `reusable_prefix_length` is the one place that
decides it.

No clock: recency is the order of calls.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass, field

from chatsite.engine.batching.host_kv_cache import HostKVCache, SavedSequence
from chatsite.engine.contract.backend import KVCache
from chatsite.engine.prompting.prefix import common_prefix

log = logging.getLogger(__name__)

# Minimum prefix to copy, in tokens: a copy costs about as much as prefilling a few dozen.
MIN_COPY = 32
# Minimum tokens to save: fewer are prefilled as fast as they are restored.
MIN_SAVE = 64


@dataclass(slots=True)
class Slot:
    """One slot; ``tokens`` is exactly what the KV cache holds for ``index``.

    The first ``shared`` tokens come from administrators' text and the template alone. ``used``
    orders slots by last use. ``discard``: the tokens are dropped when the slot is released.
    """

    index: int
    owner: str | None = None
    tokens: list[int] = field(default_factory=list)
    shared: int = 0
    busy: bool = False
    used: int = 0
    discard: bool = False


@dataclass(frozen=True, slots=True)
class PrefixQuery:
    """A prompt for which a reusable prefix is looked up."""

    owner: str | None
    tokens: Sequence[int]
    shared: int


class SlotPool:
    """The slots of a model, and the RAM tier behind them."""

    def __init__(
        self,
        memory: KVCache,
        count: int,
        *,
        supports_truncation: bool,
        tier: HostKVCache | None = None,
    ) -> None:
        self._memory = memory
        self._supports_truncation = supports_truncation
        self._uses = 0
        self.tier = tier or HostKVCache(0)
        self.restored = 0
        self.slots = tuple(Slot(index) for index in range(count))

    @property
    def any_idle(self) -> bool:
        return any(not slot.busy for slot in self.slots)

    def prefix(self, wanted: PrefixQuery) -> int:
        """Return the number of prompt tokens that need no prefill."""
        return max(self._best_slot(wanted)[1], self._best_saved(wanted)[1])

    def acquire(self, wanted: PrefixQuery) -> Slot:
        """Acquire an idle slot and fill it with the longest reusable prefix of the prompt.

        Requires `any_idle`. The prefix comes from any slot or saved sequence that the owner may
        use. It is never the whole prompt: the last token must be decoded for its logits.
        """
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
        """Mark the slot idle; its tokens stay for the owner's next prompt."""
        slot.busy = False
        if slot.discard:
            self.clear(slot)
            slot.owner, slot.shared, slot.discard = None, 0, False
        self._uses += 1
        slot.used = self._uses

    def clear(self, slot: Slot) -> None:
        self._memory.clear(slot.index)
        slot.tokens = []

    def evict(self) -> bool:
        """Clear the least recently used idle slot; return False if no idle slot holds tokens."""
        holding = [slot for slot in self.slots if not slot.busy and slot.tokens]
        if holding:
            oldest = min(holding, key=lambda slot: slot.used)
            self._keep(oldest, 0)
            self.clear(oldest)
        return bool(holding)

    def drop_owner(self, owner: str) -> None:
        """Drop all tokens of an owner whose data was deleted, without saving them.

        A busy slot continues its request, and is cleared when it is released.
        """
        self.tier.drop_owner(owner)
        for slot in self.slots:
            if slot.owner == owner:
                if slot.busy:
                    slot.discard = True
                else:
                    self.clear(slot)
                    slot.owner, slot.shared = None, 0

    def preempt(self, slot: Slot) -> None:
        """Save and clear the slot of a preempted sequence, which will look up its tokens again."""
        if not slot.discard:
            self._keep(slot, 0)
        self.clear(slot)
        self.release(slot)

    def rewind(self, slot: Slot, length: int) -> None:
        """Truncate the slot to ``length`` tokens, or clear it where truncation is not possible."""
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
            log.info(
                "Slot can't be truncated; recomputing its prompt",
                extra={"slot": slot.index, "tokens": length},
            )
        self.clear(slot)

    # Prefixes.

    def _usable(self, wanted: PrefixQuery, holder: Slot | SavedSequence) -> int:
        common = reusable_prefix_length(wanted, holder)
        whole = isinstance(holder, SavedSequence) and self._memory.restores_only_at_end
        can_cut = self._supports_truncation and not whole
        return 0 if common < len(holder.tokens) and not can_cut else common

    def _best_slot(self, wanted: PrefixQuery) -> tuple[Slot | None, int]:
        best: Slot | None = None
        length = 0
        for slot in self.slots:
            common = self._usable(wanted, slot)
            # An idle slot wins a tie: it can be reused in place.
            if common > length or (common == length and best and best.busy and not slot.busy):
                best, length = slot, common
        return best, length

    def _best_saved(self, wanted: PrefixQuery) -> tuple[SavedSequence | None, int]:
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
        """Save the slot if at least `MIN_SAVE` tokens behind ``length`` are about to be lost."""
        if slot.owner is None or len(slot.tokens) - length < MIN_SAVE:
            return
        if not self.tier.room_for(self._memory.size(slot.index)):
            return
        data = self._memory.save(slot.index)
        if data is not None:
            self.tier.put(SavedSequence(slot.owner, list(slot.tokens), slot.shared, data))

    def _restore(self, slot: Slot, saved: SavedSequence, common: int) -> None:
        """Restore a saved sequence; if that fails, drop it and leave the slot clear for prefill."""
        self.clear(slot)
        length = len(saved.tokens)
        restored = self._memory.restore(slot.index, saved.data)
        if not restored or self._memory.length(slot.index) != length:
            log.warning(
                "Cached sequence can't be restored; recomputing its prompt",
                extra={"tokens": length},
            )
            self.tier.drop(saved)
            self.clear(slot)
            return
        self.restored += 1
        slot.tokens = list(saved.tokens)
        if common * 2 >= length:
            self.tier.drop(saved)  # same conversation: saved again when evicted
        else:
            self.tier.touch(saved)
        self.rewind(slot, common)

    # Slots.

    def _choose(self, source: Slot | None, common: int, wanted: int) -> Slot:
        """Return the slot for a prompt of ``wanted`` tokens, of which ``source`` holds ``common``.

        In this order:

        - the idle source, if the same conversation continues (at least half of its tokens stay
          useful);
        - an empty slot, so that the owner's other conversation is kept;
        - the source, if it holds half of the prompt;
        - one of the least recently used half, chosen for closeness to the running slots.
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


def reusable_prefix_length(wanted: PrefixQuery, holder: Slot | SavedSequence | PrefixQuery) -> int:
    """Return how many tokens at the start of ``holder`` the prompt ``wanted`` may reuse."""
    limit = len(wanted.tokens) - 1
    if holder.owner != wanted.owner:
        limit = min(limit, holder.shared, wanted.shared)
    return min(common_prefix(holder.tokens, wanted.tokens), limit) if limit > 0 else 0


def _span(running: Sequence[int], index: int) -> int:
    """Return the distance from the first to the last running slot if ``index`` ran too.

    A smaller span has fewer gaps, and llama.cpp computes rows together only while their slots are
    consecutive.
    """
    return max((*running, index)) - min((*running, index))
