"""What every source answers."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

from django.utils.translation import gettext_lazy as _

from chatsite.errors import ChatsiteError
from models_admin import fetch, outside

# The largest manifest or listing of one page that is read.
_ANSWER_BYTES = 4 << 20


class SourceMissing(ChatsiteError):
    code = "source_not_found"
    status = 404
    message = _("There is no such model at its source. Check the name and the tag.")


class SourceRefused(ChatsiteError):
    code = "source_refused"
    status = 400
    message = _("The source does not give this model.")


@dataclass(frozen=True)
class Blob:
    """One file: its SHA-256 (64 hex digits, empty when its source publishes none), bytes, and
    ``role`` as Ollama calls its layers: model, template, system, params, license, messages,
    adapter, projector. ``token`` is the Bearer token that ``url`` asks for."""

    url: str
    digest: str
    size: int
    role: str
    token: str = field(default="", repr=False)

    @property
    def key(self) -> str:
        """What it is called while it arrives."""
        return self.digest or hashlib.sha256(self.url.encode()).hexdigest()


@dataclass(frozen=True)
class Resolved:
    """``name`` is the written form; ``config`` is what the source says about the model."""

    name: str
    blobs: tuple[Blob, ...]
    config: dict[str, Any]

    @property
    def weights(self) -> tuple[Blob, ...]:
        """The model's file, or its parts in their order."""
        return tuple(blob for blob in self.blobs if blob.role == "model")

    @property
    def version(self) -> str:
        """Changes when the weights do; empty when the source does not tell their SHA-256."""
        digests = [blob.digest for blob in self.weights]
        if len(digests) == 1 or not all(digests):
            return digests[0] if len(digests) == 1 else ""
        return hashlib.sha256("".join(digests).encode()).hexdigest()

    @property
    def total(self) -> int:
        """Bytes of all files."""
        return sum(blob.size for blob in self.blobs)


async def answer(
    url: str, *, token: str = "", headers: dict[str, str] | None = None
) -> tuple[fetch.Reply, Any]:
    """Status, headers and JSON; None in place of JSON where the status is not 200."""
    reply, body = await fetch.read(url, limit=_ANSWER_BYTES, token=token, headers=headers)
    if reply.status != 200:
        return reply, None
    try:
        return reply, json.loads(body)
    except ValueError as error:
        raise not_understood() from error


def not_understood() -> SourceRefused:
    return SourceRefused(_("The source's answer can't be understood."))


def refusal(status: int) -> ChatsiteError:
    """The refusal that fits a status that is not 200."""
    if status == 404:
        return SourceMissing()
    if status in {401, 403}:
        return SourceRefused(
            _("The source asks for a right to this model that this server does not have.")
        )
    return outside.FetchFailed(str(_("The source answered with status %s.")) % status)
