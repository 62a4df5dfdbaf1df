"""Tools in a prompt: as templates expect them, or told in words where a template knows none."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Sequence
from typing import Any, Final

from chatsite.engine.backend import BadParameters
from chatsite.engine.masking import decoded
from chatsite.engine.messages import ChatMessage, OutputSyntax, PromptOptions, Tool
from chatsite.engine.output import (
    HERMES_CLOSE,
    HERMES_OPEN,
    LLAMA_TAG,
    MISTRAL_OPEN,
    Dialect,
)

SchemaToGbnf = Callable[[dict[str, Any]], str]

_WORDS: Final = (
    "You may call functions to help with the request. Each line between <tools> and </tools> "
    "describes one:\n<tools>\n{tools}\n</tools>\n\nTo call a function, answer with nothing but "
    "{how}"
)
# Each in the dialect that the answer is read in (see `output.py`).
_HOW: Final[dict[Dialect, str]] = {
    "hermes": "a JSON object inside tags:\n{call}",
    "llama": "a JSON object:\n{call}",
    "mistral": "a list of JSON objects behind a mark:\n{call}",
}
_MAX_DEPTH: Final = 40
_ROOT = re.compile(r"^root ::=", re.MULTILINE)


class UnknownTool(ValueError):
    """`tool_choice` names none of the tools."""


def as_dicts(tools: Sequence[Tool]) -> list[dict[str, Any]]:
    """The shape that templates of models with tools read."""
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


def message_dict(message: ChatMessage, *, short_ids: bool = False) -> dict[str, Any]:
    """One message as templates read it; arguments of calls are objects there. ``short_ids``:
    Mistral's templates refuse ids of other than nine letters and digits."""
    name = _short if short_ids else str
    plain: dict[str, Any] = {"role": message.role, "content": message.content}
    if message.reasoning:
        plain["reasoning_content"] = message.reasoning
    if message.tool_calls:
        plain["tool_calls"] = [
            {
                "id": name(call.id),
                "type": "function",
                "function": {"name": call.name, "arguments": decoded(call.arguments)},
            }
            for call in message.tool_calls
        ]
    if message.role == "tool":
        plain |= {"tool_call_id": name(message.tool_call_id), "name": message.tool_name}
    return plain


def in_words(
    messages: Sequence[ChatMessage], tools: Sequence[Tool], dialect: Dialect = "hermes"
) -> list[ChatMessage]:
    """The same conversation for a template without tools: they are described in the system
    message, calls stand in the answers' text as ``dialect`` writes them, and results are the
    user's."""
    told: list[ChatMessage] = []
    for message in (_message_in_words(one, dialect) for one in messages):
        if told and told[-1].role == message.role == "user":
            both = f"{told.pop().content}\n{message.content}"
            told.append(ChatMessage("user", both))
        else:
            told.append(message)
    if not tools:
        return told
    lines = "\n".join(json.dumps(tool, ensure_ascii=False) for tool in as_dicts(tools))
    how = _HOW[dialect].format(call=_written([("function", "{}")], dialect))
    words = _WORDS.format(tools=lines, how=how)
    if told and told[0].role == "system":
        return [ChatMessage("system", f"{told[0].content}\n\n{words}"), *told[1:]]
    return [ChatMessage("system", words), *told]


def _message_in_words(message: ChatMessage, dialect: Dialect) -> ChatMessage:
    if message.role == "tool":
        return ChatMessage("user", f"<tool_response>\n{message.content}\n</tool_response>")
    if not message.tool_calls:
        return message
    calls = _written([(call.name, call.arguments) for call in message.tool_calls], dialect)
    return ChatMessage("assistant", f"{message.content}\n{calls}".strip())


def _written(calls: Sequence[tuple[str, str]], dialect: Dialect) -> str:
    """Names and JSON arguments, as a model of the dialect writes its calls."""
    field = "parameters" if dialect == "llama" else "arguments"
    objects = [
        f'{{"name": {json.dumps(name, ensure_ascii=False)}, "{field}": {arguments}}}'
        for name, arguments in calls
    ]
    if dialect == "mistral":
        return f"{MISTRAL_OPEN}[{', '.join(objects)}]"
    if dialect == "llama":
        return "; ".join(objects)
    return "\n".join(f"{HERMES_OPEN}\n{one}\n{HERMES_CLOSE}" for one in objects)


def call_grammar(options: PromptOptions, syntax: OutputSyntax, to_gbnf: SchemaToGbnf) -> str | None:
    """GBNF of exactly one call in the model's dialect where `tool_choice` asks for one; None
    where it does not. Raises `UnknownTool`, and what ``to_gbnf`` raises."""
    if options.tool_choice in {"auto", "none"} or not options.tools:
        return None
    chosen = options.tools
    if options.tool_choice != "required":
        chosen = tuple(tool for tool in options.tools if tool.name == options.tool_choice)
        if not chosen:
            names = ", ".join(tool.name for tool in options.tools)
            raise UnknownTool(f"tool_choice is {options.tool_choice!r}; the tools are {names}")
    field = "parameters" if syntax.tools == "llama" else "arguments"
    shapes = [
        {
            "type": "object",
            "properties": {
                "name": {"const": tool.name},
                field: inlined(tool.parameters) or {"type": "object", "properties": {}},
            },
            "required": ["name", field],
        }
        for tool in chosen
    ]
    rules = _ROOT.sub("call ::=", to_gbnf(shapes[0] if len(shapes) == 1 else {"anyOf": shapes}))
    around = {
        "hermes": f'"{HERMES_OPEN}\\n" call "\\n{HERMES_CLOSE}"',
        "mistral": f'"{MISTRAL_OPEN}" "[" call "]"',
        "llama": f'("{LLAMA_TAG}")? call',
    }
    return f"{rules}\nroot ::= {around.get(syntax.tools, 'call')}\n"


def behind_reasoning(grammar: str, syntax: OutputSyntax) -> str:
    """The grammar for an answer whose reasoning the template has begun: that is free, and ends."""
    rules = _ROOT.sub("answer ::=", grammar)
    free = r'([^<\[] | "<" [^/] | "[" [^/])*'
    return f"{rules}\nroot ::= {free} {json.dumps(syntax.think_close)} [ \\n]* answer\n"


def inlined(schema: dict[str, Any]) -> dict[str, Any]:
    """The schema with its references to parts of itself replaced by those: inside another
    schema they would point elsewhere. Raises `BadParameters` for one that contains itself."""

    def resolve(value: Any, depth: int) -> Any:
        if depth > _MAX_DEPTH:
            raise BadParameters("the parameters of a tool refer to themselves, or are too deep")
        if isinstance(value, list):
            return [resolve(one, depth + 1) for one in value]
        if not isinstance(value, dict):
            return value
        path = value.get("$ref")
        if isinstance(path, str) and path.startswith("#/"):
            found: Any = schema
            for part in path[2:].split("/"):
                found = found.get(part) if isinstance(found, dict) else None
            if found is None:
                raise BadParameters(f"the parameters of a tool refer to {path}, which is not there")
            return resolve(found, depth + 1)
        return {key: resolve(one, depth + 1) for key, one in value.items() if key != "$defs"}

    resolved: dict[str, Any] = resolve(schema, 0)
    return resolved


def _short(id: str) -> str:
    return hashlib.sha256(id.encode("utf-8", "replace")).hexdigest()[:9]
