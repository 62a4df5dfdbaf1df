"""`/v1/embeddings`."""

from __future__ import annotations

import base64
import math
from array import array
from collections.abc import Iterator

import msgspec
from django.http import HttpRequest, HttpResponseBase
from django.utils.translation import gettext_lazy as _

from chatsite.accounts.keys import Caller
from chatsite.answers.runtime import runtime
from chatsite.api.core import http
from chatsite.api.core.fan_out import GenerationRequest, ask_all
from chatsite.api.core.http import BadField
from chatsite.api.openai import convert
from chatsite.api.openai import types as t
from chatsite.engine.contract.messages import Embed
from chatsite.errors import EngineFailed
from chatsite.stream.entries import Vectors

_decoder = msgspec.json.Decoder(t.EmbeddingRequest)


@http.endpoint("embed", "POST")
async def embeddings(request: HttpRequest, caller: Caller) -> HttpResponseBase:
    body = http.body(request, _decoder)
    if body.normalize is False:
        raise BadField(
            _("normalize: vectors are always normalized to length 1."), param="normalize"
        )
    inputs = tuple(convert.prompts(body.input, "input"))
    truncate = body.truncate_prompt_tokens is not None
    wanted = GenerationRequest(body.model, embed=Embed("", "", inputs, truncate), param="input")
    async with ask_all(runtime(), caller, [wanted]) as answers:
        vectors: Vectors | None = None
        async for _index, event in answers.events():
            if isinstance(event, Vectors):
                vectors = event
        if vectors is None:
            raise EngineFailed
        head, data = rendered(body, answers.first.model, vectors)
        return http.answer_lists(head, {"data": data}, answers.position)


def rendered(
    body: t.EmbeddingRequest, model: str, found: Vectors
) -> tuple[t.Embeddings, Iterator[t.Embedding]]:
    """Return the response without ``data``, and its items, each created when it is taken.

    ``dimensions`` truncates each vector and normalizes it again. Raises `BadField`.
    """
    size = body.dimensions or found.size
    if size > found.size:
        raise BadField(
            _("dimensions: the vectors of this model have %(size)s dimensions.")
            % {"size": found.size},
            param="dimensions",
        )
    data = (
        t.Embedding(
            index=index,
            embedding=base64.b64encode(vector).decode()
            if body.encoding_format == "base64"
            else vector.tolist(),
        )
        for index, vector in enumerate(each(found, size))
    )
    usage = t.EmbeddingUsage(found.tokens, found.tokens)
    return t.Embeddings(data=[], model=model, usage=usage), data


def each(found: Vectors, dimensions: int = 0) -> Iterator[array[float]]:
    """Yield the vectors, `shortened`, one at a time, so thousands don't block the event loop."""
    size = 4 * found.size
    for at in range(0, len(found.vectors), size):
        yield shortened(array("f", found.vectors[at : at + size]), dimensions)


def shortened(vector: array[float], size: int) -> array[float]:
    """Return the first ``size`` numbers, normalized to length 1; 0 keeps the vector unchanged."""
    return _unit(vector[:size]) if 0 < size < len(vector) else vector


def _unit(vector: array[float]) -> array[float]:
    length = math.sqrt(sum(number * number for number in vector)) or 1.0
    return array("f", (number / length for number in vector))
