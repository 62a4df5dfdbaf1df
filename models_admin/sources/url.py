"""A GGUF file at a URL, with its SHA-256 as an optional fragment ``#sha256=…``."""

from __future__ import annotations

import re
from typing import Final

import httpx
from django.utils.translation import gettext_lazy as _

from chatsite.numbers import natural
from models_admin import names
from models_admin.sources import egress, fetch
from models_admin.sources.base import Blob, Resolved, SourceRefused, refusal

_URL: Final = re.compile(r"https?://\S+", re.IGNORECASE)
_DIGEST: Final = re.compile(r"sha256=[0-9a-f]{64}", re.IGNORECASE)
_TOTAL: Final = re.compile(r"bytes 0-0/(\d+)")
_SIZE_MAX: Final = 2**63 - 1
_UNFIT: Final = re.compile(r"[^A-Za-z0-9_.-]+")


def is_url(text: str) -> bool:
    address, hash, digest = text.partition("#")
    if not _URL.fullmatch(address) or (hash and not _DIGEST.fullmatch(digest)):
        return False
    path, _query, _rest = address.partition("?")
    return path.lower().endswith(".gguf") and len(path) > len("https://.gguf")


def model_name(text: str) -> str:
    """Derive a model name from a URL. Raises `FetchRefused` if it is invalid."""
    try:
        path = httpx.URL(text).path
    except httpx.InvalidURL as error:
        raise egress.refused(_("%r is not a valid address."), text) from error
    return fitting(path.rpartition("/")[2])


def fitting(file: str) -> str:
    """Derive a valid model name from a file name."""
    stem = file[: -len(".gguf")] if file.lower().endswith(".gguf") else file
    return names.normalise(_UNFIT.sub("-", stem).strip("-.")[:80] or "model")


def resolve(text: str) -> Resolved:
    """Request only the first byte: the response gives the size."""
    address, _hash, digest = text.partition("#sha256=")
    with fetch.get(address, headers={"Range": "bytes=0-0"}) as reply:
        if reply.status == 206:
            found = _TOTAL.fullmatch(reply.header("Content-Range"))
            size = found[1] if found else ""
        elif reply.status == 200:
            size = reply.header("Content-Length")
        else:
            raise refusal(reply.status)
    length = natural(size, _SIZE_MAX)
    if length is None:
        raise SourceRefused(_("The source does not report the file size."))
    blob = Blob(address, digest.lower(), length, "model")
    return Resolved(model_name(address), (blob,), {})
