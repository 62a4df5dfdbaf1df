"""Names of remote models in the catalogue, from the names that engines give them."""

from __future__ import annotations

import hashlib
import re
from typing import Final

from models_admin import names

_UNUSABLE: Final = re.compile(r"[^A-Za-z0-9_./:-]+", re.ASCII)
_UNUSABLE_IN_NAMESPACE: Final = re.compile(r"[^A-Za-z0-9_-]+", re.ASCII)
_PART: Final = 80


def digest_of(name: str) -> str:
    """Return the digest of the version of a remote model: SHA-256 of its name at the engines."""
    return hashlib.sha256(b"remote model\n" + name.encode()).hexdigest()


def catalogue_name(name: str, *, namespace: str = "") -> str:
    """Return a valid model name, ``model:tag`` or ``namespace/model:tag``.

    Of paths and long names the last parts are used. ``namespace`` replaces the name's own.
    """
    try:
        parsed = names.parse(name)
    except names.BadModelName:
        parsed = None
    if parsed is not None and not namespace:
        return str(parsed)
    path, colon, tag = _UNUSABLE.sub("-", name).strip("/").rpartition(":")
    if not colon or "/" in tag:
        path, tag = f"{path}{colon}{tag}", names.DEFAULT_TAG
    *ahead, model = [part for part in path.split("/") if part] or ["model"]
    own = _UNUSABLE_IN_NAMESPACE.sub("-", ahead[-1])[:_PART].lstrip("-") if ahead else ""
    model = model.replace(":", "-").lstrip(".-")[:_PART] or "model"
    tag = tag.lstrip(".-")[:_PART] or names.DEFAULT_TAG
    # The folders of a file are no namespace.
    first = namespace or ("" if name.startswith(("/", ".")) else own)
    return names.normalise(f"{first}/{model}:{tag}" if first else f"{model}:{tag}")
