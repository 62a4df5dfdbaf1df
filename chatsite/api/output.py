"""A model's text as reasoning, content and tool calls, while it comes in.

`OutputSyntax` says how a model marks them. A model without marks writes content only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import msgspec

from chatsite.api.many import Answers
from chatsite.api.requests import Answer, Piece
from chatsite.engine.messages import TokenLogprob, ToolCall
from chatsite.engine.output import Call, Content, Event, OutputParser, Reasoning
from chatsite.stream.messages import End


class Parts(msgspec.Struct, frozen=True):
    """What one piece of text adds; any of it may be empty."""

    reasoning: str = ""
    content: str = ""
    calls: tuple[ToolCall, ...] = ()
    logprobs: tuple[TokenLogprob, ...] = ()


@dataclass
class Reader:
    """Reads one answer. Without ``tools`` nothing is taken for a call; with ``one_call`` only
    the first of several calls counts."""

    answer: Answer
    tools: bool = False
    one_call: bool = False
    calls: list[ToolCall] = field(default_factory=list)
    _parser: OutputParser | None = None

    def push(self, piece: Piece) -> Parts:
        if self._parser is None:
            # Only now: the writer of the first text has said how its model marks things.
            self._parser = OutputParser(self.answer.syntax, tools=self.tools)
        return self._parts(self._parser.push(piece.text), piece.logprobs)

    def finish(self) -> Parts:
        return self._parts(self._parser.finish()) if self._parser else Parts()

    def finish_reason(self, ended: str) -> str:
        return "tool_calls" if self.calls else ended

    def _parts(self, events: list[Event], logprobs: tuple[TokenLogprob, ...] = ()) -> Parts:
        if len(events) == 1 and isinstance(events[0], Content):
            return Parts(content=events[0].text, logprobs=logprobs)
        calls = [event.call for event in events if isinstance(event, Call)]
        if self.one_call:
            calls = calls[: 0 if self.calls else 1]
        self.calls += calls
        return Parts(
            "".join(event.text for event in events if isinstance(event, Reasoning)),
            "".join(event.text for event in events if isinstance(event, Content)),
            tuple(calls),
            logprobs,
        )


async def read_all(answers: Answers, readers: Sequence[Reader]) -> list[tuple[Parts, End]]:
    """Each answer from its beginning to its end, in the order of the requests."""
    parts: list[list[Parts]] = [[] for _ in readers]
    ends = [End("done")] * len(readers)
    async for index, event in answers.events():
        if isinstance(event, Piece):
            parts[index].append(readers[index].push(event))
        elif isinstance(event, End):
            parts[index].append(readers[index].finish())
            ends[index] = event
    return [(joined(parts[index]), end) for index, end in enumerate(ends)]


def joined(parts: Sequence[Parts]) -> Parts:
    """All of an answer in one."""
    return Parts(
        "".join(part.reasoning for part in parts),
        "".join(part.content for part in parts),
        tuple(call for part in parts for call in part.calls),
        tuple(logprob for part in parts for logprob in part.logprobs),
    )
