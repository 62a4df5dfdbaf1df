"""Chat templates: untrusted code that comes with a model, rendered in a sandbox.

A template is Jinja2 as Hugging Face models use it (`jinja.py`). A separate process renders it,
without Python's internals and within limits of time, memory and output (`renderer.py`). A template
that does not compile or can't render a plain conversation is replaced by a built-in one, and
`ChatTemplate.problem` gives the reason.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

import msgspec

from chatsite.engine.contract.messages import ChatMessage, OutputSyntax, Tool
from chatsite.engine.prompting import adapt, harmony, traits
from chatsite.engine.prompting.jinja import InProcess, Refused, Renderer, TemplateError
from chatsite.engine.prompting.output import MISTRAL_OPEN, marks
from chatsite.engine.prompting.tool_prompt import as_dicts, message_dict
from chatsite.engine.prompting.traits import Shape, Traits

__all__ = ["CHATML", "CHATML_STOPS", "ChatTemplate", "Refused", "TemplateError"]

_PROBE_SECONDS = 8.0  # for all probes of a template
_EXTRA_OUTPUT = 1_000_000  # characters that a template may add to the messages

CHATML = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}"
    "{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)
CHATML_STOPS = ("<|im_end|>", "<|im_start|>")
# For base models, which continue the text so far.
CONTINUED_TEXT = (
    "{% for message in messages %}"
    "{% if not loop.first and message['role'] != 'assistant' %}{{ '\n\n' }}{% endif %}"
    "{{ message['content'] }}"
    "{% endfor %}"
)


# Clients' values of effort to those that templates know.
_EFFORTS = {"minimal": "low", "xhigh": "max", "ultra": "max"}
_HARMONY_EFFORTS = {"minimal": "low", "max": "high", "xhigh": "high", "ultra": "high"}
# Placeholder for the content of the last message, which is continued.
_CONTINUED = "z9e9"


class ChatTemplate:
    """The chat template of a model.

    ``source`` is ``gguf``; ``fallback``, with the reason in ``problem``; or ``none`` for a base
    model (``base``), which continues the text of the messages. ``stops`` are stop strings that the
    built-in template needs, since its markers may not be tokens of the model. ``reads`` is the
    syntax that answers are parsed in, whichever template prompts the model; None: the template's
    own, ``syntax``. ``marks`` are texts that must be visible in an answer even if they are control
    tokens. ``renderer`` bounds a rendering; without one it runs in this process, unbounded.
    """

    source: Literal["gguf", "fallback", "none"]
    stops: tuple[str, ...]
    traits: Traits

    def __init__(
        self,
        text: str | None,
        *,
        bos: str = "",
        eos: str = "",
        reads: OutputSyntax | None = None,
        base: bool = False,
        renderer: Renderer | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._tokens = {"bos_token": bos, "eos_token": eos}
        self.renderer = renderer or InProcess()
        self._clock = clock
        self.problem = ""
        try:
            if not text and not base:
                raise TemplateError("the model has no chat template")
            self._use(text or CONTINUED_TEXT)
            self.source, self.stops = ("gguf" if text else "none"), ()
        except TemplateError as error:
            self.problem = str(error)
            self._use(CHATML)
            self.source, self.stops = "fallback", CHATML_STOPS
        self.syntax = self.traits.syntax
        self.marks = tuple(dict.fromkeys((*marks(self.syntax), *self.traits.marks)))
        if reads is not None:
            # Calls in a different syntax could not be parsed.
            native = self.traits.native and _called(reads) == _called(self.syntax)
            self.traits = replace(self.traits, native=native, syntax=reads)

    @property
    def knows_tools(self) -> bool:
        """Whether the template's own tools are used; otherwise they are described in words."""
        return self.traits.native

    def render(
        self,
        messages: Sequence[ChatMessage],
        tools: Sequence[Tool] = (),
        think: bool | None = None,
        *,
        effort: str = "",
    ) -> str:
        """Return the prompt up to the beginning of the answer. Raise `TemplateError`.

        ``think`` None leaves reasoning to the template, an empty ``effort`` its amount.
        """
        return self._first(messages, tools, self._options(think, effort), prompt=True)

    def render_continued(
        self,
        messages: Sequence[ChatMessage],
        tools: Sequence[Tool] = (),
        think: bool | None = None,
        *,
        effort: str = "",
    ) -> str:
        """Return the prompt up to the content of the last message, an answer.

        Raise `TemplateError`.
        """
        options = self._options(think, effort)
        if self.traits.continues:
            last = msgspec.structs.replace(messages[-1], content=_CONTINUED, tool_calls=())
            text = self._first([*messages[:-1], last], tools, options, prompt=False)
            beginning, found, _ = text.rpartition(_CONTINUED)
            if found:
                return beginning
        before = messages[:-1] or adapt.question_first(messages)[:-1]
        text = self._first(before, tools, options, prompt=True)
        return text + self.to_content(text)

    def to_content(self, text: str) -> str:
        """Return what must follow the prompt ``text`` for the answer to begin with content."""
        syntax = self.traits.syntax
        if syntax.tools == "harmony":
            return harmony.ANSWER_OPEN
        opened = syntax.think_open and text.rstrip().endswith(syntax.think_open)
        return f"\n{syntax.think_close}\n\n{syntax.answer_open}" if opened else ""

    def _options(self, think: bool | None, effort: str) -> dict[str, Any]:
        options: dict[str, Any] = {}
        if think is not None:
            options |= {"enable_thinking": think, "thinking": think}
        if think is False:
            options["thinking_budget"] = 0
        if effort:
            known = _HARMONY_EFFORTS if self.traits.syntax.tools == "harmony" else _EFFORTS
            options["reasoning_effort"] = known.get(effort, effort)
        return options

    def _first(
        self,
        messages: Sequence[ChatMessage],
        tools: Sequence[Tool],
        options: Mapping[str, Any],
        *,
        prompt: bool,
    ) -> str:
        """Render the first form of the messages that the template does not refuse."""
        refused: Refused | None = None
        for written, told in adapt.forms(messages, tools, self.traits):
            try:
                return self._render(written, self.traits.shape, told, options, prompt=prompt)
            except Refused as error:
                refused = refused or error
        raise refused or Refused("there are no messages")

    def _use(self, text: str) -> None:
        """Set the template to ``text`` and determine its traits."""
        self.text = text
        end = self._clock() + _PROBE_SECONDS
        first: list[Refused] = []

        def probe(
            messages: Sequence[ChatMessage],
            shape: Shape,
            tools: Sequence[Tool] = (),
            *,
            prompt: bool = True,
            options: Mapping[str, Any] | None = None,
        ) -> str:
            if self._clock() > end:
                raise TemplateError(f"its probes took more than {_PROBE_SECONDS:g} s")
            try:
                return self._render(messages, shape, tools, options or {}, prompt=prompt)
            except Refused as error:
                first.append(error)
                return ""

        shape = traits.plain_shape(probe)
        if shape is None:
            raise first[0] if first else TemplateError("the template drops messages")
        self.traits = traits.find(probe, shape, text)

    def _render(
        self,
        messages: Sequence[ChatMessage],
        shape: Shape,
        tools: Sequence[Tool],
        options: Mapping[str, Any],
        *,
        prompt: bool,
    ) -> str:
        short_ids = MISTRAL_OPEN in self.text
        plain = [
            message_dict(message, short_ids=short_ids, parts=shape.parts, arguments=shape.arguments)
            for message in messages
        ]
        variables = {**self._tokens, **options}
        if tools or not shape.undefined:
            variables |= {"tools": None, shape.tools: as_dicts(tools) or None}
        limit = _EXTRA_OUTPUT + 4 * sum(len(message.content) for message in messages)
        variables |= {"messages": plain, "add_generation_prompt": prompt}
        return self.renderer.render(self.text, variables, limit)


def _called(syntax: OutputSyntax) -> tuple[str, str, str]:
    return syntax.tools, syntax.call_open, syntax.call_close
