"""Hugging Face: GGUF files in a repository, each with its published SHA-256."""

from __future__ import annotations

import re
from typing import Any, Final
from urllib.parse import quote

from django.conf import settings
from django.utils.translation import gettext_lazy as _

from models_admin import names
from models_admin.sources.base import Blob, Resolved, SourceRefused, answer, not_understood, refusal

HOSTS: Final = frozenset({"hf.co", "huggingface.co"})
_DEFAULT_QUANT = "Q4_K_M"
_PAGES_MAX = 20
_NEXT = re.compile(r'<([^>]+)>;\s*rel="next"')
_SPLIT = re.compile(r"-\d{5}-of-\d{5}\.gguf$", re.IGNORECASE)
_SHA256 = re.compile(r"[0-9a-f]{64}")


async def resolve(name: names.Name) -> Resolved:
    base = settings.ENV.hf_endpoint or "https://huggingface.co"
    repo = f"{name.namespace}/{name.model}"
    files = {
        path: entry
        for entry in await _tree(base, f"/api/models/{repo}/tree/main?recursive=true")
        if isinstance(entry, dict)
        and isinstance(path := entry.get("path"), str)
        and path.lower().endswith(".gguf")
        and not path.lower().rpartition("/")[2].startswith("mmproj")
    }
    path = _choose(list(files), name.tag)
    lfs = files[path].get("lfs")
    digest, size = (lfs.get("oid"), lfs.get("size")) if isinstance(lfs, dict) else (None, None)
    if not isinstance(digest, str) or not _SHA256.fullmatch(digest) or not isinstance(size, int):
        raise SourceRefused(_("The source publishes no SHA-256 for this file."))
    url = f"{base}/{repo}/resolve/main/{quote(path)}"
    blob = Blob(url, digest, size, "model", settings.ENV.hf_token)
    return Resolved(str(name), (blob,), {"file": path})


async def _tree(base: str, start: str) -> list[Any]:
    entries: list[Any] = []
    url = base + start
    for _page in range(_PAGES_MAX):
        reply, found = await answer(url, token=settings.ENV.hf_token)
        if reply.status != 200:
            raise refusal(reply.status)
        if not isinstance(found, list):
            raise not_understood()
        entries += found
        following = _NEXT.search(reply.headers.get("Link", ""))
        if following is None:
            return entries
        url = following[1]
        # The token goes along, so a listing may not lead elsewhere.
        if not url.startswith(f"{base}/"):
            raise not_understood()
    raise SourceRefused(_("The repository has too many files."))


def _choose(paths: list[str], tag: str) -> str:
    """The file of a quantization, or of a full name; without a tag `_DEFAULT_QUANT` or the only
    one there is."""
    whole = sorted(path for path in paths if not _SPLIT.search(path))
    chosen = _matching(whole, _DEFAULT_QUANT if tag == names.DEFAULT_TAG else tag)
    if tag == names.DEFAULT_TAG and not chosen and len(whole) == 1:
        chosen = whole
    if len(chosen) == 1:
        return chosen[0]
    if not chosen and _matching([_SPLIT.sub(".gguf", path) for path in paths], tag):
        raise SourceRefused(
            _("This model is split into several files, which can't be downloaded yet.")
        )
    there = ", ".join(whole[:20]) or "-"
    raise SourceRefused(
        str(_("The tag %(tag)r does not name one GGUF file. There are: %(files)s."))
        % {"tag": tag, "files": there}
    )


def _matching(paths: list[str], tag: str) -> list[str]:
    tag = tag.lower()
    exact = [path for path in paths if path.lower().rpartition("/")[2] in {tag, f"{tag}.gguf"}]
    return exact or [
        path for path in paths if re.search(rf"(?:^|[-._/]){re.escape(tag)}\.gguf$", path.lower())
    ]
