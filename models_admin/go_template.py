"""Chat templates as Ollama writes them (Go's text/template), translated to jinja2.

Only what can be translated faithfully is: the other way would be a model that silently gets
another prompt than its author meant. Taken are ``{{ .System }}``, ``{{ .Prompt }}``,
``{{ .Response }}``, ``if``/``else``/``end`` over them and over roles, ``range .Messages`` with
``.Role`` and ``.Content``, string constants, and the trim marks ``{{-`` and ``-}}``.
"""

from __future__ import annotations

import json
import re
from functools import lru_cache

from django.utils.translation import gettext_lazy as _

from chatsite.errors import ChatsiteError

_ACTION = re.compile(r"\{\{(- )?\s*(.*?)\s*( -)?\}\}", re.DOTALL)
_STRING = re.compile(r'"(?:[^"\\]|\\.)*"|`[^`]*`')
_TOKEN = re.compile(rf"{_STRING.pattern}|[()]|[^\s()]+")
# Jinja2 has these and Go does not; the reverse of what `is_go` looks for.
_JINJA = re.compile(r"\{%|\{\{-?\s*(?:messages|bos_token|eos_token|raise_exception)\b")
_FIELD = re.compile(r"\{\{(?:- )?\s*(?:if|range|else if|with)?\s*[(\w\s]*[.$]")

# The last user message, all system text, and nothing of the answer to come.
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
    """``text`` itself if it is jinja2. Raises `UntranslatableTemplate`, which says what part of
    a Go template has no translation."""
    if not text or not is_go(text):
        return text
    return _Translation(text).result


class _Translation:
    def __init__(self, text: str) -> None:
        self._blocks: list[str] = []
        self._ranges = 0
        parts: list[str] = []
        position, trim = 0, False
        legacy = ".Messages" not in text
        self._scope = {"System": "ns.system", "Prompt": "ns.prompt", "Response": "ns.response"}
        if not legacy:
            self._scope = {"System": "ns.system"}
        for match in _ACTION.finditer(text):
            plain = text[position : match.start()]
            plain = plain.lstrip() if trim else plain
            parts.append(_literal(plain.rstrip() if match[1] else plain))
            parts.append(self._action(match[2]))
            position, trim = match.end(), bool(match[3])
        tail = text[position:]
        parts.append(_literal(tail.lstrip() if trim else tail))
        if self._blocks:
            raise _refusal("{{ end }}")
        body = "".join(parts)
        self.result = _legacy(body, text) if legacy else _with_system(body)

    def _action(self, code: str) -> str:
        if code.startswith("/*"):
            return ""
        word, _blank, rest = code.partition(" ")
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
        tokens = _TOKEN.findall(code)
        value = self._call(tokens)
        if tokens or not value:
            raise _refusal(code)
        return value

    def _call(self, tokens: list[str]) -> str:
        """One operand, or a function and its operands up to the bracket or end."""
        if tokens and tokens[0] in {"eq", "ne", "and", "or", "not"}:
            name = tokens.pop(0)
            operands = []
            while tokens and tokens[0] != ")":
                operands.append(self._operand(tokens))
            if name == "not" and len(operands) == 1:
                return f"(not {operands[0]})"
            if name in {"eq", "ne"} and len(operands) == 2:
                return f"({operands[0]} {'==' if name == 'eq' else '!='} {operands[1]})"
            if name in {"and", "or"} and len(operands) >= 2:
                return "(" + f" {name} ".join(operands) + ")"
            raise _refusal(name)
        return self._operand(tokens)

    def _operand(self, tokens: list[str]) -> str:
        word = tokens.pop(0) if tokens else ""
        if word == "(":
            inside = self._call(tokens)
            if not tokens or tokens.pop(0) != ")":
                raise _refusal("(")
            return inside
        if _STRING.fullmatch(word):
            return _string(word)
        inside_range = self._ranges > 0
        if inside_range and word in {".Role", ".Content"}:
            return f"message['{word[1:].lower()}']"
        name = word.removeprefix("$").removeprefix(".")
        # Within a range the dot is the message; the outer fields are then behind `$`.
        reachable = word == f"$.{name}" or (word == f".{name}" and not inside_range)
        if reachable and name in self._scope:
            return self._scope[name]
        if reachable and name == "Messages":
            return "messages"
        raise _refusal(word)


def _legacy(body: str, text: str) -> str:
    """A template of one exchange is written once per exchange: up to ``.Response`` for the last,
    with all of it for those before."""
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
        # The answer stands within a condition, so the prompt can't end there.
        raise _refusal("{{ if }} … {{ .Response }}")
    spoken = "{%- set ns.prompt = message['content'] -%}"
    forget = "{%- set ns.system = '' -%}{%- set ns.prompt = '' -%}"
    return (
        f"{_LEGACY_HEAD}"
        f"{{%- elif message['role'] == 'user' -%}}"
        # A second question without an answer between: the first stands alone.
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
    """As a jinja2 string, so that neither its blanks nor its braces mean anything."""
    return f"{{{{- {json.dumps(text, ensure_ascii=False)} -}}}}" if text else ""


def _string(token: str) -> str:
    if token.startswith("`"):
        return json.dumps(token[1:-1], ensure_ascii=False)
    try:
        return json.dumps(json.loads(token), ensure_ascii=False)
    except ValueError:
        raise _refusal(token) from None


def _refusal(part: str) -> UntranslatableTemplate:
    return UntranslatableTemplate(
        str(
            _(
                "The template can't be translated: %s is not supported. Write it in jinja2, or "
                "leave TEMPLATE out to use the model's own."
            )
        )
        % part
    )
