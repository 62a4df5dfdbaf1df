"""What a model's raw text says: reasoning, content and tool calls. Pure, and incremental.

The text of a generation is published as the model wrote it, and says by itself where its
reasoning and its calls are (`OutputSyntax`); each reader parses it. Ways to mark calls:

``hermes``   ``<tool_call>{"name": …, "arguments": {…}}</tool_call>``, any number of them
``llama``    the whole answer is ``{"name": …, "parameters": {…}}``, or several with ``;``
             between them, or what follows ``<|python_tag|>`` is
``mistral``  ``[TOOL_CALLS]`` and a JSON list of calls, or a name and its arguments

Text that only looks like a call is content: nothing but blanks around markers is lost.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable
from typing import Final, Literal

import msgspec

from chatsite.engine import call_json
from chatsite.engine.detokenize import overlap
from chatsite.engine.messages import OutputSyntax, ToolCall

HERMES_OPEN: Final = "<tool_call>"
HERMES_CLOSE: Final = "</tool_call>"
LLAMA_TAG: Final = "<|python_tag|>"
MISTRAL_OPEN: Final = "[TOOL_CALLS]"
# How reasoning begins and ends, in what models are known to write.
REASONING: Final = (
    ("<think>", "</think>"),
    ("[think]", "[/think]"),
    ("<THINK>", "</THINK>"),
    ("[THINK]", "[/THINK]"),
)
_OPENERS = {"hermes": HERMES_OPEN, "llama": LLAMA_TAG, "mistral": MISTRAL_OPEN}

# Marks of calls that are no JSON objects of a name and its arguments.
_FOREIGN = ("<function=", "tool_calls_begin", "tool▁calls▁begin", "<|tool_calls_section_begin|>")

_STRING = re.compile(r'"(?:[^"\\]|\\.)*"', re.DOTALL)


class Reasoning(msgspec.Struct, frozen=True):
    text: str


class Content(msgspec.Struct, frozen=True):
    text: str


class Call(msgspec.Struct, frozen=True):
    """A whole call, under an id that no other has."""

    call: ToolCall


Event = Reasoning | Content | Call
Dialect = Literal["hermes", "llama", "mistral"]


def split(text: str, syntax: OutputSyntax, *, tools: bool) -> tuple[str, str, tuple[ToolCall, ...]]:
    """Reasoning, content and calls of a whole text."""
    parser = OutputParser(syntax, tools=tools)
    events = parser.push(text) + parser.finish()
    reasoning = "".join(event.text for event in events if isinstance(event, Reasoning))
    content = "".join(event.text for event in events if isinstance(event, Content))
    calls = tuple(event.call for event in events if isinstance(event, Call))
    return reasoning, content, calls


class OutputParser:
    """Events of one answer, as soon as they are certain: only what could begin a marker, blanks
    before it, and calls that are not whole yet are held back. With ``tools`` False nothing is
    taken for a call."""

    def __init__(self, syntax: OutputSyntax, *, tools: bool) -> None:
        self._syntax = syntax
        self._tools = syntax.tools if tools else ""
        self._marker = _OPENERS.get(self._tools, "")
        self._state: Literal["start", "reasoning", "content", "call"]
        self._state = "start" if syntax.think_open else "content"
        self._held = ""
        self._blank = ""  # stood before a call that is not whole yet
        self._skip_blanks = False
        self._said = False  # something but reasoning
        self._events: list[Event] = []

    def push(self, text: str) -> list[Event]:
        self._held += text
        return self._run(last=False)

    def finish(self) -> list[Event]:
        """The rest, once the answer is over."""
        return self._run(last=True)

    def _run(self, *, last: bool) -> list[Event]:
        while self._held and self._step(last):
            pass
        events, self._events = self._events, []
        return events

    # States: each returns whether another one has to look at what is held.

    def _step(self, last: bool) -> bool:
        match self._state:
            case "start":
                return self._start(last)
            case "reasoning":
                return self._reasoning(last)
            case "content":
                return self._content(last)
            case "call":
                return self._call(last)

    def _start(self, last: bool) -> bool:
        opener, text = self._syntax.think_open, self._held.lstrip()
        if text.startswith(opener):
            self._state, self._held = "reasoning", text[len(opener) :]
            self._skip_blanks = True
        elif opener.startswith(text) and not last:
            return False
        else:
            self._state = "content"
        return True

    def _reasoning(self, last: bool) -> bool:
        before, close, after = self._held.partition(self._syntax.think_close)
        if close:
            self._say(Reasoning, before.rstrip())
            self._state, self._held, self._skip_blanks = "content", after, True
            return True
        self._say_certain(Reasoning, self._syntax.think_close, last)
        return False

    def _content(self, last: bool) -> bool:
        if self._tools == "llama" and not self._said:
            text = self._held.lstrip()
            if text.startswith("{"):
                self._state, self._blank = "call", ""
                return True
            if not text and not last:
                return False
        if not self._marker:
            self._say(Content, self._held)
            self._held = ""
            return False
        before, marker, after = self._held.partition(self._marker)
        if marker:
            text = before.rstrip()
            self._say(Content, text)
            self._state, self._blank = "call", before[len(text) :]
            self._held = marker + after
            return True
        self._say_certain(Content, self._marker, last)
        return False

    def _call(self, last: bool) -> bool:
        match self._tools:
            case "hermes":
                return self._hermes(last)
            case "llama":
                return self._llama(last)
            case _:
                return self._mistral(last)

    # Calls.

    def _hermes(self, last: bool) -> bool:
        opened = len(self._marker)
        end = self._held.find(HERMES_CLOSE, opened)
        while end >= 0:
            body, after = self._held[opened:end], end + len(HERMES_CLOSE)
            if calls := call_json.read(body):
                self._give(calls, self._held[after:])
                return True
            if '"' not in _STRING.sub("", body):
                return self._no_call(after)
            end = self._held.find(HERMES_CLOSE, after)  # this one is inside of a string
        if not last:
            return False
        if calls := call_json.read(self._held[opened:]):
            self._give(calls, "")
            return True
        return self._no_call(opened)

    def _llama(self, last: bool) -> bool:
        text = self._held.removeprefix(self._marker)
        if not last:
            marked = len(text) < len(self._held)
            return not marked and not call_json.may_call(text) and self._no_call(0)
        if not (calls := call_json.read(text)):
            return self._no_call(len(self._held))
        self._give(calls, "")
        return True

    def _mistral(self, last: bool) -> bool:
        if not last:
            return False
        calls, position = [], 0
        while self._held.startswith(self._marker, position):
            found, after = call_json.after_marker(self._held, position + len(self._marker))
            if not found:
                break
            calls += found
            position = after + len(self._held[after:]) - len(self._held[after:].lstrip())
        if not calls:
            return self._no_call(len(self._marker))
        self._give(calls, self._held[position:])
        return True

    def _give(self, calls: Iterable[tuple[str, str]], rest: str) -> None:
        for name, arguments in calls:
            id = f"call_{secrets.token_hex(12)}"
            self._events.append(Call(ToolCall(id, name, arguments)))
        self._state, self._held, self._blank = "content", rest, ""
        self._said = self._skip_blanks = True

    def _no_call(self, length: int) -> bool:
        """Blanks and ``length`` characters that were held back are content."""
        self._said = True
        self._say(Content, self._blank + self._held[:length])
        self._state, self._held, self._blank = "content", self._held[length:], ""
        return True

    # Text.

    def _say_certain(self, kind: type[Reasoning | Content], marker: str, last: bool) -> None:
        """All that is held but for blanks and a beginning of ``marker`` at its end."""
        text = self._held
        if last:
            self._say(kind, text.rstrip() if kind is Reasoning else text)
            self._held = ""
            return
        certain = text[: len(text) - overlap(text, marker)].rstrip()
        self._say(kind, certain)
        self._held = text[len(certain) :]

    def _say(self, kind: type[Reasoning | Content], text: str) -> None:
        if self._skip_blanks:
            text = text.lstrip()
        if text:
            self._skip_blanks = False
            self._said = self._said or kind is Content
            self._events.append(kind(text))


def syntax_of(template: str) -> OutputSyntax:
    """Read off a chat template. Where it has no tools of its own, ours are described in hermes'
    way (see `tool_prompt.py`)."""
    opening = closing = ""
    for begin, end in REASONING:
        if end in template:
            opening, closing = begin, end
    return OutputSyntax(opening, closing, dialect(template) or "hermes")


def dialect(template: str) -> Dialect | Literal[""]:
    """How calls are written by the model that a template belongs to; empty if it knows none, or
    writes them in a way that is not read here."""
    if any(foreign in template for foreign in _FOREIGN):
        return ""
    if MISTRAL_OPEN in template:
        return "mistral"
    if HERMES_OPEN in template:
        return "hermes"
    return "llama" if '"parameters": ' in template and "ipython" in template else ""


def marks(syntax: OutputSyntax) -> tuple[str, ...]:
    """Texts that must be seen in an answer even if they are control tokens of the model."""
    tools = {
        "hermes": (HERMES_OPEN, HERMES_CLOSE),
        "mistral": (MISTRAL_OPEN, "[CALL_ID]", "[ARGS]"),
        "llama": (LLAMA_TAG,),
        "": (),
    }[syntax.tools]
    return tuple(mark for mark in (syntax.think_open, syntax.think_close, *tools) if mark)
