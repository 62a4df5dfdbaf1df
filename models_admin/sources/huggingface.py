"""Hugging Face: GGUF files in a repository, each with its published SHA-256."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import quote, urlencode

import msgspec
from django.conf import settings
from django.utils.translation import gettext_lazy as _

from chatsite.errors import worded
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
NEXT_LINK = re.compile(r'<([^<>]+)>;\s*rel="next"')
_SPLIT = re.compile(r"-(?P<part>\d{5})-of-(?P<count>\d{5})\.gguf$", re.IGNORECASE)
_SHA256 = re.compile(r"[0-9a-f]{64}")


def resolve(name: names.Name) -> Resolved:
    repo = f"{name.namespace}/{name.model}"
    listed = _models(repo)
    paths = _choose(list(listed), name.tag)
    blobs = tuple(_blob(repo, path, listed[path]) for path in paths)
    return Resolved(str(name), blobs, {"files": paths})


def _blob(repo: str, path: str, entry: dict[str, Any]) -> Blob:
    lfs = entry.get("lfs")
    digest, size = (lfs.get("oid"), lfs.get("size")) if isinstance(lfs, dict) else (None, None)
    if not isinstance(digest, str) or not _SHA256.fullmatch(digest) or not isinstance(size, int):
        raise SourceRefused(_("The source publishes no SHA-256 for this file."))
    url = f"{endpoint()}/{repo}/resolve/main/{quote(path)}"
    return Blob(url, digest, size, "model", settings.ENV.hf_token)


def endpoint() -> str:
    return settings.ENV.hf_endpoint or "https://huggingface.co"


def _models(repo: str) -> dict[str, dict[str, Any]]:
    """Return the entries of all GGUF files that hold a model, by path."""
    return {
        path: entry
        for entry in _tree(endpoint(), f"/api/models/{repo}/tree/main?recursive=true")
        if isinstance(entry, dict)
        and isinstance(path := entry.get("path"), str)
        and path.lower().endswith(".gguf")
        and not path.lower().rpartition("/")[2].startswith("mmproj")
    }


def _tree(base: str, start: str) -> list[Any]:
    entries: list[Any] = []
    url = base + start
    for _page in range(_PAGES_MAX):
        reply, found = answer(url, token=settings.ENV.hf_token)
        if reply.status != 200:
            raise refusal(reply.status)
        if not isinstance(found, list):
            raise not_understood()
        entries += found
        following = NEXT_LINK.search(reply.header("Link"))
        if following is None:
            return entries
        url = following[1]
        # The token is sent along, so the next page must be at the same endpoint.
        if not url.startswith(f"{base}/"):
            raise not_understood()
    raise SourceRefused(_("The repository has too many files."))


def _choose(paths: list[str], tag: str) -> list[str]:
    """Return the files that ``tag`` selects: one file, or all parts of a split one, in order.

    A tag is a quantization or a full file name. Without one, `_DEFAULT_QUANT` or the only model is
    selected.
    """
    models = _models_of(paths)
    chosen = _matching(list(models), _DEFAULT_QUANT if tag == names.DEFAULT_TAG else tag)
    if tag == names.DEFAULT_TAG and not chosen and len(models) == 1:
        chosen = list(models)
    if len(chosen) == 1:
        return models[chosen[0]]
    there = ", ".join(sorted(models)[:20]) or "-"
    raise SourceRefused(
        worded(
            _("The tag %(tag)r does not name one GGUF file. Available: %(files)s."),
            {"tag": tag, "files": there},
        )
    )


def _models_of(paths: list[str]) -> dict[str, list[str]]:
    """Return files by model.

    The parts of a split model share the name without part numbers; incomplete models are left out.
    """
    found: dict[str, list[str]] = {}
    for path in sorted(paths):
        found.setdefault(_SPLIT.sub(".gguf", path), []).append(path)
    return {model: files for model, files in found.items() if _is_whole(files)}


def _is_whole(files: list[str]) -> bool:
    parts = [match for file in files if (match := _SPLIT.search(file))]
    if not parts:
        return len(files) == 1
    count = int(parts[0]["count"])
    return [int(part["part"]) for part in parts] == list(range(1, count + 1))


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
    """A repository found by a search. ``gated``: its owner grants access on request."""

    id: str
    downloads: int
    likes: int
    gated: bool


@dataclass(frozen=True)
class File:
    """A model in a repository: ``source`` is what a download asks for, ``size`` is in bytes."""

    source: str
    name: str
    size: int


def search(text: str) -> list[Repository]:
    """Return repositories with GGUF files that match ``text``, most downloaded first."""
    query = {"search": text, "filter": "gguf", "sort": "downloads", "direction": "-1"}
    url = f"{endpoint()}/api/models?{urlencode({**query, 'limit': str(_FOUND_MAX)})}"
    reply, found = answer(url, token=settings.ENV.hf_token)
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


def files(repository: str) -> list[File]:
    """Return the downloadable models in ``repository``, smallest first."""
    if not _REPOSITORY.fullmatch(repository):
        raise SourceMissing
    entries = _models(repository)
    found = []
    for path, parts in _models_of(list(entries)).items():
        lfs = [entries[part].get("lfs") for part in parts]
        told = [one.get("size") for one in lfs if isinstance(one, dict)]
        sizes = [size for size in told if isinstance(size, int)]
        file = path.rpartition("/")[2]
        if len(sizes) == len(parts):
            found.append(File(f"hf.co/{repository}:{file[: -len('.gguf')]}", path, sum(sizes)))
    return sorted(found, key=lambda file: file.size)
