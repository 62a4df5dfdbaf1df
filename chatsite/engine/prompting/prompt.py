"""Turns messages into tokens so that user text never becomes a control token.

Normally the rendered prompt is tokenized whole, as the model was trained, with everything in user
text that looks like a control token masked (`masking.py`). A template may also *join* such a text
from harmless pieces, by deleting what is between them. So the prompt is compared with a second
rendering in which no piece can begin a control token.
"""

from __future__ import annotations

import bisect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from chatsite.engine.contract.backend import BadParameters, Constraint, Vocabulary
from chatsite.engine.contract.frames import MAX_FRAME
from chatsite.engine.contract.messages import (
    CHAT,
    ChatMessage,
    Generate,
    OutputSyntax,
    Priority,
    PromptOptions,
    SamplingParams,
    Tool,
)
from chatsite.engine.prompting.adapt import joined
from chatsite.engine.prompting.masking import (
    ControlFinder,
    Mask,
    controls,
    texts_of,
    unused_character,
)
from chatsite.engine.prompting.output import REASONING, marks
from chatsite.engine.prompting.prefix import common_prefix
from chatsite.engine.prompting.template import ChatTemplate, TemplateError
from chatsite.engine.prompting.tool_prompt import (
    SchemaToGbnf,
    UnknownTool,
    behind_reasoning,
    call_grammar,
)

# Cached compiled templates of custom models and heads of administrators' messages.
_KEPT = 64
_NO_OPTIONS = PromptOptions()
# Bytes of a token with its log probability in a frame: an upper bound except for very long tokens.
_LOGPROB_BYTES = 48


class ContextExceeded(Exception):
    """A prompt or input leaves no room in the context; ``details`` holds the figures.

    ``limited``: the request's own bound is exceeded (`PromptOptions.context`), not the model's.
    """

    def __init__(
        self,
        prompt_tokens: int,
        context: int,
        what: str = "the prompt",
        *,
        limited: bool = False,
    ) -> None:
        super().__init__(f"{what} has {prompt_tokens} tokens, but the context is {context} tokens")
        self.details = {"prompt_tokens": prompt_tokens, "context": context}
        self.limited = limited


@dataclass(frozen=True, slots=True)
class Prompt:
    """A request ready for the engine.

    ``tokens`` are the prompt and the prefix. Approximately the first ``prompt_tokens`` of them are
    the prompt; the first ``shared`` come from the template and an administrator alone. ``opening``
    is answer text that the template wrote. ``left_out`` messages did not fit. ``arrived`` is in
    seconds of the engine's clock. ``echo`` is published ahead of the answer, with the log
    probabilities of the prompt's tokens from ``echoed_from`` on if requested. ``ends_with_prompt``:
    no answer is generated. ``automaton`` is the compiled constraint of ``params``.
    """

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
    automaton: Constraint | None = None
    echo: str = ""
    echoed_from: int = 0
    ends_with_prompt: bool = False

    @property
    def scored(self) -> bool:
        """Whether the log probabilities of the prompt are requested."""
        return bool(self.echo) and self.params.top_logprobs is not None


class PromptBuilder:
    """Builds the prompts of one model. Thread-safe: requests of several owners are concurrent.

    ``to_gbnf`` converts a JSON schema into a grammar.
    """

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
        self.syntax = _with_tokens(template.syntax, vocabulary)
        vocabulary.reveal((*template.marks, *marks(self.syntax)))
        self._renderers: dict[str, _Renderer] = {}
        self._heads: dict[Any, list[int]] = {}

    def prepare(self, request: Generate, arrived: float) -> Prompt:
        """Return the prompt of a request.

        Raise `ContextExceeded` if no token of an answer would fit, `TemplateError` or
        `BadParameters`.
        """
        options = request.options
        if options.raw is not None:
            return self._raw(request, options.raw, arrived)
        renderer = self._renderer(options.template)
        params = self._constrained(request, renderer.syntax)
        marked = params is not request.params
        if marked and request.options.tool_choice != "auto" and renderer.syntax.think_open:
            options = msgspec.structs.replace(options, think=False)
        messages, left_out = self._fitting(renderer, request, options)
        written = renderer.render(
            messages,
            options,
            request.prefix,
            # A grammar with calls already contains their marks and those of the content.
            content_first=not marked and bool(params.grammar or params.json_schema is not None),
            no_reasoning=request.options.think is False,
        )
        text, mask = written.text, written.mask
        if written.reasons:
            params = self._behind_reasoning(params, renderer.syntax)
        published = request.prefix.startswith(written.opening)
        opening = "" if published else written.opening
        prefix = request.prefix.removeprefix(written.opening)
        tokens = renderer.tokenize(text + mask.hide_answer(prefix), mask)
        prompt_tokens = len(renderer.tokenize(text, mask)) if prefix else len(tokens)
        self._require_room(request, prompt_tokens)
        params = self._bounded(request, params, prompt_tokens, len(tokens))
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

    def _context_of(self, request: Generate) -> int:
        """Return the tokens that prompt and answer of a request may have together."""
        return min(self._context, request.options.context or self._context)

    def _require_room(self, request: Generate, prompt_tokens: int) -> None:
        """Raise `ContextExceeded` if no token of an answer would fit."""
        context = self._context_of(request)
        if prompt_tokens >= context:
            raise ContextExceeded(prompt_tokens, context, limited=context < self._context)

    def _bounded(
        self, request: Generate, params: SamplingParams, prompt_tokens: int, tokens: int
    ) -> SamplingParams:
        """Return the parameters with an answer that keeps to the request's bound.

        ``tokens`` includes the text of earlier attempts.
        """
        context = self._context_of(request)
        if context == self._context:
            return params
        # Tokens of earlier attempts count against `max_tokens`, those of a continued answer do not.
        room = context - max(tokens - request.generated, prompt_tokens)
        if params.max_tokens is not None:
            room = min(room, params.max_tokens)
        return msgspec.structs.replace(params, max_tokens=max(room, request.generated, 0))

    def build(self, messages: Sequence[ChatMessage], prefix: str = "") -> tuple[list[int], int]:
        """Return the tokens of prompt and prefix, and the number of the prompt alone."""
        renderer = self._renderer("")
        written = renderer.render(messages, _NO_OPTIONS, prefix)
        text, mask = written.text, written.mask
        tokens = renderer.tokenize(text + mask.hide_answer(prefix), mask)
        return tokens, len(renderer.tokenize(text, mask)) if prefix else len(tokens)

    def measure(
        self, messages: Sequence[ChatMessage], options: PromptOptions
    ) -> tuple[list[int], int]:
        """Return the tokens of the whole prompt, of any length, and the number in its head.

        Raise `TemplateError` or `BadParameters`.
        """
        renderer = self._renderer(options.template)
        written = renderer.render(messages, options)
        tokens = renderer.tokenize(written.text, written.mask)
        head = self._head(renderer, messages[: options.administered], options)
        return tokens, common_prefix(head, tokens)

    def _renderer(self, template: str) -> _Renderer:
        renderer = self._renderers.get(template)
        if renderer is None:
            if len(self._renderers) >= _KEPT:
                self._renderers.clear()
            chosen = self._template
            if template:
                bos, eos = self._vocabulary.bos_text, self._vocabulary.eos_text
                chosen = ChatTemplate(
                    template,
                    bos=bos,
                    eos=eos,
                    reads=self.syntax,
                    renderer=self._template.renderer,
                )
                if chosen.problem:
                    raise BadParameters(f"the template can't be used: {chosen.problem}")
            renderer = _Renderer(chosen, self._vocabulary, self.syntax)
            self._renderers[template] = renderer
        return renderer

    def _constrained(self, request: Generate, syntax: OutputSyntax) -> SamplingParams:
        """Return the parameters with a grammar of tool calls, if one is needed.

        It is where the answer must be a call, or may be one instead of the answer that a JSON
        schema describes.
        """
        if self._to_gbnf is None:
            return request.params
        try:
            grammar = call_grammar(
                request.options, syntax, self._to_gbnf, request.params.json_schema
            )
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
        """Return the messages that fit with some room for an answer, and how many were left out.

        Only with ``keep_latest`` are the oldest turns left out. System messages, an administrator's
        messages and the last turn always stay.
        """
        messages = request.messages
        if options.overflow != "keep_latest":
            return messages, 0
        context = self._context_of(request)
        room = context - min(request.params.max_tokens or context, context // 4)

        def stays(at: int, message: ChatMessage) -> bool:
            return at < options.administered or message.role == "system"

        def without(turns: int) -> list[ChatMessage]:
            left = starts[turns]
            return [m for at, m in enumerate(messages) if stays(at, m) or at >= left]

        def too_long(turns: int) -> bool:
            written = renderer.render(without(turns), options, request.prefix)
            return len(renderer.tokenize(written.text, written.mask)) > room

        asked = [at for at, m in enumerate(messages) if m.role == "user" and not stays(at, m)]
        starts = [0, *asked[1:]]
        turns = bisect.bisect_left(range(len(starts) - 1), True, key=lambda n: not too_long(n))
        kept = without(turns)
        return kept, len(messages) - len(kept)

    def _head(
        self, renderer: _Renderer, messages: Sequence[ChatMessage], options: PromptOptions
    ) -> list[int]:
        """Return the tokens that every prompt with these messages begins with, for all owners.

        Empty if tools or the template came with the request, since their text is the client's.
        """
        if options.tools or (options.template and not options.template_administered):
            return []
        key = (options.template, tuple(messages), options.think, options.effort)
        head = self._heads.get(key)
        if head is None:
            if len(self._heads) >= _KEPT:
                self._heads.clear()
            begun = msgspec.structs.replace(options, continue_final=False)
            try:
                asked = [
                    renderer.render([*messages, ChatMessage("user", text)], begun)
                    for text in ("x", "7")
                ]
                both = [renderer.tokenize(one.text, one.mask) for one in asked]
            except TemplateError:
                both = [[], []]  # the template takes no user message here
            head = self._heads[key] = both[0][: common_prefix(*both)]
        return head

    def _raw(self, request: Generate, sent: str | tuple[int | str, ...], arrived: float) -> Prompt:
        """Return the prompt of a text that is continued unchanged and may contain control tokens.

        Tokens are used unchanged, without BOS.
        """
        vocabulary, suffix = self._vocabulary, request.options.suffix
        tokens = tokens_of(vocabulary, sent, special=True)
        if suffix:
            if vocabulary.infill is None:
                raise BadParameters(
                    "this model does not support insertion (suffix): it has no fill-in-the-middle "
                    "tokens"
                )
            before, after, middle = vocabulary.infill
            rest = vocabulary.tokenize(suffix, special=True)
            tokens = [before, *tokens, after, *rest, middle]
        echoed_from = 0
        if (
            isinstance(sent, str)
            and vocabulary.add_bos
            and vocabulary.bos is not None
            and tokens[:1] != [vocabulary.bos]
        ):
            tokens.insert(0, vocabulary.bos)
            echoed_from = 1
        length = len(tokens)
        if not length:
            raise BadParameters("the prompt is empty")
        self._require_room(request, length)
        echo = ""
        if request.options.echo:
            echo = self._echo(request, sent, tokens)
        prefix = request.prefix
        if echo and prefix:
            # The echo is published in one piece, before anything else.
            prefix, echo = prefix.removeprefix(echo), ""
        tokens += vocabulary.tokenize(prefix, special=False)
        return Prompt(
            id=request.id,
            owner=request.owner,
            tokens=tokens,
            prompt_tokens=length,
            params=self._bounded(request, request.params, length, len(tokens)),
            stops=request.params.stop,
            generated=request.generated,
            arrived=arrived,
            priority=request.priority,
            echo=echo,
            echoed_from=echoed_from,
            ends_with_prompt=request.options.echo == "only",
        )

    def _echo(
        self, request: Generate, sent: str | tuple[int | str, ...], tokens: Sequence[int]
    ) -> str:
        """Return the text to echo. Raise `BadParameters` if the prompt can't be echoed."""
        if request.options.suffix:
            raise BadParameters("a prompt with a suffix can't be echoed")
        rivals = request.params.top_logprobs
        if rivals is not None and len(tokens) * (rivals + 1) * _LOGPROB_BYTES > MAX_FRAME:
            raise BadParameters(
                "the log probabilities of this prompt are too large: request fewer `top_logprobs`"
            )
        if isinstance(sent, str):
            return sent
        return b"".join(map(self._vocabulary.piece, tokens)).decode(errors="replace")


def tokens_of(
    vocabulary: Vocabulary, sent: str | tuple[int | str, ...], *, special: bool
) -> list[int]:
    """Return the tokens of a text, or of a mix of tokens and texts. Raise `BadParameters`."""
    if isinstance(sent, str):
        return vocabulary.tokenize(sent, special=special)
    tokens: list[int] = []
    for one in sent:
        if isinstance(one, str):
            tokens += vocabulary.tokenize(one, special=special)
        elif 0 <= one < vocabulary.size:
            tokens.append(one)
        else:
            raise BadParameters(
                f"there is no token {one}: the model's highest token ID is {vocabulary.size - 1}"
            )
    return tokens


@dataclass(frozen=True, slots=True)
class _Written:
    """A rendered prompt.

    ``opening`` is the part of the answer in it that readers need: the mark that opens the reasoning
    (``reasons``), or the one that opens the content.
    """

    text: str
    mask: Mask
    opening: str = ""
    reasons: bool = False


def _with_tokens(syntax: OutputSyntax, vocabulary: Vocabulary) -> OutputSyntax:
    """Return ``syntax`` with reasoning marks from the vocabulary if the template names none."""
    if syntax.think_open:
        return syntax
    known = (pair for pair in REASONING if all(mark in vocabulary.controls for mark in pair))
    opening, closing = next(known, ("", ""))
    return msgspec.structs.replace(syntax, think_open=opening, think_close=closing)


class _Renderer:
    """One template with the model's vocabulary."""

    def __init__(
        self, template: ChatTemplate, vocabulary: Vocabulary, syntax: OutputSyntax
    ) -> None:
        self.template = template
        self.syntax = syntax
        self._vocabulary = vocabulary
        self._controls: Mapping[str, int] = controls(vocabulary, template.text)
        self._control_tokens = frozenset(self._controls.values())
        self._finder = ControlFinder(tuple(self._controls))
        # The answer's own marks are written by the model.
        own = frozenset((*marks(syntax), *template.marks))
        self._in_answers = ControlFinder(tuple(text for text in self._controls if text not in own))

    def render(
        self,
        messages: Sequence[ChatMessage],
        options: PromptOptions,
        prefix: str = "",
        *,
        content_first: bool = False,
        no_reasoning: bool = False,
    ) -> _Written:
        """Render a prompt and mask control tokens in its texts.

        ``content_first``: a grammar applies from the answer's first character on. ``no_reasoning``:
        reasoning that the template opened is closed.
        """
        tools: Sequence[Tool] = () if options.tool_choice == "none" else options.tools
        begun: ChatMessage | None = None
        if options.continue_final:
            messages, begun = self._begun(messages)
        texts = texts_of(messages, tools)
        mine = [prefix, begun.content, begun.reasoning] if begun else [prefix]
        sentinel = unused_character([*texts, *mine, self.template.text])
        mask = Mask(sentinel, self._finder.find, self._in_answers.find)

        def rendered(mask: Mask) -> _Written:
            hidden, told = mask.hide_all(messages), mask.hide_tools(tools)
            if begun:
                return self._continued(hidden, told, options, begun, mask)
            text = self.template.render(hidden, told, options.think, effort=options.effort)
            content = content_first or (no_reasoning and not tools)
            return self._opened(text, mask, content=content, no_reasoning=no_reasoning)

        written = rendered(mask)
        if any(True for one in texts for _ in self._finder.beginnings(one)):
            strict = rendered(Mask(sentinel, self._finder.beginnings, self._in_answers.find))
            if self._finder.count(written.text) - self._finder.count(strict.text):
                return strict
        return written

    def _opened(self, text: str, mask: Mask, *, content: bool, no_reasoning: bool) -> _Written:
        """Return the prompt and how the answer begins.

        It begins in reasoning that the template opened, or directly with content if requested.
        """
        syntax = self.syntax
        if syntax.tools == "harmony":
            opening = self.template.to_content(text) if content else ""
            return _Written(text + opening, mask, opening)
        mark = syntax.think_open
        if not mark or not text.rstrip().endswith(mark):
            return _Written(text, mask)
        if no_reasoning:
            return _Written(text + self.template.to_content(text), mask)
        return _Written(text, mask, text[text.rindex(mark) :], reasons=True)

    def _begun(
        self, messages: Sequence[ChatMessage]
    ) -> tuple[Sequence[ChatMessage], ChatMessage | None]:
        """Return the messages before the answer to continue, and that answer, if it has any text.

        Consecutive answers are one. Marked reasoning in the content becomes reasoning.
        """
        end = len(messages)
        while end and messages[end - 1].role == "assistant" and not messages[end - 1].tool_calls:
            end -= 1
        if end == len(messages):
            return messages, None
        [last] = joined(messages[end:])
        if not last.content and not last.reasoning:
            return messages[:end] or messages, None
        syntax, text = self.syntax, last.content.lstrip()
        if not last.reasoning and syntax.think_open and text.startswith(syntax.think_open):
            reasoning, _, content = text[len(syntax.think_open) :].partition(syntax.think_close)
            last = ChatMessage("assistant", content.lstrip(), reasoning.lstrip("\n"))
        return messages[:end], last

    def _continued(
        self,
        messages: Sequence[ChatMessage],
        tools: Sequence[Tool],
        options: PromptOptions,
        begun: ChatMessage,
        mask: Mask,
    ) -> _Written:
        template, syntax = self.template, self.syntax
        if begun.content or not begun.reasoning or not syntax.think_open:
            last = msgspec.structs.replace(begun, reasoning=mask.hide(begun.reasoning))
            text = template.render_continued(
                [*messages, last], tools, options.think, effort=options.effort
            )
            return _Written(text + mask.hide_answer(begun.content), mask)
        text = template.render(messages, tools, options.think, effort=options.effort)
        if not text.rstrip().endswith(syntax.think_open):
            text += syntax.think_open + ("" if syntax.tools == "harmony" else "\n")
        opening = text[text.rindex(syntax.think_open) :]
        return _Written(text + mask.hide_answer(begun.reasoning), mask, opening, reasons=True)

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
        """Tokenize text without control tokens.

        A vocabulary may still match a control token that was declared as text. Then the text is
        split after its first character, so that no token's text stays whole.
        """
        tokens = self._vocabulary.tokenize(text, special=False)
        if self._control_tokens.isdisjoint(tokens) or len(text) < 2:
            return [token for token in tokens if token not in self._control_tokens]
        return self._plain(text[:1]) + self._plain(text[1:])
