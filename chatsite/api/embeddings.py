"""`/v1/embeddings`."""

from __future__ import annotations

import base64
import math
from array import array

import msgspec
from django.http import HttpRequest, HttpResponseBase
from django.utils.translation import gettext_lazy as _

from chatsite.accounts.keys import Caller
from chatsite.api import http
from chatsite.api import types as t
from chatsite.api.http import BadField
from chatsite.api.many import Wanted, ask_all
from chatsite.chat.runtime import runtime
from chatsite.engine.messages import Embed
from chatsite.errors import EngineFailed
from chatsite.stream.messages import Vectors

_decoder = msgspec.json.Decoder(t.EmbeddingRequest)


@http.endpoint("embed", "POST")
async def embeddings(request: HttpRequest, caller: Caller) -> HttpResponseBase:
    body = http.body(request, _decoder)
    wanted = Wanted(body.model, embed=Embed("", "", inputs(body.input)))
    async with ask_all(runtime(), caller, [wanted]) as answers:
        vectors: Vectors | None = None
        async for _index, event in answers.events():
            if isinstance(event, Vectors):
                vectors = event
        if vectors is None:
            raise EngineFailed
        return http.answer(rendered(body, answers.first.model, vectors), answers.position)


def inputs(sent: str | list[str | int | list[int]]) -> tuple[str | tuple[int, ...], ...]:
    """One input per vector: text, or the tokens of one."""
    if isinstance(sent, str):
        return (sent,)
    numbers = [one for one in sent if isinstance(one, int)]
    if not numbers:
        return tuple(_checked(one) for one in sent if not isinstance(one, int))
    if len(numbers) != len(sent):
        raise BadField(_("input: send texts or tokens, not both in one list."), param="input")
    return (_checked(numbers),)


def _checked(one: str | list[int]) -> str | tuple[int, ...]:
    if isinstance(one, str):
        return one
    if not one or any(not 0 <= token < 2**31 for token in one):
        raise BadField(_("input: these are no tokens."), param="input")
    return tuple(one)


def rendered(body: t.EmbeddingRequest, model: str, found: Vectors) -> t.Embeddings:
    """``dimensions`` keeps the first numbers of each vector and makes its length 1 again."""
    size = body.dimensions or found.size
    if size > found.size:
        raise BadField(
            _("dimensions: the vectors of this model have %(size)s.") % {"size": found.size},
            param="dimensions",
        )
    numbers = array("f", found.vectors)
    vectors = [numbers[at : at + found.size] for at in range(0, len(numbers), found.size)]
    vectors = [shortened(vector, size) for vector in vectors]
    return t.Embeddings(
        data=[
            t.Embedding(
                index=index,
                embedding=base64.b64encode(vector.tobytes()).decode()
                if body.encoding_format == "base64"
                else vector.tolist(),
            )
            for index, vector in enumerate(vectors)
        ],
        model=model,
        usage=t.EmbeddingUsage(found.tokens, found.tokens),
    )


def shortened(vector: array[float], size: int) -> array[float]:
    """The first ``size`` numbers, made a vector of length 1 again; 0 keeps all."""
    return _unit(vector[:size]) if 0 < size < len(vector) else vector


def _unit(vector: array[float]) -> array[float]:
    length = math.sqrt(sum(number * number for number in vector)) or 1.0
    return array("f", (number / length for number in vector))
