"""Converts tokens to text per sequence; UTF-8 and stop strings both cross token boundaries.

A token's piece is bytes and may end inside a character; a stop string may begin in one token and
end many later. `TextStream` emits only text that can no longer change.
"""

from __future__ import annotations

import codecs
from collections.abc import Sequence


class StopFilter:
    """Cuts text at the first stop string; holds back a possible beginning of one."""

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stop for stop in stops if stop)
        self._held = ""
        self.stopped = False

    def push(self, text: str) -> str:
        """Return text that is safe to emit.

        Empty once `stopped`, which this call may set.
        """
        if self.stopped:
            return ""
        if not self._stops:
            return text
        text = self._held + text
        found = [at for stop in self._stops if (at := text.find(stop)) >= 0]
        if found:
            self.stopped, self._held = True, ""
            return text[: min(found)]
        keep = max(overlap(text, stop) for stop in self._stops)
        self._held = text[len(text) - keep :]
        return text[: len(text) - keep]

    def flush(self) -> str:
        """Return the held-back text: the answer ended before it became a stop string."""
        text, self._held = self._held, ""
        return text


def overlap(text: str, stop: str) -> int:
    """Return the length of the longest suffix of ``text`` that is a proper prefix of ``stop``."""
    for size in range(min(len(text), len(stop) - 1), 0, -1):
        if text.endswith(stop[:size]):
            return size
    return 0


class TextStream:
    """Converts the pieces of one sequence to text. Invalid UTF-8 becomes U+FFFD."""

    def __init__(self, stops: Sequence[str] = ()) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._filter = StopFilter(stops)

    @property
    def stopped(self) -> bool:
        """Whether a stop string was found; later pieces give no text."""
        return self._filter.stopped

    def push(self, piece: bytes) -> str:
        # PostgreSQL can't store NUL: an answer with one could never be saved, and would never end.
        return self._filter.push(self._decoder.decode(piece).replace("\x00", ""))

    def flush(self, *, cut: bool) -> str:
        """Return the rest at the end of an answer.

        ``cut``: the model had not finished. Then the bytes of an incomplete character are dropped,
        else they become U+FFFD.
        """
        tail = "" if cut else self._decoder.decode(b"", final=True)
        return self._filter.push(tail) + self._filter.flush()
