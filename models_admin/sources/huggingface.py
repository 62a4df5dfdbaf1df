"""Hugging Face: GGUF files in a repository, each with its published SHA-256."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote, urlencode

import msgspec
from django.conf import settings
from django.utils.translation import gettext_lazy as _

from models_admin import names
from models_admin.sources.base import (
    Blob,
    Resolved,
    SourceMissing,
    SourceRefused,
    answer,
    not_understood,
    refusal,
)

HOSTS: Final = frozenset({"hf.co", "huggingface.co"})
_DEFAULT_QUANT = "Q4_K_M"
_PAGES_MAX = 20
_FOUND_MAX = 30
_REPOSITORY = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,79}/[A-Za-z0-9_][A-Za-z0-9_.-]{0,79}")
_NEXT = re.compile(r'<([^>]+)>;\s*rel="next"')
_SPLIT = re.compile(r"-\d{5}-of-\d{5}\.gguf$", re.IGNORECASE)
_SHA256 = re.compile(r"[0-9a-f]{64}")


async def resolve(name: names.Name) -> Resolved:
    repo = f"{name.namespace}/{name.model}"
    listed = await _models(repo)
    path = _choose(list(listed), name.tag)
    lfs = listed[path].get("lfs")
    digest, size = (lfs.get("oid"), lfs.get("size")) if isinstance(lfs, dict) else (None, None)
    if not isinstance(digest, str) or not _SHA256.fullmatch(digest) or not isinstance(size, int):
        raise SourceRefused(_("The source publishes no SHA-256 for this file."))
    url = f"{_base()}/{repo}/resolve/main/{quote(path)}"
    blob = Blob(url, digest, size, "model", settings.ENV.hf_token)
    return Resolved(str(name), (blob,), {"file": path})


def _base() -> str:
    return settings.ENV.hf_endpoint or "https://huggingface.co"


async def _models(repo: str) -> dict[str, dict[str, Any]]:
    """The entries of all GGUF files that hold a model, by path."""
    return {
        path: entry
        for entry in await _tree(_base(), f"/api/models/{repo}/tree/main?recursive=true")
        if isinstance(entry, dict)
        and isinstance(path := entry.get("path"), str)
        and path.lower().endswith(".gguf")
        and not path.lower().rpartition("/")[2].startswith("mmproj")
    }


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


class _Found(msgspec.Struct):
    id: str
    downloads: int = 0
    likes: int = 0
    gated: bool | str = False


@dataclass(frozen=True)
class Repository:
    """One that a search found. ``gated``: its owner wants to be asked first."""

    id: str
    downloads: int
    likes: int
    gated: bool


@dataclass(frozen=True)
class File:
    """A model in a repository: ``source`` is what a download asks for, ``size`` in bytes."""

    source: str
    name: str
    size: int


async def search(text: str) -> list[Repository]:
    """Repositories with GGUF files, most fetched first."""
    query = {"search": text, "filter": "gguf", "sort": "downloads", "direction": "-1"}
    url = f"{_base()}/api/models?{urlencode({**query, 'limit': str(_FOUND_MAX)})}"
    reply, found = await answer(url, token=settings.ENV.hf_token)
    if reply.status != 200:
        raise refusal(reply.status)
    try:
        listed = msgspec.convert(found, list[_Found])
    except msgspec.ValidationError as error:
        raise not_understood() from error
    return [
        Repository(one.id, one.downloads, one.likes, bool(one.gated))
        for one in listed
        if _REPOSITORY.fullmatch(one.id)
    ]


async def files(repository: str) -> list[File]:
    """The models in it that can be fetched, small to large."""
    if not _REPOSITORY.fullmatch(repository):
        raise SourceMissing
    found = []
    for path, entry in (await _models(repository)).items():
        lfs = entry.get("lfs")
        size = lfs.get("size") if isinstance(lfs, dict) else None
        file = path.rpartition("/")[2]
        if isinstance(size, int) and not _SPLIT.search(path):
            found.append(File(f"hf.co/{repository}:{file[: -len('.gguf')]}", path, size))
    return sorted(found, key=lambda file: file.size)
