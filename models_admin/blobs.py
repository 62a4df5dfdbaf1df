"""Files that programs send by their digests, as Ollama's clients do, until models are made of them.

They are `models/blobs/sha256-<digest>`, and go when nobody has asked for them for a day.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import time
from collections.abc import Awaitable, Callable, Collection
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, Final

from django.utils.translation import gettext_lazy as _

from chatsite.errors import ChatsiteError
from models_admin import disk, gguf, store
from models_admin.models import ModelVersion

_ABANDONED_SECONDS: Final = 24 * 3600
# Bytes of unknown length after which the space on the disk is looked at again.
_CHECKED_BYTES: Final = 64 << 20


class BlobRefused(ChatsiteError):
    code = "blob_refused"
    status = 400
    message = _("The content is not what its digest says (SHA-256 differs). Nothing was kept.")


class BlobMissing(ChatsiteError):
    code = "blob_not_found"
    status = 400
    message = _("This content is not here.")
    detailed = _("The content sha256:%(digest)s is not here. Send it to /api/blobs/ first.")


def find(digest: str) -> Path | None:
    """The file of that content, as sent or of an installed model. It stays for another day."""
    path = _path(digest)
    with suppress(FileNotFoundError):
        os.utime(path)
        return path
    version = ModelVersion.objects.filter(digest=digest).first()
    return version.path if version and disk.is_whole(version.path, version.size) else None


def require(digest: str) -> Path:
    """Raises `BlobMissing`."""
    path = find(digest)
    if path is None:
        raise BlobMissing(digest=digest)
    return path


def require_gguf(name: str, digest: str) -> None:
    """``name`` is what its sender calls it. Raises `BlobMissing`, and `BlobRefused` for weights
    that are of another kind."""
    with require(digest).open("rb") as file:
        if file.read(4) == b"GGUF":
            return
    reason = _(
        "%(name)s is no GGUF file. Weights of other kinds (safetensors, PyTorch) can't be "
        "converted here: make a GGUF file of them first, with llama.cpp's convert_hf_to_gguf.py."
    )
    raise BlobRefused(str(reason) % {"name": name})


def in_order(paths: list[Path]) -> list[Path]:
    """The parts of a split model, as their headers count them. Raises `BlobRefused` unless they
    are all there, and `gguf.BadGGUF`."""
    numbered: dict[int, Path] = {}
    for path in paths:
        with path.open("rb") as file:
            values = gguf.read_header(file, path.stat().st_size).values
        if values.get("split.count") != len(paths):
            reason = _("These are not the parts of one model: %(given)s files are given.")
            raise BlobRefused(str(reason) % {"given": len(paths)})
        numbered[int(values.get("split.no", 0))] = path
    if len(numbered) != len(paths):
        raise BlobRefused(_("A part of the model is given twice, and another one is missing."))
    return [numbered[number] for number in sorted(numbered)]


async def take(digest: str, size: int | None, read: Callable[[], Awaitable[bytes]]) -> None:
    """Keeps what ``read`` gives until it gives nothing, if it is the content ``digest``. ``size``
    bytes are announced, or None. Raises `BlobRefused` and `DiskFull`, then nothing is left; and
    what ``read`` does."""
    sha256, done, due = hashlib.sha256(), 0, 0
    with store.partial() as (file, part):
        await asyncio.to_thread(_reserve, file, size or 0)
        while block := await read():
            if done >= due and size is None:
                await asyncio.to_thread(disk.require_space, _CHECKED_BYTES)
                due = done + _CHECKED_BYTES
            done += len(block)
            await asyncio.to_thread(_write, file, block, sha256.update)
        if sha256.hexdigest() != digest:
            raise BlobRefused
        await asyncio.to_thread(_keep, file, part, digest)


def clean(keep: Collection[str]) -> list[str]:
    """Removes what nobody asked for since a day, but for the digests ``keep``; returns the names
    of the files."""
    gone = []
    for path in _folder().glob("sha256-*"):
        digest = path.name.removeprefix("sha256-")
        with suppress(FileNotFoundError):
            if digest not in keep and time.time() - path.stat().st_mtime > _ABANDONED_SECONDS:
                path.unlink()
                gone.append(path.name)
    return gone


def _reserve(file: BinaryIO, size: int) -> None:
    """Takes the space now, so that two that arrive at once don't both count on it."""
    disk.require_space(size)
    if size:
        with disk.full_refused():
            os.posix_fallocate(file.fileno(), 0, size)


def _write(file: BinaryIO, block: bytes, hash: Callable[[bytes], None]) -> None:
    hash(block)
    with disk.full_refused():
        file.write(block)


def _keep(file: BinaryIO, part: Path, digest: str) -> None:
    with disk.full_refused():
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, _path(digest))


def _folder() -> Path:
    path = disk.folder() / "blobs"
    path.mkdir(mode=0o700, exist_ok=True)
    return path


def _path(digest: str) -> Path:
    return _folder() / f"sha256-{digest}"
