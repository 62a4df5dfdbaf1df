"""Parses a model's raw text into reasoning, content and tool calls. Pure, and incremental.

The text of a generation is published as the model wrote it, and contains the marks of its reasoning
and calls (`OutputSyntax`); each reader parses it. Syntaxes of calls:

``hermes``   ``<tool_call>{"name": …, "arguments": {…}}</tool_call>``, any number of them
``marked``   the same between the model's own marks
``llama``    the whole answer, or the text after ``<|python_tag|>``, is
             ``{"name": …, "parameters": {…}}``, or several separated by ``;``
``mistral``  ``[TOOL_CALLS]`` and a JSON list of calls, or a name and its arguments
``harmony``  messages with headers: see `harmony.py`

Between the marks of the first two, any form of `call_body.py` is accepted. Text that only looks
like a call is content: nothing but whitespace around markers is lost.
"""

from __future__ import annotations

import re
import secrets
from collections.abc import Iterable
from typing import Final, Literal

import msgspec

from chatsite.engine.contract.messages import OutputSyntax, ToolCall
from chatsite.engine.prompting import call_body, call_json, harmony
from chatsite.engine.prompting.call_body import NO_SCHEMAS, Schemas
from chatsite.engine.prompting.detokenize import overlap

HERMES_OPEN: Final = "<tool_call>"
HERMES_CLOSE: Final = "</tool_call>"
LLAMA_TAG: Final = "<|python_tag|>"
MISTRAL_OPEN: Final = "[TOOL_CALLS]"
# Opening and closing marks of reasoning that known models write.
REASONING: Final = (
    ("<think>", "</think>"),
    ("[think]", "[/think]"),
    ("<THINK>", "</THINK>"),
    ("[THINK]", "[/THINK]"),
    ("<thinking>", "</thinking>"),
    ("<thought>", "</thought>"),
    ("<reasoning>", "</reasoning>"),
    ("<seed:think>", "</seed:think>"),
    ("<|START_THINKING|>", "<|END_THINKING|>"),
    ("◁think▷", "◁/think▷"),
    ("<|inner_prefix|>", "<|inner_suffix|>"),
    ("<|channel>thought", "<channel|>"),
    ("Here are my reasoning steps:", "[BEGIN FINAL RESPONSE]"),
    (harmony.THINK_OPEN, harmony.THINK_CLOSE),
)
# Marks that enclose the answer after it.
_ANSWERS: Final = (
    ("<response>", "</response>"),
    ("<answer>", "</answer>"),
    ("<|START_RESPONSE|>", "<|END_RESPONSE|>"),
    ("<|START_TEXT|>", "<|END_TEXT|>"),
    ("", "[END FINAL RESPONSE]"),
)
_OPENERS = {"hermes": HERMES_OPEN, "llama": LLAMA_TAG, "mistral": MISTRAL_OPEN}
_MARK = re.compile(r"<[^<>\s]+>|\[[^\[\]\s]+\]")

# Unclosed marks that are parsed as a call; after that only the last one is.
_UNCLOSED_READS_MAX: Final = 8
_QUOTE = re.compile(r'["\\]')
_SPACE = re.compile(r"\s*")


class Reasoning(msgspec.Struct, frozen=True):
    """A piece of reasoning."""

    text: str


class Content(msgspec.Struct, frozen=True):
    """A piece of content."""

    text: str


class Call(msgspec.Struct, frozen=True):
    """A call with a unique ID.

    ``whole`` False: the answer was cut in it, and its arguments are the beginning of a JSON object.
    """

    call: ToolCall
    whole: bool = True


Event = Reasoning | Content | Call
Dialect = Literal["hermes", "llama", "mistral", "marked", "harmony"]


def split(
    text: str, syntax: OutputSyntax, *, tools: bool, schemas: Schemas = NO_SCHEMAS
) -> tuple[str, str, tuple[ToolCall, ...]]:
    """Return reasoning, content and calls of a complete text."""
    parser = OutputParser(syntax, tools=tools, schemas=schemas)
    events = parser.push(text) + parser.finish()
    reasoning = "".join(event.text for event in events if isinstance(event, Reasoning))
    content = "".join(event.text for event in events if isinstance(event, Content))
    calls = tuple(event.call for event in events if isinstance(event, Call))
    return reasoning, content, calls


class OutputParser:
    """Yields the events of one answer as soon as they are certain.

    Only a possible start of a marker, whitespace before it and incomplete calls are held back. With
    ``tools`` False nothing is parsed as a call. ``schemas`` of the functions' arguments, by name,
    distinguish strings from numbers where a model writes them without quotes.
    """

    def __init__(self, syntax: OutputSyntax, *, tools: bool, schemas: Schemas = NO_SCHEMAS) -> None:
        self._syntax = syntax
        self._schemas = schemas
        self._tools = syntax.tools if tools else ""
        self._harmony = harmony.Reader() if syntax.tools == "harmony" else None
        self._marker = _OPENERS.get(self._tools, "")
        self._closer = HERMES_CLOSE
        if self._tools == "marked":
            self._marker, self._closer = syntax.call_open, syntax.call_close
        self._state: Literal["start", "reasoning", "content", "call"]
        self._state = "start" if syntax.think_open else "content"
        self._held = ""
        self._blank = ""  # whitespace before an incomplete call
        # State of an incomplete hermes call: where to search for its end, up to where strings have
        # been scanned, and whether that is inside one. No character is scanned twice as text
        # arrives.
        self._searched = self._scanned = 0
        self._quoted = False
        self._unclosed_reads = 0
        self._skip_blanks = False
        self._said = False  # content or a call was emitted
        self._unopened = syntax.answer_open  # mark that may still open the answer
        self._enclosed = "" if syntax.answer_open else syntax.answer_close  # mark that closes it
        self._cut = False
        self._forced = ""
        self._calls = 0
        self._events: list[Event] = []

    def push(self, text: str) -> list[Event]:
        if self._harmony:
            return self._of_harmony(self._harmony.push(text))
        self._held += text
        return self._run(last=False)

    def finish(self, *, cut: bool = False, forced: str = "") -> list[Event]:
        """Return the remaining events at the end of the answer.

        ``cut``: it hit its token limit, so an incomplete call is returned as far as it goes.
        ``forced``: the answer had to be a call of the function with that name, or of any with
        ``*``.
        """
        self._cut, self._forced = cut, forced
        if self._harmony:
            events = self._of_harmony(self._harmony.push("", last=True, cut=cut))
        else:
            events = self._run(last=True)
        if cut and forced not in {"", "*"} and not self._calls and self._state != "reasoning":
            self._add([(forced, "")], whole=False)
            events += self._events
            self._events = []
        return events

    def _run(self, *, last: bool) -> list[Event]:
        while self._held and self._step(last):
            pass
        events, self._events = self._events, []
        return events

    # States: each returns whether the next state must process the held text.

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

    def _of_harmony(self, pieces: list[harmony.Piece]) -> list[Event]:
        for piece in pieces:
            if piece.kind == "reasoning":
                self._events.append(Reasoning(piece.text))
            elif piece.kind == "content" or not self._tools:
                self._events.append(Content(piece.text))
            else:
                self._called(piece)
        events, self._events = self._events, []
        return events

    def _called(self, piece: harmony.Piece) -> None:
        text = piece.text.strip()
        if not piece.name:
            if whole := call_json.read(text):
                self._add(whole)
            elif self._cut and (begun := call_body.partial(text, self._schemas)):
                self._add([begun], whole=False)
            elif not self._cut:
                self._events.append(Content(piece.text))
            return
        value, end = call_json.decode(text, 0)
        if isinstance(value, dict) and end == len(text):
            self._add([(piece.name, call_json.dumped(value))])
        elif self._cut and not piece.whole:
            self._add([(piece.name, text)], whole=False)
        elif not text:
            self._add([(piece.name, "{}")])
        else:
            self._events.append(Content(piece.text))

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
        if self._unopened:
            text = self._held.lstrip()
            if self._unopened.startswith(text) and text != self._unopened and not last:
                return False
            if text.startswith(self._unopened):
                self._held, self._skip_blanks = text[len(self._unopened) :], True
                self._enclosed = self._syntax.answer_close
            self._unopened = ""
            return True
        if not self._marker and not self._enclosed:
            self._say(Content, self._held)
            self._held = ""
            return False
        before, marker, after = self._held, "", ""
        if self._marker:
            before, marker, after = self._held.partition(self._marker)
        if (marker or last) and self._enclosed:
            # The mark ends the answer only if nothing but whitespace follows it; elsewhere it is
            # text.
            text, closing, rest = before.rpartition(self._enclosed)
            if closing and not rest.strip():
                self._enclosed, before = "", text.rstrip()
                if last and not marker:
                    self._held = before
        if marker:
            text = before.rstrip()
            self._say(Content, text)
            self._state, self._blank = "call", before[len(text) :]
            self._held = marker + after
            self._searched = self._scanned = len(marker)
            self._quoted = False
            return True
        self._say_certain(Content, self._marker, last)
        return False

    def _call(self, last: bool) -> bool:
        match self._tools:
            case "hermes" | "marked":
                return self._between_marks(last)
            case "llama":
                return self._llama(last)
            case _:
                return self._mistral(last)

    # Calls.

    def _between_marks(self, last: bool) -> bool:
        opened = len(self._marker)
        while self._closer and (end := self._held.find(self._closer, self._searched)) >= 0:
            self._searched = after = end + len(self._closer)
            if self._in_string(end):
                continue
            if calls := call_body.read(self._held[opened:end], self._schemas):
                self._give(calls, self._held[after:])
                return True
            return self._no_call(after)
        self._searched = max(self._searched, len(self._held) - len(self._closer) + 1)
        if not last:
            return False
        body = self._held[opened:]
        if calls := call_body.read(body, self._schemas):
            self._give(calls, "")
            return True
        if self._breaks_off(body):
            return True
        # No call is closed from here on, so the next mark would parse the same rest.
        self._unclosed_reads += 1
        further = self._held.rfind(self._marker, opened)
        skip = self._unclosed_reads > _UNCLOSED_READS_MAX and further > opened
        return self._no_call(further if skip else opened)

    def _breaks_off(self, body: str) -> bool:
        """Return whether the answer was cut in a call, which is then added as far as it goes.

        Without its name, nothing is added.
        """
        if not self._cut or not self._tools:
            return False
        begun = call_body.partial(body, self._schemas)
        if begun and self._schemas and begun[0] not in self._schemas:
            begun = None
        if not begun and not self._forced and not self._may_begin_call(body):
            return False
        self._add([begun] if begun else [], whole=False)
        self._held = self._blank = ""
        return True

    def _may_begin_call(self, body: str) -> bool:
        """Return whether a call may have been cut before the end of its name.

        JSON, and text that only mentions a mark, are content.
        """
        text = body.strip()
        marked = self._marker and self._held.startswith(self._marker)
        named = any(name.startswith(text) for name in self._schemas)
        return bool(marked) and (named or text.startswith(("{", "[", "<function", "<invoke")))

    def _in_string(self, end: int) -> bool:
        """Return whether the held character at ``end`` is inside a JSON string."""
        while (found := _QUOTE.search(self._held, self._scanned, end)) is not None:
            escape = found[0] == "\\"
            # Outside a string a backslash has no meaning.
            self._scanned = found.end() + (escape and self._quoted)
            self._quoted ^= not escape
        self._scanned = max(self._scanned, end)
        return self._quoted

    def _llama(self, last: bool) -> bool:
        text = self._held.removeprefix(self._marker)
        if not last:
            marked = len(text) < len(self._held)
            return not marked and not call_json.may_call(text) and self._no_call(0)
        if calls := call_json.read(text):
            self._give(calls, "")
            return True
        return self._breaks_off(text) or self._no_call(len(self._held))

    def _mistral(self, last: bool) -> bool:
        if not last:
            return False
        calls, position = [], 0
        while self._held.startswith(self._marker, position):
            found, after = call_json.after_marker(self._held, position + len(self._marker))
            if not found:
                break
            calls += found
            space = _SPACE.match(self._held, after)
            position = space.end() if space else after
        begun = self._held.startswith(self._marker, position)
        if self._cut and begun:
            self._add(calls)
            return self._breaks_off(self._held[position + len(self._marker) :])
        if not calls:
            return self._no_call(len(self._marker))
        self._give(calls, self._held[position:])
        return True

    def _add(self, calls: Iterable[tuple[str, str]], *, whole: bool = True) -> None:
        for name, arguments in calls:
            id = f"call_{secrets.token_hex(12)}"
            self._events.append(Call(ToolCall(id, name, arguments), whole))
            self._calls += 1

    def _give(self, calls: Iterable[tuple[str, str]], rest: str) -> None:
        self._add(calls)
        self._state, self._held, self._blank = "content", rest, ""
        self._said = self._skip_blanks = True

    def _no_call(self, length: int) -> bool:
        """Emit the held whitespace and ``length`` held characters as content."""
        self._said = True
        self._say(Content, self._blank + self._held[:length])
        self._state, self._held, self._blank = "content", self._held[length:], ""
        return True

    # Text.

    def _say_certain(self, kind: type[Reasoning | Content], marker: str, last: bool) -> None:
        """Emit the held text except trailing whitespace and a possible start of ``marker``."""
        text = self._held
        if last and self._cut and self._forced and kind is Content:
            text = text[: len(text) - overlap(text, marker)]  # the call's own mark was cut
        if last:
            self._say(kind, text.rstrip() if kind is Reasoning else text)
            self._held = ""
            return
        held = overlap(text, marker)
        if kind is Content and self._enclosed:
            _, closing, rest = text.rpartition(self._enclosed)
            ends = len(closing) + len(rest) if closing and not rest.strip() else 0
            held = max(held, ends, overlap(text, self._enclosed))
        certain = text[: len(text) - held].rstrip()
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
    """Return the syntax that the text of a chat template implies.

    A template without tools gets hermes calls, which `tool_prompt.py` then describes.
    """
    opening = closing = ""
    for begin, end in REASONING:
        if end in template and _names(template, begin, end):
            opening, closing = begin, end
    answer = next(
        (pair for pair in _ANSWERS if pair[0] in template and pair[1] in template), ("",) * 2
    )
    return OutputSyntax(opening, closing, dialect(template) or "hermes", *answer)


def _names(template: str, begin: str, end: str) -> bool:
    """Return whether a template uses these marks.

    Most templates remove earlier reasoning by its closing mark and contain no other. Marks that
    consist of ordinary words must occur in whole.
    """
    if end == harmony.THINK_CLOSE:
        return harmony.CHANNEL in template
    return end[0] in "<[◁" and ("/" in end or begin in template)


def dialect(template: str) -> Dialect | Literal[""]:
    """Return the likely call syntax of a template's model; empty if unknown."""
    if harmony.CHANNEL in template and harmony.MESSAGE in template:
        return "harmony"
    if MISTRAL_OPEN in template:
        return "mistral"
    if HERMES_OPEN in template:
        return "hermes"
    return "llama" if '"parameters": ' in template and "ipython" in template else ""


def marks_in(text: str) -> tuple[str, ...]:
    """Return the distinct texts that look like a model's marks."""
    return tuple(dict.fromkeys(_MARK.findall(text)))


def marks(syntax: OutputSyntax) -> tuple[str, ...]:
    """Return texts that must be visible in an answer even if they are control tokens."""
    tools: dict[str, tuple[str, ...]] = {
        "hermes": (HERMES_OPEN, HERMES_CLOSE),
        "mistral": (MISTRAL_OPEN, "[CALL_ID]", "[ARGS]"),
        "llama": (LLAMA_TAG,),
        "marked": (syntax.call_open, syntax.call_close),
        "harmony": harmony.MARKS,
    }
    whole = (syntax.think_open, syntax.think_close, syntax.answer_open, syntax.answer_close)
    found = [*(mark for mark in whole if mark), *filter(None, tools.get(syntax.tools, ()))]
    return tuple(dict.fromkeys([*found, *(part for mark in found for part in marks_in(mark))]))
