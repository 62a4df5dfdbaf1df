"""Token counts and tokenization: `/v1/…/input_tokens`, `/tokenize` and `/detokenize`.

The engine child counts alongside its other work: nothing is computed by the model and nothing is
queued. A model that is not loaded is loaded first.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from typing import Annotated, Any, Final

import msgspec
from django.http import HttpRequest, HttpResponseBase
from django.utils.translation import gettext_lazy as _
from msgspec import Meta

from chatsite.accounts.keys import Caller
from chatsite.answers.runtime import runtime
from chatsite.api.core import http, loading
from chatsite.api.core.database import in_database
from chatsite.api.core.http import BadField
from chatsite.api.openai import convert, responses
from chatsite.api.openai import responses_types as r
from chatsite.api.openai import types as t
from chatsite.engine.contract.messages import (
    ChatMessage,
    CountTokens,
    Failed,
    PromptOptions,
    TokenCounts,
)
from chatsite.errors import EngineFailed, ModelUnavailable, RequestRefused, revived
from chatsite.hosts import status, token_counts
from models_admin import catalogue
from models_admin.config import custom
from models_admin.models import ModelName

# Long enough for other users' prompts that are prepared first.
_SECONDS: Final = 20.0
_TOKENS_MAX: Final = 1_000_000


class TokenizeRequest(msgspec.Struct, frozen=True, kw_only=True):
    """The requests of llama-server (``content``) and vLLM (``prompt`` or ``messages``)."""

    model: str | None = None
    content: str | list[str | int] | None = None
    prompt: str | None = None
    messages: list[t.MessageIn] | None = None
    tools: list[t.ToolSpec] | None = None
    add_special: bool | None = None
    add_special_tokens: bool | None = None
    parse_special: bool | None = None
    with_pieces: bool | None = None
    return_token_strs: bool | None = None


class DetokenizeRequest(msgspec.Struct, frozen=True, kw_only=True):
    model: str | None = None
    tokens: Annotated[list[Annotated[int, Meta(ge=0, lt=2**31)]], Meta(max_length=_TOKENS_MAX)]


class InputTokens(msgspec.Struct, frozen=True):
    object: str
    input_tokens: int


class Tokens(msgspec.Struct, frozen=True):
    """The tokens: numbers, or with pieces objects of ``id`` and ``piece``."""

    tokens: list[Any]
    count: int
    max_model_len: int
    token_strs: list[str] | None


class Text(msgspec.Struct, frozen=True):
    """The same text under llama-server's name and vLLM's."""

    content: str
    prompt: str


_chat = msgspec.json.Decoder(t.ChatRequest)
_response = msgspec.json.Decoder(r.ResponseRequest)
_tokenize = msgspec.json.Decoder(TokenizeRequest)
_detokenize = msgspec.json.Decoder(DetokenizeRequest)


@http.endpoint("chat", "POST")
async def chat_input_tokens(request: HttpRequest, caller: Caller) -> HttpResponseBase:
    body = http.body(request, _chat)
    options = convert.chat_options(body)
    found = await count(caller, body.model, convert.messages(body.messages), options)
    return http.answer(InputTokens("chat.completion.input_tokens", found))


@http.endpoint("chat", "POST")
async def response_input_tokens(request: HttpRequest, caller: Caller) -> HttpResponseBase:
    body = http.body(request, _response)
    wanted = responses.wanted_of(body)
    found = await count(caller, body.model, wanted.messages, wanted.options)
    return http.answer(InputTokens("response.input_tokens", found))


@http.endpoint("chat", "POST")
async def tokenize(request: HttpRequest, caller: Caller) -> HttpResponseBase:
    body = http.body(request, _tokenize)
    model = await _model(caller, body.model)
    pieces = bool(body.with_pieces or body.return_token_strs)
    if body.messages:
        options = convert.options(convert.tools(body.tools or ()), None, None)
        measure = _of_messages(model, convert.messages(body.messages), options)
        measure = msgspec.structs.replace(measure, ids=True, pieces=pieces)
    else:
        # Special tokens around the text: vLLM adds them by default, llama-server only on request.
        enclosed = body.add_special_tokens is not False if body.prompt is not None else False
        measure = CountTokens(
            "",
            options=PromptOptions(raw=_content(body)),
            ids=True,
            pieces=pieces,
            special=body.parse_special is not False,
            enclosed=enclosed or bool(body.add_special),
        )
    found, context = await _asked(caller, model, measure)
    head = Tokens([], len(found.tokens), context, [] if found.pieces else None)
    lists: dict[str, Iterable[object]] = {"tokens": found.tokens}
    if body.with_pieces:
        lists["tokens"] = (
            {"id": token, "piece": _piece(piece)}
            for token, piece in zip(found.tokens, found.pieces, strict=True)
        )
    if found.pieces:
        lists["token_strs"] = (piece.decode(errors="replace") for piece in found.pieces)
    return http.answer_lists(head, lists)


@http.endpoint("chat", "POST")
async def detokenize(request: HttpRequest, caller: Caller) -> HttpResponseBase:
    body = http.body(request, _detokenize)
    model = await _model(caller, body.model)
    measure = CountTokens("", options=PromptOptions(raw=tuple(body.tokens)), pieces=True)
    found, _context = await _asked(caller, model, measure)
    text = b"".join(found.pieces).decode(errors="replace")
    return http.answer(Text(text, text))


async def count(
    caller: Caller, name: str, messages: Sequence[ChatMessage], options: PromptOptions
) -> int:
    """Return the number of prompt tokens of a request with these messages."""
    model = await _model(caller, name)
    found, _context = await _asked(caller, model, _of_messages(model, messages, options))
    return found.prompt


def _content(body: TokenizeRequest) -> str | tuple[int | str, ...]:
    content = body.content if body.prompt is None else body.prompt
    if content is None:
        raise BadField(_("content: must be a text."), param="content")
    return content if isinstance(content, str) else tuple(content)


def _piece(piece: bytes) -> str | list[int]:
    """Return the text of a token, or as in llama-server its bytes if they are not valid UTF-8."""
    try:
        return piece.decode()
    except UnicodeDecodeError:
        return list(piece)


async def _model(caller: Caller, name: str | None) -> ModelName:
    """Return the model. Raises `ModelMissing`, or `BadField` if no name is given.

    As in llama-server the name may be absent if there is only one model that writes.
    """

    def found() -> ModelName:
        if name:
            return catalogue.find(name, caller.user)
        offered = catalogue.offered(caller.user, writing=True)
        if len(offered) != 1:
            raise BadField(_("model: required."), param="model")
        return catalogue.find(offered[0]["name"])

    return await in_database(found)


def _of_messages(
    model: ModelName, messages: Sequence[ChatMessage], options: PromptOptions
) -> CountTokens:
    request = custom.apply(custom.of(model), messages, {}, prompt=options)
    return CountTokens("", request.messages, request.options)


async def _asked(caller: Caller, model: ModelName, measure: CountTokens) -> tuple[TokenCounts, int]:
    """Return the engine's answer and the model's context size in tokens.

    Raises `RequestRefused` for input that can't be counted, and `ModelUnavailable`.
    """
    redis = runtime().redis
    await loading.load(redis, model.name)
    hosts = await status.alive(redis)
    measure = msgspec.structs.replace(measure, id=uuid.uuid4().hex, owner=str(caller.user.pk))
    answer = await token_counts.answer(redis, hosts, model.version_id, measure, _SECONDS)
    if answer is None:
        raise ModelUnavailable(_("The model is too busy to count tokens. Try again in a moment."))
    if isinstance(answer, Failed):
        if answer.code == RequestRefused.code:
            raise RequestRefused(reason=answer.message)
        raise revived({"code": answer.code, **answer.details}) or EngineFailed()
    known = status.best(hosts, model.name)
    return answer, known.context if known and known.context else 0
