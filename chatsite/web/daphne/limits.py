"""The limit of a request's body, by path."""

from __future__ import annotations

from typing import Final

from django.conf import settings
from django.urls import Resolver404, resolve

from chatsite.api.core import body_sizes, front
from chatsite.conversations.attachments import storage
from chatsite.exchange.views import BODY_MAX
from chatsite.knowledge.sync import MANIFEST_BYTES
from chatsite.knowledge.upload import PIECE_BYTES as DOCUMENT_PIECE_BYTES
from models_admin.config import modelfile
from models_admin.jobs import incoming

# URL names of pages that accept more than a form: uploads in parts by signed-in users.
_LARGER: Final = {
    "import": BODY_MAX,
    "piece": storage.PIECE_BYTES,
    "document_piece": DOCUMENT_PIECE_BYTES,
    "collection_sync": MANIFEST_BYTES,
    "upload": incoming.PIECE_BYTES,
    "modelfile": 4 * modelfile.MAX_CHARS + (64 << 10),
}


def most(path: str) -> int:
    """Return the limit of the body in bytes."""
    if front.for_programs(path):
        return settings.ENV.api_body_mb << 20
    form: int = settings.DATA_UPLOAD_MAX_MEMORY_SIZE
    try:
        return _LARGER.get(resolve(path).url_name or "", form)
    except Resolver404:
        return body_sizes.FOR_ALL
