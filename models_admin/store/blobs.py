"""Files that API clients upload by digest, as Ollama's do, until models are created from them.

They are stored as `models/blobs/sha256-<digest>` and removed after a day without use.
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

from chatsite.errors import ChatsiteError, worded
from models_admin.gguf import header
from models_admin.models import ModelVersion
from models_admin.store import disk, files

_ABANDONED_SECONDS: Final = 24 * 3600
# If the length is unknown, the disk space is checked again after this many bytes.
_CHECKED_BYTES: Final = 64 << 20


class BlobRefused(ChatsiteError):
    code = "blob_refused"
    status = 400
    message = _("The content does not match its digest (SHA-256). Nothing was stored.")


class BlobMissing(ChatsiteError):
    code = "blob_not_found"
    status = 400
    message = _("This content was not found.")
    detailed = _("The content sha256:%(digest)s was not found. Send it to /api/blobs/ first.")


def find(digest: str) -> Path | None:
    """Return the file with the content ``digest``, uploaded or of an installed model.

    The retention of an uploaded file restarts.
    """
    path = _path(digest)
    with suppress(FileNotFoundError):
        os.utime(path)
        return path
    version = ModelVersion.objects.filter(digest=digest).first()
    return version.path if version and disk.is_whole(version.path, version.size) else None


def require(digest: str) -> Path:
    """Return the file with the content ``digest``. Raises `BlobMissing`."""
    path = find(digest)
    if path is None:
        raise BlobMissing(digest=digest)
    return path


def require_gguf(name: str, digest: str) -> None:
    """Check that the content ``digest`` is a GGUF file; ``name`` is the client's name for it.

    Raises `BlobMissing`, and `BlobRefused` for other formats.
    """
    with require(digest).open("rb") as file:
        if file.read(4) == b"GGUF":
            return
    reason = _(
        "%(name)s is not a GGUF file. Other formats (safetensors, PyTorch) are not supported: "
        "convert them to GGUF first, with llama.cpp's convert_hf_to_gguf.py."
    )
    raise BlobRefused(worded(reason, {"name": name}))


def in_order(paths: list[Path]) -> list[Path]:
    """Return the parts of a split model in the order given by their headers.

    Raises `BlobRefused` if parts are missing, and `header.BadGGUF`.
    """
    numbered: dict[int, Path] = {}
    for path in paths:
        with path.open("rb") as file:
            values = header.read_header(file, path.stat().st_size).values
        if values.get("split.count") != len(paths):
            reason = _("These %(given)s files are not the parts of one model.")
            raise BlobRefused(worded(reason, {"given": len(paths)}))
        numbered[int(values.get("split.no", 0))] = path
    if len(numbered) != len(paths):
        raise BlobRefused(_("One part of the model was given twice, and another one is missing."))
    return [numbered[number] for number in sorted(numbered)]


async def take(digest: str, size: int | None, read: Callable[[], Awaitable[bytes]]) -> None:
    """Store what ``read`` returns, until it returns no bytes, if it is the content ``digest``.

    ``size`` is the announced size in bytes, or None. Raises `BlobRefused` and `DiskFull`, and any
    error of ``read``; nothing is kept then.
    """
    sha256, done, due = hashlib.sha256(), 0, 0
    with files.partial() as (file, part):
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
    """Remove blobs unused for a day, except the digests in ``keep``; return the file names."""
    gone = []
    for path in _folder().glob("sha256-*"):
        digest = path.name.removeprefix("sha256-")
        with suppress(FileNotFoundError):
            if digest not in keep and time.time() - path.stat().st_mtime > _ABANDONED_SECONDS:
                path.unlink()
                gone.append(path.name)
    return gone


def _reserve(file: BinaryIO, size: int) -> None:
    """Allocate the disk space now, so that concurrent uploads don't count on the same space."""
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
