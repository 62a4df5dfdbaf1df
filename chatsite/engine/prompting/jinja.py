"""The language of chat templates: Jinja2 as model authors use it, without Python's internals.

Time and memory are bounded by the process that this runs in (`renderer.py`), not here: a single
operation of a template can take any amount of either.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Protocol

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, LoopControlExtension
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

_MAX_REPEAT = 100_000  # length of a repeated string or list
_MAX_POWER = 64


class TemplateError(Exception):
    """The template can't render these messages."""


class Refused(TemplateError):
    """The template rejects or fails on these messages; it may accept others."""


class _Generation(Extension):
    """``{% generation %}`` marks answers for training; here its body is rendered unchanged."""

    tags = {"generation"}

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _Sandbox(ImmutableSandboxedEnvironment):
    """Also refuses cheap ways to exhaust memory in a single operation.

    A deadline that is checked between operations can't stop those.
    """

    intercepted_binops = frozenset({"*", "**"})

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        if operator == "*":
            for items, times in ((left, right), (right, left)):
                repeats = isinstance(items, str | list | tuple) and isinstance(times, int)
                if repeats and len(items) * times > _MAX_REPEAT:
                    raise TemplateError("the template repeats a value too many times")
        elif isinstance(right, int) and abs(right) > _MAX_POWER:
            raise TemplateError("the template computes too high a power")
        return super().call_binop(context, operator, left, right)

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        if attr in {"ljust", "rjust", "center", "zfill", "expandtabs"}:
            return False
        return super().is_safe_attribute(obj, attr, value)


def _environment() -> _Sandbox:
    environment = _Sandbox(
        trim_blocks=True, lstrip_blocks=True, extensions=[_Generation, LoopControlExtension]
    )
    environment.filters["tojson"] = _tojson
    del environment.filters["center"]
    environment.globals["raise_exception"] = _raise_exception
    environment.globals["strftime_now"] = lambda pattern: _local_time().strftime(pattern)
    return environment


def _local_time() -> datetime:
    return datetime.now(UTC).astimezone()


def _tojson(
    value: Any, ensure_ascii: bool = False, indent: int | None = None, **options: Any
) -> str:
    """Encode as model authors expect it: without HTML escapes."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, **options)


def _raise_exception(message: object) -> None:
    raise Refused(str(message))


class Renderer(Protocol):
    """Renders a template's text with ``variables`` into at most ``limit`` characters.

    `render` raises `TemplateError`.
    """

    def render(self, template: str, variables: Mapping[str, Any], limit: int) -> str: ...


class InProcess:
    """Renders in this process, without limits of time and memory.

    Keeps the last template compiled.
    """

    def __init__(self) -> None:
        self._text = ""
        self._compiled: jinja2.Template | None = None

    def render(self, template: str, variables: Mapping[str, Any], limit: int) -> str:
        """Render the template. Raise `Refused` where it fails, else `TemplateError`."""
        if self._compiled is None or template != self._text:
            self._compiled = _compiled(template)
            self._text = template
        parts: list[str] = []
        size = 0
        try:
            for part in self._compiled.generate(variables):
                size += len(part)
                if size > limit:
                    raise TemplateError(f"the template renders more than {limit} characters")
                parts.append(part)
        except TemplateError:
            raise
        except MemoryError as error:
            raise TemplateError("the template exceeds its memory limit") from error
        except jinja2.TemplateError as error:
            raise Refused(f"the template failed: {error.message or error}") from error
        except Exception as error:
            raise Refused(f"the template failed: {error!r}") from error
        return "".join(parts)


def _compiled(text: str) -> jinja2.Template:
    try:
        return _environment().from_string(text)
    except Exception as error:  # jinja2 raises nearly anything on hostile text
        raise TemplateError(f"the template does not compile: {error}") from error
