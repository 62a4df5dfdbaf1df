"""Splits a model's output into reasoning, content and tool calls while it streams.

`OutputSyntax` says how a model marks them. The output of a model without marks is all content.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import msgspec

from chatsite.api.core.fan_out import Answers
from chatsite.api.core.requests import Answer, TextChunk
from chatsite.engine.contract.messages import PromptOptions, TokenLogprob, ToolCall
from chatsite.engine.prompting.call_body import Schemas
from chatsite.engine.prompting.output import Call, Content, Event, OutputParser, Reasoning
from chatsite.stream.entries import End


class Parts(msgspec.Struct, frozen=True):
    """The increment from one piece of output; any field may be empty."""

    reasoning: str = ""
    content: str = ""
    calls: tuple[ToolCall, ...] = ()
    cut: bool = False  # inside the last call, whose arguments are incomplete
    logprobs: tuple[TokenLogprob, ...] = ()


def called(options: PromptOptions) -> dict[str, Any]:
    """Return the arguments of `PartReader` that depend on a request's tools."""
    tools = () if options.tool_choice == "none" else options.tools
    choice = options.tool_choice
    forced = "" if choice in {"auto", "none"} or not tools else choice
    if forced == "required":
        forced = tools[0].name if len(tools) == 1 else "*"
    schemas = {tool.name: tool.parameters for tool in tools}
    return {"tools": bool(tools), "schemas": schemas, "forced": forced}


@dataclass
class PartReader:
    """Parser of one answer.

    Without ``tools`` no text is parsed as a call; with ``one_call`` only the first call counts.
    ``schemas`` are the schemas of the functions' arguments, by name. ``forced`` is the name of the
    function that must be called, or ``*`` if any may be.
    """

    answer: Answer
    tools: bool = False
    one_call: bool = False
    schemas: Schemas = field(default_factory=dict)
    forced: str = ""
    cut: bool = False
    calls: list[ToolCall] = field(default_factory=list)
    _parser: OutputParser | None = None

    def push(self, piece: TextChunk) -> Parts:
        if self._parser is None:
            # Created late because the syntax is known only once the first text has arrived.
            self._parser = OutputParser(self.answer.syntax, tools=self.tools, schemas=self.schemas)
        return self._parts(self._parser.push(piece.text), piece.logprobs)

    def finish(self, ended: str = "") -> Parts:
        """Return the remainder of an answer with the finish reason ``ended``."""
        if self._parser is None:
            return Parts()
        return self._parts(self._parser.finish(cut=ended == "length", forced=self.forced))

    def finish_reason(self, ended: str) -> str:
        return "tool_calls" if self.calls and not self.cut else ended

    def _parts(self, events: list[Event], logprobs: tuple[TokenLogprob, ...] = ()) -> Parts:
        if len(events) == 1 and isinstance(events[0], Content):
            return Parts(content=events[0].text, logprobs=logprobs)
        found = [event for event in events if isinstance(event, Call)]
        if self.one_call:
            found = found[: 0 if self.calls else 1]
        calls = [event.call for event in found]
        self.calls += calls
        self.cut = self.cut or not all(event.whole for event in found)
        return Parts(
            "".join(event.text for event in events if isinstance(event, Reasoning)),
            "".join(event.text for event in events if isinstance(event, Content)),
            tuple(calls),
            self.cut and bool(calls),
            logprobs,
        )


async def read_all(answers: Answers, readers: Sequence[PartReader]) -> list[tuple[Parts, End]]:
    """Read all answers to their end; return them in the order of the requests."""
    parts: list[list[Parts]] = [[] for _ in readers]
    ends = [End("done")] * len(readers)
    async for index, event in answers.events():
        if isinstance(event, TextChunk):
            parts[index].append(readers[index].push(event))
        elif isinstance(event, End):
            parts[index].append(readers[index].finish(event.finish_reason))
            ends[index] = event
    return [(joined(parts[index]), end) for index, end in enumerate(ends)]


def joined(parts: Sequence[Parts]) -> Parts:
    """Concatenate the parts of one answer."""
    return Parts(
        "".join(part.reasoning for part in parts),
        "".join(part.content for part in parts),
        tuple(call for part in parts for call in part.calls),
        any(part.cut for part in parts),
        tuple(logprob for part in parts for logprob in part.logprobs),
    )
