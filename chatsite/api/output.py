"""A model's text as reasoning, content and tool calls, while it comes in.

`OutputSyntax` says how a model marks them. A model without marks writes content only.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from chatsite.api.requests import Answer, Piece
from chatsite.engine.messages import TokenLogprob, ToolCall


@dataclass(frozen=True)
class Parts:
    """What one piece of text adds; any of it may be empty."""

    reasoning: str = ""
    content: str = ""
    calls: tuple[ToolCall, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()


@dataclass
class Reader:
    """Reads one answer. ``one_call``: of several calls only the first counts."""

    answer: Answer
    one_call: bool = False
    calls: list[ToolCall] = field(default_factory=list)

    def push(self, piece: Piece) -> Parts:
        return Parts(content=piece.text, logprobs=piece.logprobs)

    def finish(self) -> Parts:
        return Parts()

    def finish_reason(self, ended: str) -> str:
        return "tool_calls" if self.calls else ended


def joined(parts: Iterable[Parts]) -> Parts:
    """All of an answer in one."""
    all = list(parts)
    return Parts(
        "".join(part.reasoning for part in all),
        "".join(part.content for part in all),
        tuple(call for part in all for call in part.calls),
        tuple(logprob for part in all for logprob in part.logprobs),
    )
