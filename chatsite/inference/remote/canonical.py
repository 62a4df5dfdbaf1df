"""The one form in which answers of remote engines are written.

Engines send reasoning, content and tool calls separately. `CanonicalWriter` joins them into text
in which they are marked by `SYNTAX`, so that every reader of answers parses it like the text of a
local model (`engine/prompting/output.py`). `read` is the inverse.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final, Literal, NamedTuple

import msgspec

from chatsite.engine.contract.messages import OutputSyntax, ToolCall
from chatsite.engine.prompting import call_body
from chatsite.engine.prompting.detokenize import overlap
from chatsite.engine.prompting.output import split

# Makes the marks of calls different from all text that a model writes; removed from such text.
SEPARATOR: Final = "\u2063"
_CALL, _CALL_END = "<tool_call>", "</tool_call>"
SYNTAX: Final = OutputSyntax(
    think_open="<think>",
    think_close="</think>",
    tools="marked",
    call_open=SEPARATOR + _CALL,
    call_close=SEPARATOR + _CALL_END,
)


class Parts(NamedTuple):
    """A canonical text, parsed. ``open_reasoning``: it ends inside the reasoning."""

    reasoning: str
    content: str
    calls: tuple[ToolCall, ...]
    open_reasoning: bool


def read(text: str) -> Parts:
    """Parse canonical text."""
    begun = text.lstrip().startswith(SYNTAX.think_open)
    return Parts(*split(text, SYNTAX, tools=True), begun and SYNTAX.think_close not in text)


@dataclass
class _Call:
    id: str
    position: int
    name: str = ""
    arguments: list[str] = field(default_factory=list)


@dataclass
class CanonicalWriter:
    """Writes one answer; each method returns the text to publish, which may be empty.

    ``preceding`` is canonical text that the answer continues, or is written behind if ``restart``.
    ``owed`` is whitespace at its end that the engine was not sent, and may repeat.

    Reasoning comes first. Engines that send some after content have it written into the content,
    between its marks, as models write it. Where text is continued it is content, because engines
    then misjudge where the reasoning ended. Behind the text of an answer that is restarted, it is
    left out.

    Calls are written at the end, since fragments of parallel calls may be interleaved.
    """

    preceding: str = ""
    restart: bool = False
    owed: str = ""
    _state: Literal["start", "reasoning", "content", "late"] = field(default="start", init=False)
    _held: str = field(default="", init=False)  # a possible start of the closing mark
    _blank: str = field(default="", init=False)  # whitespace that may lie between two reasonings
    _line_begins: bool = field(default=True, init=False)
    _calls: list[_Call] = field(default_factory=list, init=False)
    _by_index: dict[int, _Call] = field(default_factory=dict, init=False)

    def __post_init__(self) -> None:
        if not self.preceding.strip():
            return
        self._line_begins = self.preceding.endswith("\n")
        self._state = "reasoning" if read(self.preceding).open_reasoning else "content"

    def reasoning(self, text: str) -> str:
        if not text:
            return ""
        match self._state:
            case "content" if self.preceding:
                return "" if self.restart else self.content(text)
            case "content":
                self._state = "late"
                return self._out(SYNTAX.think_open + text)
            case "late":
                return self._out(text)
            case "start":
                if not (text := text.lstrip()):
                    return ""
                self._state = "reasoning"
                return self._out(f"{SYNTAX.think_open}\n" + self._inside(text))
            case "reasoning":
                text, self._blank = self._blank + text, ""
                return self._out(self._inside(text))

    def content(self, text: str) -> str:
        text = text.replace(SEPARATOR, "")
        if self.owed:
            kept = text.lstrip()
            blank = text[: len(text) - len(kept)]
            repeated = _common_prefix(blank, self.owed)
            self.owed = "" if kept else self.owed[repeated:]
            text = text[repeated:]
        if not text:
            return ""
        match self._state:
            case "reasoning" if not text.strip():
                self._blank += text
                return ""
            case "reasoning":
                text = self._close_reasoning() + text.lstrip("\n")
            case "late":
                text = SYNTAX.think_close + text
        if self._state != "start" or text.strip():
            self._state = "content"
        return self._out(text)

    def call(self, index: int | None, id: str, name: str, arguments: str) -> None:
        """Add a fragment of the call at ``index``, which some engines omit or repeat.

        A new ``id`` begins a new call.
        """
        call = self._by_index.get(index) if index is not None else None
        if call is None and index is None and self._calls and not (id or name):
            call = self._calls[-1]
        if call is None or (id and call.id and id != call.id):
            call = _Call(id, len(self._calls) if index is None else index)
            self._calls.append(call)
            if index is not None:
                self._by_index[index] = call
        call.id = call.id or id
        if name and name != call.name and not call.arguments:
            call.name += name
        if arguments:
            call.arguments.append(arguments)

    @property
    def in_call(self) -> bool:
        return bool(self._calls)

    def finish(self, *, cut: bool) -> str:
        """Return the rest. ``cut``: the answer hit its limit, maybe inside its last call."""
        text = ""
        if self._state == "reasoning" and (self._calls or not cut):
            text = self._close_reasoning()
        elif self._state == "late":
            text = SYNTAX.think_close
        elif self._state == "reasoning":
            text, self._held = self._held, ""
        text = self._out(text)
        calls = sorted(self._calls, key=lambda call: call.position)
        for call in calls:
            text += self._out(self._written(call, cut=cut and call is calls[-1]))
        return text

    def _written(self, call: _Call, *, cut: bool) -> str:
        """Return the text of a call; content if it is malformed, as if a model had written it."""
        arguments = "".join(call.arguments).strip().replace(SEPARATOR, "\\u2063") or "{}"
        name = msgspec.json.encode(call.name.replace(SEPARATOR, "")).decode()
        body = f'{{"name": {name}, "arguments": {arguments}}}'
        line = "" if self._line_begins else "\n"
        if len(call_body.read(body)) == 1:
            return f"{line}{SYNTAX.call_open}\n{body}\n{SYNTAX.call_close}"
        if cut and call.name and call.arguments:
            return f"{line}{SYNTAX.call_open}\n{body[:-1]}"
        return f"{line}{_CALL}\n{body}\n{_CALL_END}"

    def _inside(self, text: str) -> str:
        """Return reasoning in which the closing mark does not occur, except a possible start."""
        mark = SYNTAX.think_close
        text = (self._held + text.replace(SEPARATOR, "")).replace(mark, f"<{SEPARATOR}{mark[1:]}")
        held = overlap(text, mark)
        self._held = text[len(text) - held :]
        return text[: len(text) - held]

    def _close_reasoning(self) -> str:
        held, self._held, self._blank = self._held, "", ""
        self._state = "content"
        return f"{held}\n{SYNTAX.think_close}\n\n"

    def _out(self, text: str) -> str:
        if text:
            self._line_begins = text.endswith("\n")
        return text


def _common_prefix(one: str, other: str) -> int:
    length = 0
    for a, b in zip(one, other, strict=False):
        if a != b:
            break
        length += 1
    return length
