"""Chat templates: code of strangers that came with a model, run in a sandbox.

The template is jinja2 as Hugging Face models write it. It runs without access to Python's
internals, under a deadline, with bounded output. A template that does not compile or can't
render a plain conversation is replaced by a built-in one, and `ChatTemplate.problem` says why.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from types import FrameType
from typing import Any, Literal

import jinja2
from jinja2 import nodes
from jinja2.ext import Extension, LoopControlExtension
from jinja2.parser import Parser
from jinja2.runtime import Context
from jinja2.sandbox import ImmutableSandboxedEnvironment

from chatsite.engine.messages import ChatMessage, Tool
from chatsite.engine.output import MISTRAL_OPEN, Dialect, dialect
from chatsite.engine.tool_prompt import as_dicts, in_words, message_dict

SECONDS = 2.0  # for one rendering
_EXTRA_OUTPUT = 1_000_000  # characters that a template may add to the messages
_MAX_REPEAT = 100_000  # length of a repeated string or list
_MAX_POWER = 64

CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
CHATML_STOPS = ("<|im_end|>", "<|im_start|>")


class TemplateError(Exception):
    """The template can't render these messages; the message is its own or jinja2's."""


class _Generation(Extension):
    """``{% generation %}`` marks answers for training; here its body is rendered as it is."""

    tags = {"generation"}

    def parse(self, parser: Parser) -> list[nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _Sandbox(ImmutableSandboxedEnvironment):
    """Also refuses the cheap ways to fill the memory within one operation, which no deadline
    between operations can stop."""

    intercepted_binops = frozenset({"*", "**"})

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        if operator == "*":
            for items, times in ((left, right), (right, left)):
                repeats = isinstance(items, str | list | tuple) and isinstance(times, int)
                if repeats and len(items) * times > _MAX_REPEAT:
                    raise TemplateError("the template repeats a value too often")
        elif isinstance(right, int) and abs(right) > _MAX_POWER:
            raise TemplateError("the template raises to too high a power")
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
    """As model authors expect it: without HTML escapes."""
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, **options)


def _raise_exception(message: object) -> None:
    raise TemplateError(str(message))


@contextmanager
def _deadline(seconds: float, clock: Callable[[], float]) -> Iterator[None]:
    """Raises `TemplateError` inside this thread's Python code once the time is over. A trace
    function sees every line of the compiled template, loops without output included."""
    end = clock() + seconds

    def trace(frame: FrameType, event: str, argument: object) -> Any:
        if clock() > end:
            raise TemplateError(f"the template took more than {seconds:g} s")
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        yield
    finally:
        sys.settrace(before)


class ChatTemplate:
    """``source``: ``gguf``, or ``fallback`` with the reason in ``problem``. ``stops`` are stop
    strings that the built-in template needs, since its markers may be no tokens of the model.
    ``calls`` is how the model's calls are read, whichever template it is prompted with; empty
    for what the template itself says."""

    source: Literal["gguf", "fallback"]

    def __init__(
        self,
        text: str | None,
        *,
        bos: str = "",
        eos: str = "",
        calls: Dialect | Literal[""] = "",
        seconds: float = SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._tokens = {"bos_token": bos, "eos_token": eos}
        self._seconds, self._clock = seconds, clock
        self.problem = ""
        try:
            if not text:
                raise TemplateError("the model has no chat template")
            self._use(text)
            self.source, self.stops = "gguf", ()
        except TemplateError as error:
            self.problem = str(error)
            self._use(CHATML)
            self.source, self.stops = "fallback", CHATML_STOPS
        self._calls: Dialect = calls or dialect(self.text) or "hermes"

    stops: tuple[str, ...]

    @property
    def knows_tools(self) -> bool:
        """Of the kind whose calls are read; others have them told in words."""
        return "tools" in self.text and dialect(self.text) == self._calls

    def render(
        self,
        messages: Sequence[ChatMessage],
        tools: Sequence[Tool] = (),
        think: bool | None = None,
    ) -> str:
        """The prompt up to where the answer begins; ``think`` None leaves reasoning to the
        template. Raises `TemplateError`."""
        has_tools = tools or any(one.tool_calls or one.role == "tool" for one in messages)
        if has_tools and not self.knows_tools:
            messages, tools = in_words(messages, tools, self._calls), ()
        if not self._takes_system:
            messages = _fold_system(messages)
        options: dict[str, Any] = {"tools": as_dicts(tools) or None}
        if think is not None:
            options |= {"enable_thinking": think, "thinking": think}
        return self._render(messages, options)

    def _use(self, text: str) -> None:
        """Compiles ``text`` and tries it on plain conversations."""
        self.text = text
        try:
            with _deadline(self._seconds, self._clock):
                self._template = _environment().from_string(text)
        except TemplateError:
            raise
        except Exception as error:  # jinja2 raises nearly anything on hostile text
            raise TemplateError(f"the template does not compile: {error}") from error
        turns = [ChatMessage("user", "a5e1"), ChatMessage("assistant", "b5e2")]
        turns.append(ChatMessage("user", "c5e3"))
        if not all(turn.content in self._render(turns, {"tools": None}) for turn in turns[::2]):
            raise TemplateError("the template leaves out messages")
        try:
            system = ChatMessage("system", "d5e4")
            self._takes_system = system.content in self._render([system, *turns], {"tools": None})
        except TemplateError:
            self._takes_system = False

    def _render(self, messages: Sequence[ChatMessage], options: dict[str, Any]) -> str:
        short_ids = MISTRAL_OPEN in self.text
        plain = [message_dict(message, short_ids=short_ids) for message in messages]
        limit = _EXTRA_OUTPUT + 4 * sum(len(message.content) for message in messages)
        parts: list[str] = []
        size = 0
        try:
            with _deadline(self._seconds, self._clock):
                for part in self._template.generate(
                    messages=plain, add_generation_prompt=True, **self._tokens, **options
                ):
                    size += len(part)
                    if size > limit:
                        raise TemplateError(f"the template writes more than {limit} characters")
                    parts.append(part)
        except TemplateError:
            raise
        except jinja2.TemplateError as error:
            raise TemplateError(f"the template failed: {error.message or error}") from error
        except Exception as error:
            raise TemplateError(f"the template failed: {error!r}") from error
        return "".join(parts)


def _fold_system(messages: Sequence[ChatMessage]) -> list[ChatMessage]:
    """System text in front of the first user message, for templates without that role."""
    system = "\n\n".join(message.content for message in messages if message.role == "system")
    rest = [message for message in messages if message.role != "system"]
    if system:
        for index, message in enumerate(rest):
            if message.role == "user":
                rest[index] = ChatMessage("user", f"{system}\n\n{message.content}")
                return rest
        rest.insert(0, ChatMessage("user", system))
    return rest
