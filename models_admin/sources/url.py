"""A GGUF file at an address. Its SHA-256 can be given as ``#sha256=…`` behind it."""

from __future__ import annotations

import re
from typing import Final

import httpx
from django.utils.translation import gettext_lazy as _

from models_admin import fetch, names, outside
from models_admin.sources.base import Blob, Resolved, SourceRefused, refusal

_URL: Final = re.compile(r"https?://\S+\.gguf(?:\?\S*)?(?:#sha256=[0-9a-f]{64})?", re.IGNORECASE)
_TOTAL: Final = re.compile(r"bytes 0-0/(\d+)")
_UNFIT: Final = re.compile(r"[^A-Za-z0-9_.-]+")


def is_url(text: str) -> bool:
    return bool(_URL.fullmatch(text))


def model_name(text: str) -> str:
    """A name for the model at an address. Raises `FetchRefused` for what is none."""
    try:
        path = httpx.URL(text).path
    except httpx.InvalidURL as error:
        raise outside.refused(_("%r is not an address."), text) from error
    return fitting(path.rpartition("/")[2])


def fitting(file: str) -> str:
    """A name for the model, from that of its file."""
    stem = file[: -len(".gguf")] if file.lower().endswith(".gguf") else file
    return names.normalise(_UNFIT.sub("-", stem).strip("-.")[:80] or "model")


async def resolve(text: str) -> Resolved:
    """Asks for the first byte alone, whose answer tells the size."""
    address, _hash, digest = text.partition("#sha256=")
    async with fetch.stream(address, headers={"Range": "bytes=0-0"}) as reply:
        if reply.status == 206:
            found = _TOTAL.fullmatch(reply.headers.get("Content-Range", ""))
            size = found[1] if found else ""
        elif reply.status == 200:
            size = reply.headers.get("Content-Length", "")
        else:
            raise refusal(reply.status)
    if not size.isdecimal():
        raise SourceRefused(_("The source does not tell how large the file is."))
    blob = Blob(address, digest.lower(), int(size), "model")
    return Resolved(model_name(address), (blob,), {})
