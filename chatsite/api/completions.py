"""`/v1/completions`: text goes on from a prompt as it is, without a template."""

from __future__ import annotations

from functools import partial
from typing import Literal

import msgspec
from django.http import HttpRequest, HttpResponseBase
from django.utils.translation import gettext_lazy as _

from chatsite.accounts.keys import Caller
from chatsite.api import convert, http
from chatsite.api import types as t
from chatsite.api.chat import fingerprint, usage
from chatsite.api.http import BadField
from chatsite.api.many import Answers, Wanted, ask_all
from chatsite.api.requests import Piece
from chatsite.api.streaming import DONE, Form, data, stream
from chatsite.chat.runtime import runtime
from chatsite.engine.messages import PromptOptions, TokenLogprob
from chatsite.stream.messages import End

_decoder = msgspec.json.Decoder(t.CompletionRequest)
# Answers to one request: as many as OpenAI's `n` allows.
_ANSWERS_MAX = 128


@http.endpoint("chat", "POST")
async def completions(request: HttpRequest, caller: Caller) -> HttpResponseBase:
    body = http.body(request, _decoder)
    wanted = _wanted(body)
    if body.stream:
        return await stream(caller, wanted, partial(_Chunks, body))
    async with ask_all(runtime(), caller, wanted) as answers:
        return http.answer(await _whole(body, answers), answers.position)


def _wanted(body: t.CompletionRequest) -> list[Wanted]:
    if body.echo:
        raise BadField(
            _("echo: it is not supported. Put the prompt before the answer yourself."), param="echo"
        )
    if body.best_of is not None and body.best_of > (body.n or 1):
        raise BadField(
            _("best_of: it is not supported. Ask for n answers and choose one."), param="best_of"
        )
    prompts = [body.prompt] if isinstance(body.prompt, str) else body.prompt
    texts = [prompt for prompt in prompts if isinstance(prompt, str)]
    if len(texts) != len(prompts) or not texts:
        raise BadField(_("prompt: send text or a list of texts, not tokens."), param="prompt")
    params = convert.choices(convert.sampling(body, top_logprobs=body.logprobs), body.n)
    if len(texts) * len(params) > _ANSWERS_MAX:
        raise BadField(_("prompt: these are too many answers in one request."), param="prompt")
    return [
        Wanted(body.model, params=one, options=PromptOptions(raw=text, suffix=body.suffix or ""))
        for text in texts
        for one in params
    ]


async def _whole(body: t.CompletionRequest, answers: Answers) -> t.Completion:
    texts = [""] * len(answers.all)
    logprobs: list[list[TokenLogprob]] = [[] for _answer in answers.all]
    ends: list[End] = [End("done")] * len(answers.all)
    async for index, event in answers.events():
        if isinstance(event, Piece):
            texts[index] += event.text
            logprobs[index] += event.logprobs
        elif isinstance(event, End):
            ends[index] = event
    choices = [
        t.CompletionChoice(
            text,
            index,
            _logprobs(logprobs[index], 0) if body.logprobs is not None else None,
            _reason(ends[index]),
        )
        for index, text in enumerate(texts)
    ]
    return _completion(answers, choices, _usage(body, ends))


def _usage(body: t.CompletionRequest, ends: list[End]) -> t.Usage:
    """Of all prompts, each counted once however many answers it has."""
    each = [usage(ends[at : at + (body.n or 1)]) for at in range(0, len(ends), body.n or 1)]
    prompt = sum(one.prompt_tokens for one in each)
    completion = sum(one.completion_tokens for one in each)
    cached = sum(one.prompt_tokens_details.cached_tokens for one in each)
    return t.Usage(prompt, completion, prompt + completion, t.PromptDetails(cached))


def _completion(
    answers: Answers,
    choices: list[t.CompletionChoice],
    usage: t.Usage | msgspec.UnsetType | None = msgspec.UNSET,
) -> t.Completion:
    first = answers.first
    return t.Completion(
        id=f"cmpl-{first.id}",
        created=int(first.created),
        model=first.model,
        system_fingerprint=fingerprint(first),
        choices=choices,
        usage=usage,
    )


def _reason(end: End) -> Literal["stop", "length"]:
    return "length" if end.finish_reason == "length" else "stop"


def _logprobs(found: list[TokenLogprob], offset: int) -> t.CompletionLogprobs:
    tokens = [one.piece.decode(errors="replace") for one in found]
    offsets = []
    for token in tokens:
        offsets.append(offset)
        offset += len(token)
    return t.CompletionLogprobs(
        tokens,
        [one.logprob for one in found],
        [{piece.decode(errors="replace"): p for _id, piece, p in one.top} for one in found],
        offsets,
    )


class _Chunks(Form):
    """Text, one finish per choice, usage if it was asked for, `[DONE]`."""

    def __init__(self, body: t.CompletionRequest, answers: Answers) -> None:
        self._body = body
        self._answers = answers
        self._with_usage = bool(body.stream_options and body.stream_options.include_usage)
        self._offsets = [0] * len(answers.all)
        self._ends: dict[int, End] = {}

    def piece(self, index: int, piece: Piece) -> bytes:
        logprobs = None
        if self._body.logprobs is not None and piece.logprobs:
            logprobs = _logprobs(list(piece.logprobs), self._offsets[index])
            self._offsets[index] += sum(map(len, logprobs.tokens))
        return self._chunk(t.CompletionChoice(piece.text, index, logprobs, None))

    def end(self, index: int, end: End) -> bytes:
        self._ends[index] = end
        out = self._chunk(t.CompletionChoice("", index, None, _reason(end)))
        if len(self._ends) < len(self._answers.all):
            return out
        if self._with_usage:
            total = _usage(self._body, [self._ends[i] for i in range(len(self._ends))])
            out += data(_completion(self._answers, [], total))
        return out + DONE

    def _chunk(self, choice: t.CompletionChoice) -> bytes:
        unknown = None if self._with_usage else msgspec.UNSET
        return data(_completion(self._answers, [choice], unknown))
