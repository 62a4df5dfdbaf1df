"""Messages to tokens, such that text of people never becomes a control token.

In the ordinary case the rendered prompt is tokenized whole, as the model was trained; what
looks like a control token in people's text is masked (`masking.py`). A template may also *join*
such a text out of harmless pieces (by deleting what is between them); the prompt is therefore
compared with a second rendering in which no piece can begin a control token.
"""

from __future__ import annotations

import bisect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from chatsite.engine.backend import BadParameters, Vocabulary
from chatsite.engine.masking import ControlFinder, Mask, controls, texts_of, unused_character
from chatsite.engine.messages import (
    CHAT,
    ChatMessage,
    Generate,
    OutputSyntax,
    Priority,
    PromptOptions,
    SamplingParams,
    Tool,
)
from chatsite.engine.output import marks, syntax_of
from chatsite.engine.slots import common_prefix
from chatsite.engine.template import ChatTemplate, TemplateError
from chatsite.engine.tool_prompt import SchemaToGbnf, UnknownTool, behind_reasoning, call_grammar

# Templates of custom models, and heads that administrators wrote, kept compiled.
_KEPT = 64
_NO_OPTIONS = PromptOptions()


class ContextExceeded(Exception):
    def __init__(self, prompt_tokens: int, context: int, what: str = "the prompt") -> None:
        super().__init__(f"{what} has {prompt_tokens} tokens, the context holds {context}")
        self.details = {"prompt_tokens": prompt_tokens, "context": context}


@dataclass(frozen=True, slots=True)
class Prompt:
    """A request ready for the engine. ``tokens`` are prompt and prefix, of which the first
    ``prompt_tokens`` or so are the prompt, and the first ``shared`` are nobody's but the
    template's and an administrator's. ``opening`` is text that the template wrote for the answer;
    ``left_out`` messages did not fit. ``arrived`` is the engine clock's time in seconds."""

    id: str
    owner: str
    tokens: list[int]
    prompt_tokens: int
    params: SamplingParams
    stops: tuple[str, ...]
    generated: int
    arrived: float
    shared: int = 0
    priority: Priority = CHAT
    opening: str = ""
    left_out: int = 0


class PromptBuilder:
    """``to_gbnf`` turns a JSON schema into a grammar."""

    def __init__(
        self,
        template: ChatTemplate,
        vocabulary: Vocabulary,
        context: int,
        to_gbnf: SchemaToGbnf | None = None,
    ) -> None:
        self._template = template
        self._vocabulary = vocabulary
        self._context = context
        self._to_gbnf = to_gbnf
        self.syntax = syntax_of(template.text)
        vocabulary.reveal(marks(self.syntax))
        self._renderers: dict[str, _Renderer] = {}
        self._heads: dict[Any, list[int]] = {}

    def prepare(self, request: Generate, arrived: float) -> Prompt:
        """Raises `ContextExceeded` if no token of an answer would fit, `TemplateError`, and
        `BadParameters`."""
        options = request.options
        if options.raw is not None:
            return self._raw(request, options.raw, arrived)
        renderer = self._renderer(options.template)
        params = self._constrained(request, renderer.syntax)
        if params is not request.params and renderer.syntax.think_open:
            options = msgspec.structs.replace(options, think=False)
        messages, left_out = self._fitting(renderer, request, options)
        text, mask = renderer.render(messages, options, request.prefix)
        opening, prefix = _opening(text, renderer.syntax, request.prefix)
        if opening or prefix != request.prefix:
            params = self._behind_reasoning(params, renderer.syntax)
        tokens = renderer.tokenize(text + mask.hide_answer(prefix), mask)
        prompt_tokens = len(renderer.tokenize(text, mask)) if prefix else len(tokens)
        if prompt_tokens >= self._context:
            raise ContextExceeded(prompt_tokens, self._context)
        head = self._head(renderer, request.messages[: options.administered], options)
        return Prompt(
            id=request.id,
            owner=request.owner,
            tokens=tokens,
            prompt_tokens=prompt_tokens,
            params=params,
            stops=params.stop + renderer.template.stops,
            generated=request.generated,
            arrived=arrived,
            shared=common_prefix(head, tokens),
            priority=request.priority,
            opening=opening,
            left_out=left_out,
        )

    def build(self, messages: Sequence[ChatMessage], prefix: str = "") -> tuple[list[int], int]:
        """Tokens of prompt and prefix, and how many of the prompt alone."""
        renderer = self._renderer("")
        text, mask = renderer.render(messages, _NO_OPTIONS, prefix)
        tokens = renderer.tokenize(text + mask.hide_answer(prefix), mask)
        return tokens, len(renderer.tokenize(text, mask)) if prefix else len(tokens)

    def measure(self, messages: Sequence[ChatMessage], options: PromptOptions) -> tuple[int, int]:
        """Tokens of the whole prompt, however long, and of its head. Raises `TemplateError` and
        `BadParameters`."""
        renderer = self._renderer(options.template)
        tokens = renderer.tokenize(*renderer.render(messages, options))
        head = self._head(renderer, messages[: options.administered], options)
        return len(tokens), common_prefix(head, tokens)

    def _renderer(self, template: str) -> _Renderer:
        if template not in self._renderers:
            if len(self._renderers) >= _KEPT:
                self._renderers.clear()
            chosen = self._template
            if template:
                bos, eos = self._vocabulary.bos_text, self._vocabulary.eos_text
                chosen = ChatTemplate(template, bos=bos, eos=eos, calls=self.syntax.tools)
                if chosen.problem:
                    raise BadParameters(f"the template can't be used: {chosen.problem}")
            self._renderers[template] = _Renderer(chosen, self._vocabulary, self.syntax)
        return self._renderers[template]

    def _constrained(self, request: Generate, syntax: OutputSyntax) -> SamplingParams:
        """With a grammar of its own where the answer must be a call."""
        if self._to_gbnf is None:
            return request.params
        try:
            grammar = call_grammar(request.options, syntax, self._to_gbnf)
        except UnknownTool as error:
            raise BadParameters(str(error)) from error
        if grammar is None:
            return request.params
        return msgspec.structs.replace(request.params, grammar=grammar, json_schema=None)

    def _behind_reasoning(self, params: SamplingParams, syntax: OutputSyntax) -> SamplingParams:
        grammar = params.grammar
        if params.json_schema is not None and self._to_gbnf is not None:
            grammar = self._to_gbnf(params.json_schema)
        if not grammar:
            return params
        grammar = behind_reasoning(grammar, syntax)
        return msgspec.structs.replace(params, grammar=grammar, json_schema=None)

    def _fitting(
        self, renderer: _Renderer, request: Generate, options: PromptOptions
    ) -> tuple[Sequence[ChatMessage], int]:
        """The messages, without the oldest turns where they may be left out and don't fit with
        some room for an answer. System messages, an administrator's and the last turn always
        stay."""
        messages = request.messages
        if options.overflow != "keep_latest":
            return messages, 0
        room = self._context - min(request.params.max_tokens or self._context, self._context // 4)

        def stays(at: int, message: ChatMessage) -> bool:
            return at < options.administered or message.role == "system"

        def without(turns: int) -> list[ChatMessage]:
            left = starts[turns]
            return [m for at, m in enumerate(messages) if stays(at, m) or at >= left]

        def too_long(turns: int) -> bool:
            text, mask = renderer.render(without(turns), options, request.prefix)
            return len(renderer.tokenize(text, mask)) > room

        asked = [at for at, m in enumerate(messages) if m.role == "user" and not stays(at, m)]
        starts = [0, *asked[1:]]
        turns = bisect.bisect_left(range(len(starts) - 1), True, key=lambda n: not too_long(n))
        kept = without(turns)
        return kept, len(messages) - len(kept)

    def _head(
        self, renderer: _Renderer, messages: Sequence[ChatMessage], options: PromptOptions
    ) -> list[int]:
        """Tokens that every prompt of these messages begins with, whoever asks what."""
        key = (options.template, tuple(messages), options.think, len(options.tools))
        if options.tools:
            return []  # tools come from whoever asks
        if key not in self._heads:
            if len(self._heads) >= _KEPT:
                self._heads.clear()
            try:
                both = [
                    renderer.tokenize(
                        *renderer.render([*messages, ChatMessage("user", text)], options)
                    )
                    for text in ("x", "7")
                ]
            except TemplateError:
                both = [[], []]  # no user may follow here
            self._heads[key] = both[0][: common_prefix(*both)]
        return self._heads[key]

    def _raw(self, request: Generate, text: str, arrived: float) -> Prompt:
        """Text that is continued as it is: its sender may write control tokens in it."""
        vocabulary, suffix = self._vocabulary, request.options.suffix
        tokens = vocabulary.tokenize(text, special=True)
        if suffix:
            if vocabulary.infill is None:
                raise BadParameters("this model can't fill in: it has no tokens for a suffix")
            before, after, middle = vocabulary.infill
            rest = vocabulary.tokenize(suffix, special=True)
            tokens = [before, *tokens, after, *rest, middle]
        if vocabulary.add_bos and vocabulary.bos is not None and tokens[:1] != [vocabulary.bos]:
            tokens.insert(0, vocabulary.bos)
        length = len(tokens)
        if not length:
            raise BadParameters("the prompt is empty")
        if length >= self._context:
            raise ContextExceeded(length, self._context)
        tokens += vocabulary.tokenize(request.prefix, special=False)
        return Prompt(
            id=request.id,
            owner=request.owner,
            tokens=tokens,
            prompt_tokens=length,
            params=request.params,
            stops=request.params.stop,
            generated=request.generated,
            arrived=arrived,
            priority=request.priority,
        )


class _Renderer:
    """One template over the model's vocabulary."""

    def __init__(
        self, template: ChatTemplate, vocabulary: Vocabulary, syntax: OutputSyntax
    ) -> None:
        self.template = template
        self.syntax = syntax
        self._vocabulary = vocabulary
        self._controls: Mapping[str, int] = controls(vocabulary, template.text)
        self._control_tokens = frozenset(self._controls.values())
        self._finder = ControlFinder(tuple(self._controls))
        # An answer's own marks are the model's words.
        own = frozenset(marks(syntax))
        self._in_answers = ControlFinder(tuple(text for text in self._controls if text not in own))

    def render(
        self, messages: Sequence[ChatMessage], options: PromptOptions, prefix: str = ""
    ) -> tuple[str, Mask]:
        tools: Sequence[Tool] = () if options.tool_choice == "none" else options.tools
        texts = texts_of(messages, tools)
        sentinel = unused_character([*texts, prefix, self.template.text])
        mask = Mask(sentinel, self._finder.find, self._in_answers.find)

        def rendered(mask: Mask) -> str:
            return self.template.render(
                mask.hide_all(messages), mask.hide_tools(tools), options.think
            )

        text = rendered(mask)
        if any(True for one in texts for _ in self._finder.beginnings(one)):
            strict = Mask(sentinel, self._finder.beginnings, self._in_answers.find)
            strict_text = rendered(strict)
            if self._finder.count(text) - self._finder.count(strict_text):
                return strict_text, strict
        return text, mask

    def tokenize(self, text: str, mask: Mask) -> list[int]:
        tokens: list[int] = []
        for part, hostile in mask.split(text):
            tokens += self._plain(part) if hostile else self._special(part)
        bos = self._vocabulary.bos
        if self._vocabulary.add_bos and bos is not None and tokens[:1] != [bos]:
            tokens.insert(0, bos)
        return tokens

    def _special(self, text: str) -> list[int]:
        return self._vocabulary.tokenize(text, special=True)

    def _plain(self, text: str) -> list[int]:
        """Text without control tokens. A vocabulary may insist on a token that was declared as
        text: then the text is cut behind its first character, which no token's text survives."""
        tokens = self._vocabulary.tokenize(text, special=False)
        if self._control_tokens.isdisjoint(tokens) or len(text) < 2:
            return [token for token in tokens if token not in self._control_tokens]
        return self._plain(text[:1]) + self._plain(text[1:])


def _opening(text: str, syntax: OutputSyntax, prefix: str) -> tuple[str, str]:
    """What the template wrote of the answer (a reasoning mark) and has not been published, and
    the prefix without it."""
    mark = syntax.think_open
    if not mark or not text.rstrip().endswith(mark):
        return "", prefix
    opening = text[text.rindex(mark) :]
    if prefix.startswith(opening):
        return "", prefix[len(opening) :]
    return opening, prefix
