"""Translation of Ollama's chat templates (Go's text/template) to jinja2.

A template that can't be translated faithfully is refused: otherwise the model would silently get a
prompt that its author did not intend. Supported are the fields ``{{ .System }}``, ``{{ .Prompt }}``
and ``{{ .Response }}``, ``if``/``else``/``end`` on them and on roles, ``range .Messages`` with
``.Role`` and ``.Content``, string constants, and the trim marks ``{{-`` and ``-}}``.
"""

from __future__ import annotations

import json
import re
from collections import deque
from collections.abc import Iterator
from functools import lru_cache
from typing import Final

from django.utils.translation import gettext_lazy as _

from chatsite.errors import ChatsiteError

# Published templates have at most 20,000 characters.
MAX_CHARS: Final = 65_536
# Nesting depth of parentheses.
_MAX_DEPTH: Final = 50
# Length of the quoted part in a refusal.
_SHOWN_CHARS: Final = 80
# Go's whitespace.
_BLANKS: Final = " \t\r\n"
_OPEN, _CLOSE = "{{", "}}"

# Each pattern takes linear time, because templates are untrusted input.
_WORD = re.compile(r"[^\s()\"`]+")
_NEXT_IN_ACTION = re.compile(r"\"|`|\}\}")
_NEXT_IN_STRING = re.compile(r"[\"\\\n]")
# Constructs of jinja2 that Go does not have; `_FIELD` matches the reverse.
_JINJA = re.compile(r"\{%|\{\{-?\s*(?:messages|bos_token|eos_token|raise_exception)\b")
_FIELD = re.compile(r"\{\{(?:-\s)?[(\w\s]*[.$]")

# Variables of Go's one-exchange templates: system text, user message, answer.
_LEGACY_HEAD = (
    "{%- set ns = namespace(system='', prompt='', response='') -%}"
    "{%- for message in messages -%}"
    "{%- if message['role'] == 'system' -%}"
    "{%- set ns.system = message['content'] -%}"
)


class UntranslatableTemplate(ChatsiteError, ValueError):
    code = "template_not_supported"
    status = 400
    message = _("This template can't be used.")


def is_go(text: str) -> bool:
    return not _JINJA.search(text) and bool(_FIELD.search(text))


@lru_cache(maxsize=64)
def as_jinja(text: str) -> str:
    """Return the jinja2 form of ``text``, which is ``text`` itself if it is jinja2.

    Takes time linear in the length of ``text``. Raises `UntranslatableTemplate` if it has more than
    `MAX_CHARS` characters, or names the part of a Go template that has no translation.
    """
    if len(text) > MAX_CHARS:
        raise UntranslatableTemplate(
            str(_("The template is too long: it can have at most %s characters.")) % MAX_CHARS
        )
    if not text or not is_go(text):
        return text
    return _Translation(text).result


def _actions(text: str) -> Iterator[tuple[str, str]]:
    """Yield (plain text, code) per action: the text before it, trimmed by its marks.

    The last pair has the rest of the text and no code. The end of an action is searched for outside
    of its strings, as in Go. Raises `UntranslatableTemplate` for an action without end.
    """
    at, trim = 0, False
    while (start := text.find(_OPEN, at)) >= 0:
        plain = text[at:start].lstrip(_BLANKS) if trim else text[at:start]
        inner = start + len(_OPEN)
        if text[inner : inner + 1] == "-" and text[inner + 1 : inner + 2] in _BLANKS:
            plain = plain.rstrip(_BLANKS)
            inner += 1
        end = _end_of_action(text, inner)
        code = text[inner:end]
        trim = len(code) > 1 and code[-1] == "-" and code[-2] in _BLANKS
        yield plain, (code[:-1] if trim else code).strip(_BLANKS)
        at = end + len(_CLOSE)
    yield text[at:].lstrip(_BLANKS) if trim else text[at:], ""


def _end_of_action(text: str, at: int) -> int:
    """Return the position of the ``}}`` of the action that begins at ``at``."""
    code = at
    while text[code : code + 1] in {*_BLANKS}:
        code += 1
    if text.startswith("/*", code):
        closed = text.find("*/", code + 2)
        end = text.find(_CLOSE, closed) if closed >= 0 else -1
        if end < 0:
            raise _refusal("{{/*")
        return end
    while found := _NEXT_IN_ACTION.search(text, at):
        if found[0] == _CLOSE:
            return found.start()
        at = _end_of_string(text, found.start())
    raise _refusal(_OPEN)


def _end_of_string(text: str, start: int) -> int:
    """Return the position after the string that begins at ``start``."""
    if text[start] == "`":
        end = text.find("`", start + 1)
        if end < 0:
            raise _refusal("`")
        return end + 1
    at = start + 1
    while (found := _NEXT_IN_STRING.search(text, at)) and found[0] != "\n":
        if found[0] == '"':
            return found.end()
        at = found.end() + 1
    raise _refusal('"')


def _tokens(code: str) -> deque[str]:
    """Return the strings, parentheses and words of an expression."""
    found: deque[str] = deque()
    at = 0
    while at < len(code):
        if code[at].isspace():
            at += 1
            continue
        if code[at] in "()":
            end = at + 1
        elif code[at] in '"`':
            end = _end_of_string(code, at)
        else:
            word = _WORD.match(code, at)
            end = word.end() if word else at + 1
        found.append(code[at:end])
        at = end
    return found


class _Translation:
    def __init__(self, text: str) -> None:
        self._blocks: list[str] = []
        self._ranges = 0
        parts: list[str] = []
        legacy = ".Messages" not in text
        self._scope = {"System": "ns.system", "Prompt": "ns.prompt", "Response": "ns.response"}
        if not legacy:
            self._scope = {"System": "ns.system"}
        *actions, (tail, _code) = _actions(text)
        for plain, code in actions:
            parts.append(_literal(plain))
            parts.append(self._action(code))
        parts.append(_literal(tail))
        if self._blocks:
            raise _refusal("{{ end }}")
        body = "".join(parts)
        self.result = _legacy(body, text) if legacy else _with_system(body)

    def _action(self, code: str) -> str:
        if code.startswith("/*"):
            return ""
        word, rest = (*code.split(None, 1), "", "")[:2]
        if word == "end":
            if not self._blocks or rest:
                raise _refusal(code)
            block = self._blocks.pop()
            self._ranges -= block == "for"
            return f"{{%- end{block} -%}}"
        if word == "if":
            self._blocks.append("if")
            return f"{{%- if {self._expression(rest)} -%}}"
        if word == "else":
            if not self._blocks or self._blocks[-1] != "if":
                raise _refusal(code)
            if not rest:
                return "{%- else -%}"
            if not rest.startswith("if "):
                raise _refusal(code)
            return f"{{%- elif {self._expression(rest[3:])} -%}}"
        if word == "range":
            if rest not in {".Messages", "$.Messages"} or self._ranges:
                raise _refusal(code)
            self._blocks.append("for")
            self._ranges += 1
            return "{%- for message in messages -%}"
        return f"{{{{- {self._expression(code)} -}}}}"

    def _expression(self, code: str) -> str:
        tokens = _tokens(code)
        value = self._call(tokens)
        if tokens or not value:
            raise _refusal(code)
        return value

    def _call(self, tokens: deque[str], depth: int = 0) -> str:
        """Translate one operand, or a function and its operands up to the parenthesis or end."""
        if depth > _MAX_DEPTH:
            raise _refusal("(" * depth)
        if tokens and tokens[0] in {"eq", "ne", "and", "or", "not"}:
            name = tokens.popleft()
            operands = []
            while tokens and tokens[0] != ")":
                operands.append(self._operand(tokens, depth))
            if name == "not" and len(operands) == 1:
                return f"(not {operands[0]})"
            if name in {"eq", "ne"} and len(operands) == 2:
                return f"({operands[0]} {'==' if name == 'eq' else '!='} {operands[1]})"
            if name in {"and", "or"} and len(operands) >= 2:
                return "(" + f" {name} ".join(operands) + ")"
            raise _refusal(name)
        return self._operand(tokens, depth)

    def _operand(self, tokens: deque[str], depth: int) -> str:
        word = tokens.popleft() if tokens else ""
        if word == "(":
            inside = self._call(tokens, depth + 1)
            if not tokens or tokens.popleft() != ")":
                raise _refusal("(")
            return inside
        if word[:1] in {'"', "`"}:
            return _string(word)
        inside_range = self._ranges > 0
        if inside_range and word in {".Role", ".Content"}:
            return f"message['{word[1:].lower()}']"
        name = word.removeprefix("$").removeprefix(".")
        # Within a range the dot is the message; the outer fields are reached through `$`.
        reachable = word == f"$.{name}" or (word == f".{name}" and not inside_range)
        if reachable and name in self._scope:
            return self._scope[name]
        if reachable and name == "Messages":
            return "messages"
        raise _refusal(word)


def _legacy(body: str, text: str) -> str:
    """Expand a template of one exchange to a conversation.

    Earlier exchanges use all of it, the last one the part up to ``.Response``.
    """
    if ".Prompt" not in text:
        raise _refusal("{{ .Prompt }}")
    mark = "{{- ns.response -}}"
    if mark not in body:
        body, mark_end = body + mark, ""
    else:
        mark_end = body.partition(mark)[2]
    if body.count(mark) > 1 or "ns.response" in body.replace(mark, ""):
        raise _refusal("{{ .Response }}")
    head = body.partition(mark)[0]
    if "{%- end" in mark_end and "{%- if" not in mark_end:
        # The answer is inside a condition, so the prompt can't end there.
        raise _refusal("{{ if }} … {{ .Response }}")
    spoken = "{%- set ns.prompt = message['content'] -%}"
    forget = "{%- set ns.system = '' -%}{%- set ns.prompt = '' -%}"
    return (
        f"{_LEGACY_HEAD}"
        f"{{%- elif message['role'] == 'user' -%}}"
        # A second question without an answer in between: the first is rendered alone.
        f"{{%- if ns.prompt -%}}{head}{forget}{{%- endif -%}}{spoken}"
        f"{{%- elif message['role'] == 'assistant' -%}}"
        f"{{%- set ns.response = message['content'] -%}}{head}{mark}{mark_end}{forget}"
        f"{{%- endif -%}}{{%- endfor -%}}"
        f"{{%- if ns.prompt or ns.system -%}}{head}{{%- endif -%}}"
    )


def _with_system(body: str) -> str:
    return (
        "{%- set ns = namespace(system='') -%}"
        "{%- for message in messages if message['role'] == 'system' -%}"
        "{%- set ns.system = message['content'] -%}{%- endfor -%}" + body
    )


def _literal(text: str) -> str:
    """Return ``text`` as a jinja2 string, so that its whitespace and braces have no effect."""
    return f"{{{{- {json.dumps(text, ensure_ascii=False)} -}}}}" if text else ""


def _string(token: str) -> str:
    if token.startswith("`"):
        return json.dumps(token[1:-1], ensure_ascii=False)
    try:
        return json.dumps(json.loads(token), ensure_ascii=False)
    except ValueError:
        raise _refusal(token) from None


def _refusal(part: str) -> UntranslatableTemplate:
    part = part if len(part) <= _SHOWN_CHARS else f"{part[:_SHOWN_CHARS]}…"
    return UntranslatableTemplate(
        str(
            _(
                "The template can't be translated: %s is not supported. Write it in jinja2, or "
                "leave TEMPLATE out to use the model's own."
            )
        )
        % part
    )
