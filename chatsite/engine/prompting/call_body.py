"""Parses the text between the marks of a tool call, in any of the forms that models learn.

``json``        ``{"name": …, "arguments": {…}}``, several of them, or a list (`call_json.py`)
``keyed``       ``[{"name": {…}}]``, with the names as keys (Apertus)
``named``       ``name{…}``, with marks around the name (DeepSeek, Kimi)
``functions``   ``<function=name><parameter=key>value</parameter></function>`` (Qwen3-Coder)
``invocations`` ``<invoke name="…"><parameter name="key">value</parameter></invoke>`` (MiniMax)
``pairs``       ``name<arg_key>key</arg_key><arg_value>value</arg_value>`` (GLM)

A call is a name and the text of a JSON object. Text that contains anything else gives no calls,
never an error. `partial` parses a call that was cut.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final, NamedTuple

from chatsite.engine.prompting import call_json

# JSON schemas of the arguments, by the name of the function.
Schemas = Mapping[str, Mapping[str, Any]]
NO_SCHEMAS: Final[Schemas] = MappingProxyType({})
NamedCall = tuple[str, str]

_MARK: Final = r"<[^<>\s]{1,60}>"
_NAMED = re.compile(
    rf"(?:\s|{_MARK}|function(?={_MARK}))*(?:functions\.)?([\w.\-]+)(?::\d+)?"
    rf"(?:{_MARK}|\s|```json|\[CALL_ID\]\s*[\w\-]+|\[ARGS\])*(?=\{{)"
)
_AFTER_NAMED = re.compile(rf"(?:\s|```|{_MARK})*")


class _Tags(NamedTuple):
    """A tagged form: a call with its name and body, and in the body a key and its value.

    The closing tags are searched first, so that a text without them is not searched again from each
    opening tag.
    """

    call: re.Pattern[str]
    call_close: str
    value: re.Pattern[str]
    value_close: str


_FORMS: Final = (
    _Tags(
        re.compile(r"<function=([^<>\s]+)>(.*?)</function>", re.DOTALL),
        "</function>",
        re.compile(r"<parameter=([^<>\s]+)>(.*?)</parameter>", re.DOTALL),
        "</parameter>",
    ),
    _Tags(
        re.compile(r'<invoke name="([^"<>]+)">(.*?)</invoke>', re.DOTALL),
        "</invoke>",
        re.compile(r'<parameter name="([^"<>]+)"[^<>]*>(.*?)</parameter>', re.DOTALL),
        "</parameter>",
    ),
)
_PAIRS = _Tags(
    re.compile(r"\s*([\w.\-]+)\s*((?=<arg_key>).*|$)", re.DOTALL),
    "",
    re.compile(r"<arg_key>\s*([^<>]*?)\s*</arg_key>\s*<arg_value>(.*?)</arg_value>", re.DOTALL),
    "</arg_value>",
)
_BEGUN = re.compile(r'\s*(?:<function=([^<>\s]+)>|<invoke name="([^"<>]+)">)')
_NAME = re.compile(r'"(?:name|tool_name)"\s*:\s*("(?:[^"\\]|\\.)*")')
_ARGUMENTS = re.compile(r'"(?:arguments|parameters)"\s*:\s*(?=\{)')
_LITERALS: Final = {"True": True, "False": False, "None": None}
_TRIES: Final = 100  # positions at which `closed` may cut


def read(text: str, schemas: Schemas = NO_SCHEMAS) -> list[NamedCall]:
    """Return the calls if ``text`` consists of calls only, else none.

    ``schemas`` tell which values of tagged forms, which have no quotes, are strings.
    """
    stripped = text.strip()
    if not stripped:
        return []
    if calls := call_json.read(stripped) or _keyed(stripped):
        return calls
    for form in _FORMS:
        if calls := _tagged(stripped, form, schemas):
            return calls
    match = _PAIRS.call.fullmatch(stripped)
    # A lone word is a call only if a function has that name.
    if match and (match[2] or match[1] in schemas):
        values = _values(match[2], _PAIRS, schemas.get(match[1]))
        return [] if values is None else [(match[1], call_json.dumped(values))]
    return _named(stripped)


def partial(text: str, schemas: Schemas = NO_SCHEMAS) -> NamedCall | None:
    """Return the call in which ``text`` was cut, with as much of its arguments as there is.

    None if its name is incomplete.
    """
    if begun := _BEGUN.match(text):
        name = begun[1] or begun[2]
        return name, _begun(text, _FORMS[0 if begun[1] else 1], schemas.get(name))
    if "<arg_key>" in text and (match := _PAIRS.call.match(text)):
        return match[1], _begun(text, _PAIRS, schemas.get(match[1]))
    stripped = text.lstrip()
    if not stripped.startswith(("{", "[")):
        named = _NAMED.match(stripped)
        return (named[1], stripped[named.end() :].rstrip()) if named else None
    if not (match := _NAME.search(stripped)):
        return None
    arguments = ""
    if given := _ARGUMENTS.search(stripped):
        value, end = call_json.decode(stripped, given.end())
        complete = isinstance(value, dict)
        arguments = stripped[given.end() : end if complete else len(stripped)]
    try:
        return str(json.loads(match[1], strict=False)), arguments
    except ValueError:
        return None


def closed(arguments: str) -> dict[str, Any]:
    """Return the object that a truncated JSON object contains so far.

    Open strings, lists and objects are closed; an incomplete key or value is left out.
    """
    end = len(arguments)
    for _ in range(_TRIES):
        text = _closing(arguments[:end])
        value, stop = call_json.decode(text, 0)
        if isinstance(value, dict) and stop == len(text):
            return value
        end = max(arguments.rfind(mark, 0, end) for mark in ',}]"{[')
        if end <= 0:
            break
    return {}


def _closing(text: str) -> str:
    """Return ``text`` with its open strings, lists and objects closed."""
    open_: list[str] = []
    quoted = escaped = False
    for char in text:
        if escaped:
            escaped = False
        elif quoted:
            escaped, quoted = char == "\\", char != '"'
        elif char == '"':
            quoted = True
        elif char in "{[":
            open_.append("}" if char == "{" else "]")
        elif char in "}]" and open_:
            open_.pop()
    end = '"' if quoted else ""
    return text.rstrip().removesuffix(",") + end + "".join(reversed(open_))


def _keyed(text: str) -> list[NamedCall]:
    """Return the calls of a list or object whose keys are names."""
    value, end = call_json.decode(text, 0)
    items = value if isinstance(value, list) else [value]
    if end != len(text) or not all(isinstance(one, dict) and len(one) == 1 for one in items):
        return []
    calls = [pair for one in items for pair in one.items()]
    if not all(isinstance(arguments, dict) for _, arguments in calls):
        return []
    return [(name, call_json.dumped(arguments)) for name, arguments in calls]


def _tagged(text: str, form: _Tags, schemas: Schemas) -> list[NamedCall]:
    if not text.endswith(form.call_close) or form.call.sub("", text).strip():
        return []
    calls = []
    for name, body in form.call.findall(text):
        values = _values(body, form, schemas.get(name))
        if values is None:
            return []
        calls.append((name, call_json.dumped(values)))
    return calls


def _named(text: str) -> list[NamedCall]:
    calls: list[NamedCall] = []
    position = 0
    while position < len(text):
        match = _NAMED.match(text, position)
        if not match:
            return []
        value, end = call_json.decode(text, match.end())
        if not isinstance(value, dict):
            return []
        calls.append((match[1], call_json.dumped(value)))
        after = _AFTER_NAMED.match(text, end)
        position = after.end() if after else end
    return calls


def _values(body: str, form: _Tags, schema: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return the arguments if ``body`` consists of arguments only, else None."""
    if not (body := body.strip()):
        return {}
    if not body.endswith(form.value_close) or form.value.sub("", body).strip():
        return None
    return _typed(body, form, schema)


def _begun(text: str, form: _Tags, schema: Mapping[str, Any] | None) -> str:
    """Return the complete arguments as the beginning of a JSON object."""
    whole = text[: text.rfind(form.value_close) + len(form.value_close)]
    return call_json.dumped(_typed(whole, form, schema))[:-1]


def _typed(body: str, form: _Tags, schema: Mapping[str, Any] | None) -> dict[str, Any]:
    properties = schema.get("properties") if schema else None
    known = properties if isinstance(properties, dict) else {}
    return {key: _value(text, known.get(key)) for key, text in form.value.findall(body)}


def _value(text: str, schema: Any) -> Any:
    """Return the value of text between tags.

    It is the text itself where the schema requires a string, else its JSON value if it is JSON.
    """
    text = text.removeprefix("\n").removesuffix("\n")
    if isinstance(schema, dict) and schema.get("type") == "string":
        return text
    if text.strip() in _LITERALS:
        return _LITERALS[text.strip()]
    value, end = call_json.decode(stripped := text.strip(), 0)
    return value if end == len(stripped) and stripped else text
