"""Types and helpers shared by all sources."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import Any

from django.utils.translation import gettext_lazy as _

from chatsite.errors import ChatsiteError, worded
from models_admin.sources import egress, fetch

# Limit for a manifest or one page of a listing.
_ANSWER_BYTES = 4 << 20


class SourceMissing(ChatsiteError):
    code = "source_not_found"
    status = 404
    message = _("The source has no such model. Check the name and the tag.")


class SourceRefused(ChatsiteError):
    code = "source_refused"
    status = 400
    message = _("The source refused to serve this model.")


@dataclass(frozen=True)
class Blob:
    """One file at a source.

    ``digest`` is its SHA-256 (64 hex digits), empty if the source publishes none. ``role`` is the
    name that Ollama gives the layer: model, template, system, params, license, messages, adapter or
    projector. ``token`` is the Bearer token for ``url``.
    """

    url: str
    digest: str
    size: int
    role: str
    token: str = field(default="", repr=False)

    @property
    def key(self) -> str:
        """Return the name of the partial file."""
        return self.digest or hashlib.sha256(self.url.encode()).hexdigest()


@dataclass(frozen=True)
class Resolved:
    """A resolved model: its canonical ``name``, its files, and the source's ``config``."""

    name: str
    blobs: tuple[Blob, ...]
    config: dict[str, Any]

    @property
    def weights(self) -> tuple[Blob, ...]:
        """Return the model's file, or its parts in order."""
        return tuple(blob for blob in self.blobs if blob.role == "model")

    @property
    def version(self) -> str:
        """Return an ID that changes when the weights do.

        Empty if the source publishes no SHA-256.
        """
        digests = [blob.digest for blob in self.weights]
        if len(digests) == 1 or not all(digests):
            return digests[0] if len(digests) == 1 else ""
        return hashlib.sha256("".join(digests).encode()).hexdigest()

    @property
    def total(self) -> int:
        """Return the size of all files in bytes."""
        return sum(blob.size for blob in self.blobs)


def answer(
    url: str, *, token: str = "", headers: dict[str, str] | None = None
) -> tuple[fetch.Reply, Any]:
    """Return a response and its decoded JSON, or None instead of JSON if the status is not 200."""
    reply, body = fetch.read(url, limit=_ANSWER_BYTES, token=token, headers=headers)
    if reply.status != 200:
        return reply, None
    try:
        return reply, json.loads(body)
    except ValueError as error:
        raise not_understood() from error


def not_understood() -> SourceRefused:
    return SourceRefused(_("The source sent an invalid response."))


def refusal(status: int) -> ChatsiteError:
    """Return the error for a status other than 200."""
    if status == 404:
        return SourceMissing()
    if status in {401, 403}:
        return SourceRefused(
            _("Access denied: this model needs a token with access (CHATSITE_HF_TOKEN).")
        )
    return egress.FetchFailed(
        worded(_("The source responded with HTTP status %s. Try again later."), status)
    )
