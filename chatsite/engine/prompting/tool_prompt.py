"""Tools in a prompt: native to the template, or described in words where it supports none."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, Protocol

from chatsite.engine.contract.backend import BadParameters
from chatsite.engine.contract.messages import (
    ChatMessage,
    OutputSyntax,
    PromptOptions,
    Tool,
    ToolCall,
)
from chatsite.engine.grammar import json_keys
from chatsite.engine.grammar.text_language import quoted
from chatsite.engine.prompting import harmony
from chatsite.engine.prompting.masking import decoded
from chatsite.engine.prompting.output import HERMES_CLOSE, HERMES_OPEN, LLAMA_TAG, MISTRAL_OPEN


class SchemaToGbnf(Protocol):
    """See `schema.to_gbnf`."""

    def __call__(self, schema: Any, also: Mapping[str, Any] | None = None) -> str: ...


_WORDS: Final = (
    "You may call functions to help with the request. Each line between <tools> and </tools> "
    "describes one:\n<tools>\n{tools}\n</tools>\n\nTo call a function, answer with nothing but "
    "{how}"
)
# Each in the syntax that the answer is parsed in (see `output.py`).
_HOW: Final = {
    "llama": "a JSON object:\n{call}",
    "mistral": "a list of JSON objects behind a mark:\n{call}",
    "harmony": "a JSON object in a message to that function:\n{call}",
}
_HOW_MARKED: Final = "a JSON object inside tags:\n{call}"
_HERMES: Final = OutputSyntax(tools="hermes")
_ROOT = re.compile(r"^root ::=", re.MULTILINE)


class UnknownTool(ValueError):
    """`tool_choice` names no tool of the request."""


def as_dicts(tools: Sequence[Tool]) -> list[dict[str, Any]]:
    """Return tools in the shape that templates with tools expect."""
    return [
        {
            "type": "function",
            "function": {
                "name": tool.name,
                "description": tool.description,
                "parameters": tool.parameters or {"type": "object", "properties": {}},
            },
        }
        for tool in tools
    ]


def message_dict(
    message: ChatMessage,
    *,
    short_ids: bool = False,
    parts: bool = False,
    arguments: Literal["object", "string"] = "object",
) -> dict[str, Any]:
    """Return a message in the shape that templates expect.

    ``short_ids``: Mistral's templates refuse IDs other than nine letters and digits. ``parts``: the
    content is a list of parts. ``arguments`` of calls are objects, or JSON text.
    """
    name = _short if short_ids else str
    content = [{"type": "text", "text": message.content}] if parts else message.content
    plain: dict[str, Any] = {"role": message.role, "content": content}
    if message.reasoning:
        # Templates use different names for it.
        plain |= dict.fromkeys(("reasoning_content", "reasoning", "thinking"), message.reasoning)
    if message.tool_calls:
        plain["tool_calls"] = [
            {
                "id": name(call.id),
                "type": "function",
                "function": {"name": call.name, "arguments": _arguments(call, arguments)},
            }
            for call in message.tool_calls
        ]
    if message.role == "tool":
        plain |= {"tool_call_id": name(message.tool_call_id), "name": message.tool_name}
    return plain


def _arguments(call: ToolCall, shape: Literal["object", "string"]) -> Any:
    """Return the arguments of a call as an object, which templates expect, or as its JSON text."""
    value = decoded(call.arguments)
    if not isinstance(value, dict):
        value = {} if value in (None, "") else {"value": value}
    return json.dumps(value, ensure_ascii=False) if shape == "string" else value


def in_words(
    messages: Sequence[ChatMessage], tools: Sequence[Tool], syntax: OutputSyntax = _HERMES
) -> list[ChatMessage]:
    """Convert a conversation with tools for a template without tools.

    Tools are described in the first system message, calls are part of the answers' text in
    ``syntax``, and results become user messages.
    """
    told: list[ChatMessage] = []
    for message in (_message_in_words(one, syntax) for one in messages):
        if told and told[-1].role == message.role == "user":
            both = f"{told.pop().content}\n{message.content}"
            told.append(ChatMessage("user", both))
        else:
            told.append(message)
    if not tools:
        return told
    lines = "\n".join(json.dumps(tool, ensure_ascii=False) for tool in as_dicts(tools))
    how = _HOW.get(syntax.tools, _HOW_MARKED).format(call=_written([("function", "{}")], syntax))
    words = _WORDS.format(tools=lines, how=how)
    if told and told[0].role == "system":
        return [ChatMessage("system", f"{told[0].content}\n\n{words}"), *told[1:]]
    return [ChatMessage("system", words), *told]


def _message_in_words(message: ChatMessage, syntax: OutputSyntax) -> ChatMessage:
    if message.role == "tool":
        return ChatMessage("user", f"<tool_response>\n{message.content}\n</tool_response>")
    if not message.tool_calls:
        return message
    calls = _written([(call.name, call.arguments) for call in message.tool_calls], syntax)
    return ChatMessage("assistant", f"{message.content}\n{calls}".strip())


def _written(calls: Sequence[tuple[str, str]], syntax: OutputSyntax) -> str:
    """Return calls (names and JSON arguments) as a model of that syntax writes them."""
    if syntax.tools == "harmony":
        return "".join(
            f"{harmony.CHANNEL}commentary to=functions.{name} {harmony.CONSTRAIN}json"
            f"{harmony.MESSAGE}{arguments}{harmony.CALL}"
            for name, arguments in calls
        )
    field = "parameters" if syntax.tools == "llama" else "arguments"
    objects = [
        f'{{"name": {json.dumps(name, ensure_ascii=False)}, "{field}": {arguments}}}'
        for name, arguments in calls
    ]
    if syntax.tools == "mistral":
        return f"{MISTRAL_OPEN}[{', '.join(objects)}]"
    if syntax.tools == "llama":
        return "; ".join(objects)
    if syntax.tools == "marked":
        return f"{syntax.call_open}[{', '.join(objects)}]{syntax.call_close}"
    return "\n".join(f"{HERMES_OPEN}\n{one}\n{HERMES_CLOSE}" for one in objects)


def call_grammar(
    options: PromptOptions,
    syntax: OutputSyntax,
    to_gbnf: SchemaToGbnf,
    answer: dict[str, Any] | None = None,
) -> str | None:
    """Return the GBNF of an answer with tool calls, or None if no constraint is needed.

    Where `tool_choice` requires a call, it allows exactly one in the model's syntax. Where it
    leaves the choice and ``answer`` is the schema of the answer, it allows calls or such an answer.
    Raise `UnknownTool`, and errors of ``to_gbnf``.
    """
    free = options.tool_choice == "auto"
    if not options.tools or options.tool_choice == "none" or (free and answer is None):
        return None
    chosen = options.tools
    if options.tool_choice not in {"required", "auto"}:
        chosen = tuple(tool for tool in options.tools if tool.name == options.tool_choice)
        if not chosen:
            names = ", ".join(tool.name for tool in options.tools)
            raise UnknownTool(f"tool_choice is {options.tool_choice!r}; the tools are {names}")
    field = "parameters" if syntax.tools == "llama" else "arguments"
    # Each schema is a separate document: its references are to its own parts.
    arguments = {
        f"arguments-{number}": tool.parameters or {"type": "object", "properties": {}}
        for number, tool in enumerate(chosen)
    }
    try:
        rules = _ROOT.sub("content ::=", to_gbnf(answer if free else True, arguments))
    except BadParameters:
        _name_tool(chosen, to_gbnf)
        raise
    calls = [
        f'"{{" ws "\\"name\\":" ws {quoted(json.dumps(tool.name, ensure_ascii=False))} "," ws '
        f'"\\"{field}\\":" ws {rule} ws "}}"'
        for tool, rule in zip(chosen, arguments, strict=True)
    ]
    lines = [rules, f"call ::= {' | '.join(calls)}"]
    marked = {
        "hermes": f'"{HERMES_OPEN}\\n" call "\\n{HERMES_CLOSE}"',
        "mistral": f'"{MISTRAL_OPEN}" "[" call "]"',
        "llama": f'("{LLAMA_TAG}")? call',
        "marked": f"{json.dumps(syntax.call_open)} call {json.dumps(syntax.call_close)}",
        "harmony": f"{json.dumps(harmony.FORCED)} call",
    }.get(syntax.tools, "call")
    if not free:
        return "\n".join([*lines, f"root ::= {marked}\n"])
    if syntax.tools == "hermes":
        marked = f'{marked} ( "\\n" {marked} )*'
    elif syntax.tools == "mistral":
        marked = f'"{MISTRAL_OPEN}" "[" call ( "," " "? call )* "]"'
    opening = f"{json.dumps(harmony.ANSWER_OPEN)} " if syntax.tools == "harmony" else ""
    return "\n".join([*lines, f"root ::= {opening}content | {marked}\n"])


def _name_tool(tools: Sequence[Tool], to_gbnf: SchemaToGbnf) -> None:
    """Raise `BadParameters` with the name of the first tool whose parameters are refused."""
    for tool in tools:
        try:
            to_gbnf(tool.parameters)
        except BadParameters as error:
            raise BadParameters(f"the parameters of tool {tool.name!r}: {error}") from None


def behind_reasoning(grammar: str, syntax: OutputSyntax) -> str:
    """Return the grammar for an answer whose reasoning the template has opened.

    The reasoning is unconstrained up to its closing mark.
    """
    rules = json_keys.behind(_ROOT.sub("answer ::=", grammar), syntax.think_close)
    first, second = (_in_class(char) for char in syntax.think_close[:2])
    free = f"([^{first}] | [{first}] [^{second}])*"
    return f"{rules}\nroot ::= {free} {json.dumps(syntax.think_close)} [ \\n]* answer\n"


def _in_class(char: str) -> str:
    return f"\\{char}" if char in "[]\\^-" else char


def _short(id: str) -> str:
    return hashlib.sha256(id.encode("utf-8", "replace")).hexdigest()[:9]
