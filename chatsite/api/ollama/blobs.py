"""Ollama's `/api/blobs/`: uploads of files from which models are then created.

They are written to disk while they arrive (`web/daphne/server.py`), so the size of a file does not
matter for memory.
"""

from __future__ import annotations

import asyncio
import re
from functools import partial
from typing import Final

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpResponse, HttpResponseBase

from chatsite.accounts.keys import Caller
from chatsite.api.core import body_stream
from chatsite.api.core.http import BadField
from chatsite.api.ollama import common
from chatsite.api.ollama.common import endpoint
from chatsite.errors import BodyTooSlow, ChatsiteError
from chatsite.numbers import natural
from models_admin.store import blobs

_DIGEST: Final = re.compile(r"sha256[:-]([0-9a-f]{64})")
_BLOCK: Final = 1 << 20


class NotWhole(ChatsiteError):
    code = "upload_broken"
    status = 400


def parse_digest(text: str) -> str:
    """Return the 64 hex digits of a digest. Raises `BadField`."""
    found = _DIGEST.fullmatch(text)
    if found is None:
        raise BadField("invalid digest format")
    return found[1]


@endpoint("manage", "HEAD", "POST", streamed=True)
async def blob(request: ASGIRequest, caller: Caller, digest: str) -> HttpResponseBase:
    """Return whether a blob exists; on POST store it: 201, or 200 if it existed already."""
    wanted = parse_digest(digest)
    await sync_to_async(common.may_change)(caller, "add")
    here = await sync_to_async(blobs.find)(wanted)
    if request.method == "HEAD":
        return HttpResponse(status=200 if here else 404)
    body = body_stream.of(request.scope)
    read = body.read if body else partial(asyncio.to_thread, request.read, _BLOCK)
    try:
        if here is None:
            length = natural(request.META.get("CONTENT_LENGTH") or "", 2**63 - 1)
            await blobs.take(wanted, length, read)
        while await read():
            pass  # many clients read no response before they have sent the whole body
    except body_stream.Broken:
        raise NotWhole from None
    except body_stream.TooSlow:
        raise BodyTooSlow from None
    return HttpResponse(status=200 if here else 201)
