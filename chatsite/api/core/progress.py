"""Timings and prompt progress as in llama-server.

llama-swap, llama-server's web page and benchmarks read its names; Chatsite's stand beside them.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, field
from typing import Any

from chatsite.api.core.foreign import Foreign
from chatsite.api.core.requests import Answer
from chatsite.stream.entries import End


def timings(end: End) -> dict[str, float]:
    """Return times in milliseconds and token counts, under Chatsite's and llama-server's names."""
    cached = end.usage.get("cached_tokens", 0)
    return {
        **end.timings,
        **_named(
            end.usage.get("prompt_tokens", 0) - cached,
            end.timings.get("prefill", 0.0),
            end.usage.get("completion_tokens", 0),
            end.timings.get("decode", 0.0),
            cached,
        ),
    }


def _named(
    prompt: int, prompt_ms: float, predicted: int, predicted_ms: float, cached: int
) -> dict[str, float]:
    return {
        "cache_n": cached,
        "prompt_n": prompt,
        "prompt_ms": round(prompt_ms, 3),
        "prompt_per_token_ms": _ratio(prompt_ms, prompt),
        "prompt_per_second": _ratio(1000 * prompt, prompt_ms),
        "predicted_n": predicted,
        "predicted_ms": round(predicted_ms, 3),
        "predicted_per_token_ms": _ratio(predicted_ms, predicted),
        "predicted_per_second": _ratio(1000 * predicted, predicted_ms),
    }


def _ratio(value: float, by: float) -> float:
    return round(value / by, 3) if by else 0.0


@dataclass
class Progress:
    """Progress of one streamed answer, by this process's clock.

    ``wants_prompt`` and ``wants_timings`` say what its request asks for.
    """

    answer: Answer
    wants_prompt: bool
    wants_timings: bool
    _told: set[int] = field(default_factory=set)
    _prefill_began: float | None = None
    _first_text: float | None = None

    @classmethod
    def of(cls, request: Foreign, answer: Answer) -> Progress | None:
        """Return the progress of an answer; None if the request asks for neither kind."""
        wants = bool(request.return_progress), bool(request.timings_per_token)
        return cls(answer, *wants) if any(wants) else None

    def push(self, text: str) -> list[dict[str, Any]]:
        """Record a piece of the stream; return the prompt progress to send before it."""
        now = time.monotonic()
        if self._prefill_began is None:
            self._prefill_began = now
        if text and self._first_text is None:
            self._first_text = now
        known = self.answer.feed.prompt
        if known is None or not self.wants_prompt:
            return []
        total, cached = known
        processed = cached if self._first_text is None else total
        if processed in self._told:
            return []
        self._told.add(processed)
        taken = (now - self._prefill_began) * 1000
        return [{"total": total, "cache": cached, "processed": processed, "time_ms": round(taken)}]

    def timings(self) -> dict[str, float] | None:
        """Return the timings so far; None if the request does not ask for them."""
        if not self.wants_timings or self._first_text is None or self._prefill_began is None:
            return None
        total, cached = self.answer.feed.prompt or (0, 0)
        prefill = (self._first_text - self._prefill_began) * 1000
        decode = (time.monotonic() - self._first_text) * 1000
        return _named(total - cached, prefill, self.answer.feed.tokens, decode, cached)
