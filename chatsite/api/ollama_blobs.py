"""Ollama's `/api/blobs/`: files that models are then created of. They are written to the disk while
they arrive (`daphne/server.py`), so that a file of any size takes little memory."""

from __future__ import annotations

import asyncio
import re
from functools import partial
from typing import Final

from asgiref.sync import sync_to_async
from django.core.handlers.asgi import ASGIRequest
from django.http import HttpResponse, HttpResponseBase

from chatsite.accounts.keys import Caller
from chatsite.api import ollama
from chatsite.api.http import BadField
from chatsite.api.ollama import endpoint
from chatsite.daphne import feed
from chatsite.errors import ChatsiteError
from models_admin import blobs

_DIGEST: Final = re.compile(r"sha256[:-]([0-9a-f]{64})")
_BLOCK: Final = 1 << 20


class NotWhole(ChatsiteError):
    code = "upload_broken"
    status = 400


def parse_digest(text: str) -> str:
    """64 hex digits. Raises `BadField`."""
    found = _DIGEST.fullmatch(text)
    if found is None:
        raise BadField("invalid digest format")
    return found[1]


@endpoint("models", "HEAD", "POST")
async def blob(request: ASGIRequest, caller: Caller, digest: str) -> HttpResponseBase:
    """Whether content is here; with POST takes it in: 201, or 200 when it was here already."""
    wanted = parse_digest(digest)
    here = await sync_to_async(blobs.find)(wanted)
    if request.method == "HEAD":
        return HttpResponse(status=200 if here else 404)
    await sync_to_async(ollama.may_change)(caller, "add")
    body = feed.of(request.scope)
    read = body.read if body else partial(asyncio.to_thread, request.read, _BLOCK)
    try:
        if here is None:
            length = request.META.get("CONTENT_LENGTH")
            await blobs.take(wanted, int(length) if length else None, read)
        while await read():
            pass  # many clients read no answer before they have sent everything
    except feed.Broken:
        raise NotWhole from None
    return HttpResponse(status=200 if here else 201)
