"""Determines what a chat template does with messages, by rendering probes when it is loaded.

A template does not declare whether it takes system messages or tools, requires alternating turns,
or drops what it does not expect. So short conversations of unique words are rendered, and the words
that reach the prompt are the answer. No list of model families is needed.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal, Protocol

import msgspec

from chatsite.engine.contract.messages import PLAIN, ChatMessage, OutputSyntax, Tool, ToolCall
from chatsite.engine.prompting.output import REASONING, dialect, marks_in, split, syntax_of

# Variables by which templates take tools.
_TOOL_VARIABLES: Final = ("tools", "xml_tools")

_USER: Final = ChatMessage("user", "a5e1")
_AGAIN: Final = ChatMessage("user", "c5e3")
_ANSWER: Final = ChatMessage("assistant", "b5e2")
_MORE: Final = ChatMessage("assistant", "b6e2")
_SYSTEM: Final = ChatMessage("system", "d5e4")
_SYSTEM_TOO: Final = ChatMessage("system", "d6e4")
_THOUGHT: Final = "f5e8"
_REASONED: Final = ChatMessage("assistant", "b7e2", reasoning=_THOUGHT)

_SCHEMA: Final = {
    "type": "object",
    "properties": {"h5key": {"type": "string", "description": "h6about"}},
    "required": ["h5key"],
}
_TOOL: Final = Tool("g5name", "g6about", _SCHEMA)
_TOOL_WORDS: Final = (_TOOL.name, _TOOL.description, "h5key")
_CALLS: Final = (
    ToolCall("k5e1k5e1k", _TOOL.name, '{"h5key": "j5value"}'),
    ToolCall("k5e2k5e2k", _TOOL.name, '{"h5key": "j6value"}'),
)
_RESULTS: Final = tuple(
    ChatMessage("tool", text, tool_call_id=call.id, tool_name=call.name)
    for text, call in zip(("m5e1", "m5e2"), _CALLS, strict=True)
)
_LAST_MARK = re.compile(r"(<[^<>\s]+>[\w:]*|\[[A-Z_ ]+\]|◁[^▷]+▷)\s*$")
_FIRST_MARK = re.compile(r"\s*(<[^<>\s]+>|\[[/A-Z_ ]+\]|◁[^▷]+▷)")
_CALL_OPEN = re.compile(r"\s*(<[^<>\s]+>)")
_CALL_CLOSE = re.compile(r"(<[^<>\s]+>)\s*$")

Arguments = Literal["object", "string"]


@dataclass(frozen=True, slots=True)
class Shape:
    """How messages are passed to the template.

    ``parts``: contents are lists of parts. ``arguments`` of calls are objects or JSON text.
    ``tools`` is the variable for tools. ``undefined``: it is left undefined without tools, since
    some templates loop over it unchecked, or only test whether it is defined.
    """

    parts: bool = False
    undefined: bool = False
    arguments: Arguments = "object"
    tools: str = _TOOL_VARIABLES[0]


@dataclass(frozen=True, slots=True)
class Traits:
    """What a template supports.

    ``system``: a first system message reaches the prompt; ``systems``: several do, anywhere;
    ``alone``: even without a user message. ``repeats``: consecutive messages of one role are
    accepted. ``answer_first``: an answer may precede the first question. ``continues``: a
    conversation that ends with an answer is rendered completely. ``native``: tools, calls and
    results are rendered, and a rendered call can be parsed; ``parallel``: so can several of one
    answer. ``thinks``: answers have reasoning that is distinguishable from their content.
    """

    shape: Shape = Shape()
    system: bool = True
    systems: bool = True
    alone: bool = True
    repeats: bool = True
    answer_first: bool = True
    continues: bool = True
    native: bool = False
    parallel: bool = False
    thinks: bool = False
    syntax: OutputSyntax = PLAIN
    marks: tuple[str, ...] = ()  # within calls; must be visible in an answer


class Probe(Protocol):
    """Renders a conversation; empty if the template refuses it.

    Raises an error that ends the probing: the template takes too long or writes too much.
    """

    def __call__(
        self,
        messages: Sequence[ChatMessage],
        shape: Shape,
        tools: Sequence[Tool] = (),
        *,
        prompt: bool = True,
        options: Mapping[str, Any] | None = None,
    ) -> str: ...


def plain_shape(probe: Probe) -> Shape | None:
    """Return the first shape in which a plain conversation reaches the prompt, or None."""
    for shape in (Shape(), Shape(parts=True), Shape(undefined=True)):
        if _holds(probe([_USER, _ANSWER, _AGAIN], shape), "a5e1", "c5e3"):
            return shape
    return None


def find(probe: Probe, shape: Shape, text: str) -> Traits:
    """Return the traits of a template.

    ``text`` is the template's text, for what rendering can't show.
    """

    def takes(*messages: ChatMessage) -> bool:
        return _holds(probe(messages, shape), *(message.content for message in messages))

    system = takes(_SYSTEM, _USER) and takes(_SYSTEM, _USER, _ANSWER, _AGAIN)
    found = Traits(
        shape=shape,
        system=system,
        systems=system
        and takes(_SYSTEM, _SYSTEM_TOO, _USER)
        and takes(_SYSTEM, _USER, _ANSWER, _SYSTEM_TOO, _AGAIN),
        alone=takes(_SYSTEM),
        repeats=takes(_USER, _AGAIN) and takes(_USER, _ANSWER, _MORE, _AGAIN),
        answer_first=takes(_ANSWER, _USER) and (not system or takes(_SYSTEM, _ANSWER, _USER)),
    )
    begun = [*([_SYSTEM] if system else []), _USER, _ANSWER]
    begun_words = [message.content for message in begun]
    found = replace(found, continues=_holds(probe(begun, shape, prompt=False), *begun_words))
    guess = _reasoning(probe, shape, syntax_of(text))
    found = replace(found, thinks=bool(guess.think_close), syntax=guess)
    return _with_tools(probe, found, dialect(text))


def _holds(text: str, *words: str) -> bool:
    return all(word in text for word in words)


# Reasoning.


def _reasoning(probe: Probe, shape: Shape, guess: OutputSyntax) -> OutputSyntax:
    """Return ``guess`` with the marks of reasoning that the template writes or opens."""
    asked = probe([_USER], shape)
    if not guess.think_open:
        opened = (pair for pair in REASONING if asked.rstrip().endswith(pair[0]))
        pair = next(opened, ("", ""))
        guess = msgspec.structs.replace(guess, think_open=pair[0], think_close=pair[1])
    text = probe([_USER, _REASONED], shape, prompt=False)
    before, thought, after = text.partition(_THOUGHT)
    if not thought or _REASONED.content not in after or guess.tools == "harmony":
        return guess
    # The prompt may already have opened the reasoning, or the other answer closed it.
    said = probe([_USER, _ANSWER], shape, prompt=False)
    header = min(_common(text, asked), _common(text, said))
    opening = _LAST_MARK.search(before[min(header, len(before)) :])
    closing = _FIRST_MARK.match(after)
    if not closing or (not opening and not guess.think_open):
        return guess
    mark = opening[1] if opening else guess.think_open
    if (mark, closing[1]) == (guess.think_open, guess.think_close):
        return guess
    return OutputSyntax(mark, closing[1], guess.tools, guess.answer_open, guess.answer_close)


# Tools.


def _with_tools(probe: Probe, found: Traits, guess: str) -> Traits:
    for variable in _TOOL_VARIABLES:
        shape = replace(found.shape, tools=variable)
        told = probe([_USER], shape, [_TOOL])
        also = [_SYSTEM] if found.system else []
        if _holds(told, *_TOOL_WORDS) and _holds(
            probe([*also, _USER], shape, [_TOOL]), *_TOOL_WORDS, *(one.content for one in also)
        ):
            break
    else:
        return found
    for arguments in ("object", "string"):
        native = _native(probe, replace(found, shape=replace(shape, arguments=arguments)), guess)
        if native:
            return native
    return found


def _native(probe: Probe, found: Traits, guess: str) -> Traits | None:
    """Return the traits with native tools, or None.

    Calls and results must reach the prompt, and calls must be parsed from it.
    """
    one, result = _called(1), _RESULTS[:1]
    words = (_CALLS[0].name, "j5value", "m5e1")
    history = probe([_USER, one, *result, _ANSWER, _AGAIN], found.shape, [_TOOL])
    running = probe([_USER, one, *result], found.shape, [_TOOL])
    if not _holds(history, *words, _AGAIN.content) or not _holds(running, *words):
        return None
    region = _region(probe, found.shape, one)
    for syntax in _syntaxes(found.syntax, guess, region):
        if _reads(region, syntax, 1):
            break
    else:
        return None
    both = _called(2)
    several = probe([_USER, both, *_RESULTS, _ANSWER, _AGAIN], found.shape, [_TOOL])
    parallel = _holds(several, "j5value", "j6value", "m5e1", "m5e2") and _reads(
        _region(probe, found.shape, both), syntax, 2
    )
    marks = marks_in(region)
    return replace(found, native=True, parallel=parallel, syntax=syntax, marks=marks)


def _called(count: int) -> ChatMessage:
    return ChatMessage("assistant", "", tool_calls=_CALLS[:count])


def _region(probe: Probe, shape: Shape, message: ChatMessage) -> str:
    """Return what the template writes of an answer with calls, as the model would.

    What surrounds any answer is removed.
    """
    said = probe([_USER, _ANSWER], shape, [_TOOL], prompt=False)
    text = probe([_USER, message], shape, [_TOOL], prompt=False)
    start = min(_common(text, said), text.rfind(_TOOL.name))
    while start > 0 and text[start - 1] not in "\n>]":
        start -= 1  # a call and an answer may begin with the same letters
    end = len(text) - _common(text[start:][::-1], said[::-1])
    while end < len(text) and text[end - 1] not in "\n>]}":
        end += 1  # or end with them
    return text[start:end]


def _syntaxes(known: OutputSyntax, guess: str, region: str) -> list[OutputSyntax]:
    """Return possible syntaxes of a call, the most likely first."""
    think = (known.think_open, known.think_close)
    answer = (known.answer_open, known.answer_close)
    found = [OutputSyntax(*think, guess, *answer)] if guess else []  # type: ignore[arg-type]
    bare = region.rpartition(known.think_close)[2] if known.think_close else region
    opening = _CALL_OPEN.match(bare)
    if opening and _TOOL.name not in opening[1]:
        closing = _CALL_CLOSE.search(bare, opening.end())
        close = closing[1] if closing else ""
        found.append(OutputSyntax(*think, "marked", *answer, opening[1], close))
    return found


def _reads(region: str, syntax: OutputSyntax, count: int) -> bool:
    wanted = [(call.name, call.arguments) for call in _CALLS[:count]]
    # A harmony prompt ends inside a header.
    written = region.removeprefix("assistant") if syntax.tools == "harmony" else region
    _, _, calls = split(written, syntax, tools=True, schemas={_TOOL.name: _SCHEMA})
    return [(call.name, call.arguments) for call in calls] == wanted


def _common(one: str, other: str) -> int:
    """Return the length of the common prefix."""
    most = min(len(one), len(other))
    return next((at for at in range(most) if one[at] != other[at]), most)
