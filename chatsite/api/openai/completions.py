"""`/v1/completions`: continues a raw prompt, without a chat template."""

from __future__ import annotations

import math
from functools import partial
from typing import Any, Literal

import msgspec
from django.http import HttpRequest, HttpResponseBase
from django.utils.translation import gettext_lazy as _

from chatsite.accounts.keys import Caller
from chatsite.answers.runtime import runtime
from chatsite.api.core import http, progress
from chatsite.api.core.fan_out import Answers, GenerationRequest, ask_all
from chatsite.api.core.http import BadField
from chatsite.api.core.requests import TextChunk
from chatsite.api.core.streaming import DONE, ResponseEncoder, data, stream
from chatsite.api.openai import convert
from chatsite.api.openai import types as t
from chatsite.api.openai.chat import fingerprint, usage
from chatsite.engine.contract.messages import CUT, PromptOptions, TokenLogprob
from chatsite.stream.entries import End

_decoder = msgspec.json.Decoder(t.CompletionRequest)
# Maximum answers per request, as OpenAI's `n` allows.
_ANSWERS_MAX = 128


@http.endpoint("chat", "POST")
async def completions(request: HttpRequest, caller: Caller) -> HttpResponseBase:
    body = http.body(request, _decoder)
    wanted = _wanted(body)
    if body.stream:
        return await stream(caller, wanted, partial(_Chunks, body))
    async with ask_all(runtime(), caller, wanted) as answers:
        return http.answer(await _whole(body, answers), answers.position)


def _wanted(body: t.CompletionRequest) -> list[GenerationRequest]:
    if body.best_of is not None and body.best_of > (body.n or 1):
        raise BadField(
            _("best_of: not supported. Request n answers and choose one."), param="best_of"
        )
    prompts = convert.prompts(body.prompt, "prompt")
    more: dict[str, Any] = {"top_logprobs": body.logprobs}
    echo: Literal["", "prompt", "only"] = "prompt" if body.echo else ""
    if body.echo and body.max_tokens == 0:
        echo, more["max_tokens"] = "only", 1
    params = convert.choices(convert.sampling(body, **more), body.n)
    if len(prompts) * len(params) > _ANSWERS_MAX:
        raise BadField(
            _("prompt: too many completions in one request (at most 128)."), param="prompt"
        )
    return [
        GenerationRequest(
            body.model,
            params=one,
            options=convert.with_progress(
                body, PromptOptions(raw=prompt, suffix=body.suffix or "", echo=echo)
            ),
            param="prompt",
        )
        for prompt in prompts
        for one in params
    ]


async def _whole(body: t.CompletionRequest, answers: Answers) -> t.Completion:
    texts = [""] * len(answers.all)
    logprobs: list[list[TokenLogprob]] = [[] for _answer in answers.all]
    ends: list[End] = [End("done")] * len(answers.all)
    async for index, event in answers.events():
        if isinstance(event, TextChunk):
            texts[index] += event.text
            logprobs[index] += event.logprobs
        elif isinstance(event, End):
            ends[index] = event
    choices = [
        t.CompletionChoice(
            text,
            index,
            _logprobs(logprobs[index], 0) if body.logprobs is not None else None,
            reason_of(ends[index]),
        )
        for index, text in enumerate(texts)
    ]
    return _completion(answers, choices, _usage(body, ends), progress.timings(ends[0]))


def _usage(body: t.CompletionRequest, ends: list[End]) -> t.Usage:
    """Return the usage; each prompt counts once, however many answers it has."""
    each = [usage(ends[at : at + (body.n or 1)]) for at in range(0, len(ends), body.n or 1)]
    prompt = sum(one.prompt_tokens for one in each)
    completion = sum(one.completion_tokens for one in each)
    cached = sum(one.prompt_tokens_details.cached_tokens for one in each)
    return t.Usage(prompt, completion, prompt + completion, t.PromptDetails(cached))


def _completion(
    answers: Answers,
    choices: list[t.CompletionChoice],
    usage: t.Usage | msgspec.UnsetType | None = msgspec.UNSET,
    timings: dict[str, float] | msgspec.UnsetType = msgspec.UNSET,
    prompt_progress: dict[str, Any] | msgspec.UnsetType = msgspec.UNSET,
) -> t.Completion:
    first = answers.first
    return t.Completion(
        id=f"cmpl-{first.id}",
        created=int(first.created),
        model=first.model,
        system_fingerprint=fingerprint(first),
        choices=choices,
        usage=usage,
        timings=timings,
        prompt_progress=prompt_progress,
    )


def reason_of(end: End) -> Literal["stop", "length"]:
    return "length" if end.finish_reason in CUT else "stop"


def _logprobs(found: list[TokenLogprob], offset: int) -> t.CompletionLogprobs:
    tokens = [one.piece.decode(errors="replace") for one in found]
    offsets = []
    for token in tokens:
        offsets.append(offset)
        offset += len(token)
    return t.CompletionLogprobs(
        tokens,
        [one.logprob for one in found],
        [
            None
            if math.isnan(one.logprob)
            else {piece.decode(errors="replace"): p for _id, piece, p in one.top}
            for one in found
        ],
        offsets,
    )


class _Chunks(ResponseEncoder):
    """Encodes text, one finish per choice, usage if requested, and `[DONE]`."""

    def __init__(self, body: t.CompletionRequest, answers: Answers) -> None:
        self._body = body
        self._answers = answers
        self._with_usage = bool(body.stream_options and body.stream_options.include_usage)
        self._offsets = [0] * len(answers.all)
        self._progress = [progress.Progress.of(body, answer) for answer in answers.all]
        self._ends: dict[int, End] = {}

    def piece(self, index: int, piece: TextChunk) -> bytes:
        known, out, timings = self._progress[index], b"", None
        if known is not None:
            told = known.push(piece.text)
            out = b"".join(data(_completion(self._answers, [], prompt_progress=p)) for p in told)
            timings = known.timings()
            if not piece.text and not piece.logprobs:
                return out
        logprobs = None
        if self._body.logprobs is not None and piece.logprobs:
            logprobs = _logprobs(list(piece.logprobs), self._offsets[index])
            self._offsets[index] += sum(map(len, logprobs.tokens))
        return out + self._chunk(t.CompletionChoice(piece.text, index, logprobs, None), timings)

    def end(self, index: int, end: End) -> bytes:
        self._ends[index] = end
        last = len(self._ends) == len(self._answers.all)
        timings = progress.timings(self._ends[0]) if last else None
        out = self._chunk(t.CompletionChoice("", index, None, reason_of(end)), timings)
        if not last:
            return out
        if self._with_usage:
            total = _usage(self._body, [self._ends[i] for i in range(len(self._ends))])
            out += data(_completion(self._answers, [], total))
        return out + DONE

    def _chunk(self, choice: t.CompletionChoice, timings: dict[str, float] | None) -> bytes:
        unknown = None if self._with_usage else msgspec.UNSET
        return data(_completion(self._answers, [choice], unknown, timings or msgspec.UNSET))
