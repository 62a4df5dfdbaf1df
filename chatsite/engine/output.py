"""What a model writes, read as reasoning, content and tool calls, while it comes in.

The published text of an answer is the model's own, marks and all: it can be resumed and read
again from any point. `OutputSyntax` says which marks a model uses:

=========== ==================================================================================
``hermes``  ``<tool_call>{"name": …, "arguments": {…}}</tool_call>``, as often as it calls
``llama``   the answer is ``{"name": …, "parameters": {…}}``, several separated by ``;``,
            perhaps behind ``<|python_tag|>``
``mistral`` ``[TOOL_CALLS]`` and a list of such objects, or ``name{…}`` or ``name[ARGS]{…}``
=========== ==================================================================================

Nothing is lost: what looked like a call and is none comes out as content.
"""

from __future__ import annotations

import json
import re
import secrets
from dataclasses import dataclass
from typing import Any, Final, Literal

from chatsite.engine.detokenize import overlap
from chatsite.engine.messages import OutputSyntax, ToolCall

HERMES_OPEN: Final = "<tool_call>"
HERMES_CLOSE: Final = "</tool_call>"
MISTRAL_OPEN: Final = "[TOOL_CALLS]"
LLAMA_TAG: Final = "<|python_tag|>"

_NAMED = re.compile(r"\s*([\w.-]+)\s*(?:\[ARGS\])?\s*(?=\{)")
_DECODER = json.JSONDecoder()


@dataclass(frozen=True, slots=True)
class Reasoning:
    text: str


@dataclass(frozen=True, slots=True)
class Content:
    text: str


@dataclass(frozen=True, slots=True)
class Call:
    call: ToolCall


Event = Reasoning | Content | Call


class OutputParser:
    """Fed with text as it comes; holds back only what may begin a mark or is inside a call.
    Without ``tools`` nothing is taken for a call."""

    def __init__(self, syntax: OutputSyntax, *, tools: bool) -> None:
        self._syntax = syntax
        self._tools = syntax.tools if tools else ""
        self._state: Literal["start", "reasoning", "gap", "content", "call", "rest"] = "start"
        self._reasoned = False
        self._held = ""

    def push(self, text: str) -> list[Event]:
        self._held += text
        return self._read(final=False)

    def finish(self) -> list[Event]:
        return self._read(final=True)

    def _read(self, *, final: bool) -> list[Event]:
        events: list[Event] = []
        steps = {
            "start": self._in_start,
            "reasoning": self._in_reasoning,
            "gap": self._in_gap,
            "content": self._in_content,
            "call": self._in_call,
            "rest": self._in_rest,
        }
        while steps[self._state](events, final):
            pass
        return events

    # Each state takes what it can from what is held; True: the state changed, look again.

    def _in_start(self, events: list[Event], final: bool) -> bool:
        mark, begun = self._syntax.think_open, self._held.lstrip()
        if mark and begun.startswith(mark):
            self._held = begun[len(mark) :]
            return self._become("reasoning")
        if mark and mark.startswith(begun) and not final:
            return False
        return self._become("gap" if not self._held or self._held != begun else "content")

    def _in_reasoning(self, events: list[Event], final: bool) -> bool:
        if not self._reasoned:
            self._held = self._held.lstrip("\n")
            self._reasoned = bool(self._held)
        before, mark, after = self._held.partition(self._syntax.think_close)
        if mark:
            self._held = after
            self._add(events, Reasoning(before.rstrip("\n")))
            return self._become("gap")
        keep = 0 if final else overlap(self._held, self._syntax.think_close)
        # Line ends before the mark belong to it.
        stay = len(self._held) - keep
        while not final and stay and self._held[stay - 1] == "\n":
            stay -= 1
        self._add(events, Reasoning(self._held[:stay]))
        self._held = self._held[stay:]
        return False

    def _in_gap(self, events: list[Event], final: bool) -> bool:
        """White space before the content is not shown."""
        self._held = self._held.lstrip()
        return self._become("content") if self._held else False

    def _in_content(self, events: list[Event], final: bool) -> bool:
        if self._tools == "llama":
            begun = self._held.removeprefix(LLAMA_TAG).lstrip()
            if begun.startswith("{") or (LLAMA_TAG.startswith(self._held) and not final):
                return self._become("rest") if begun.startswith("{") else False
            self._tools = ""  # calls stand at the beginning or nowhere
        mark = {"hermes": HERMES_OPEN, "mistral": MISTRAL_OPEN}.get(self._tools, "")
        before, found, _ = self._held.partition(mark) if mark else (self._held, "", "")
        if found:
            self._held = self._held[len(before) :]
            self._add(events, Content(before))
            return self._become("call" if mark == HERMES_OPEN else "rest")
        keep = 0 if final or not mark else overlap(self._held, mark)
        shown = len(self._held) - keep
        self._add(events, Content(self._held[:shown]))
        self._held = self._held[shown:]
        return False

    def _in_call(self, events: list[Event], final: bool) -> bool:
        inner, close, after = self._held.removeprefix(HERMES_OPEN).partition(HERMES_CLOSE)
        if not close and not final:
            return False
        calls = _objects(inner)
        if calls:
            events += map(Call, calls)
            self._held = after
        else:
            events.append(Content(self._held[: len(self._held) - len(after)]))
            self._held = after
        return self._become("gap")

    def _in_rest(self, events: list[Event], final: bool) -> bool:
        """The whole rest of the answer is calls, or else content."""
        if final and self._held:
            text = self._held.removeprefix(MISTRAL_OPEN).removeprefix(LLAMA_TAG)
            calls = _objects(text)
            events += map(Call, calls) if calls else [Content(self._held)]
            self._held = ""
        return False

    def _become(self, state: Any) -> bool:
        self._state = state
        return True

    @staticmethod
    def _add(events: list[Event], event: Reasoning | Content) -> None:
        if event.text:
            events.append(event)


def split(text: str, syntax: OutputSyntax, *, tools: bool) -> tuple[str, str, tuple[ToolCall, ...]]:
    """Reasoning, content and calls of a whole answer."""
    parser = OutputParser(syntax, tools=tools)
    events = parser.push(text) + parser.finish()
    return (
        "".join(event.text for event in events if isinstance(event, Reasoning)),
        "".join(event.text for event in events if isinstance(event, Content)),
        tuple(event.call for event in events if isinstance(event, Call)),
    )


def _objects(text: str) -> list[ToolCall]:
    """The calls in a text that is nothing but calls; none if anything in it is not one."""
    calls: list[ToolCall] = []
    at = 0
    while at < len(text):
        if text[at] in " \t\r\n;,":
            at += 1
            continue
        named = _NAMED.match(text, at)
        try:
            value, at = _DECODER.raw_decode(text, named.end() if named else at)
        except ValueError:
            return []
        found = [value] if not isinstance(value, list) else value
        if named:
            found = [{"name": named[1], "arguments": value}]
        for one in found:
            if (call := _call(one)) is None:
                return []
            calls.append(call)
    return calls


def _call(value: Any) -> ToolCall | None:
    if not isinstance(value, dict):
        return None
    inner = value.get("function", value)
    value = inner if isinstance(inner, dict) else {**value, "name": inner}
    name, arguments = value.get("name"), value.get("arguments", value.get("parameters", {}))
    if not isinstance(name, str) or not name:
        return None
    if not isinstance(arguments, str):
        arguments = json.dumps(arguments, ensure_ascii=False)
    return ToolCall(f"call_{secrets.token_hex(12)}", name, arguments)


def syntax_of(template: str) -> OutputSyntax:
    """Read off a chat template. Where it has no tools of its own, ours are described in hermes'
    way (see `tool_prompt.py`)."""
    opening = closing = ""
    for mark in ("think", "THINK"):
        for left, right in (("<", ">"), ("[", "]")):
            if f"{left}/{mark}{right}" in template:
                opening, closing = f"{left}{mark}{right}", f"{left}/{mark}{right}"
    if MISTRAL_OPEN in template:
        return OutputSyntax(opening, closing, "mistral")
    if HERMES_OPEN not in template and '"parameters": ' in template and "ipython" in template:
        return OutputSyntax(opening, closing, "llama")
    return OutputSyntax(opening, closing, "hermes")


def marks(syntax: OutputSyntax) -> tuple[str, ...]:
    """Texts that must be seen in an answer even if they are control tokens of the model."""
    tools = {
        "hermes": (HERMES_OPEN, HERMES_CLOSE),
        "mistral": (MISTRAL_OPEN, "[ARGS]"),
        "llama": (LLAMA_TAG,),
        "": (),
    }[syntax.tools]
    return tuple(mark for mark in (syntax.think_open, syntax.think_close, *tools) if mark)
