"""Files to import: in the server's import folder, or uploaded by the browser in pieces.

With pieces, a dropped connection costs one piece, not the upload.
"""

from __future__ import annotations

import functools
import io
import os
import re
import time
from pathlib import Path
from typing import Final, Protocol
from uuid import UUID, uuid4

import msgspec
from django.conf import settings
from django.utils.translation import gettext_lazy as _

from chatsite.errors import ChatsiteError, NotFound
from models_admin import names
from models_admin.gguf import header as gguf
from models_admin.sources import url
from models_admin.store import disk

PIECE_BYTES: Final = 8 << 20  # Daphne buffers a request's body in memory
ABANDONED_SECONDS: Final = 24 * 3600
_BLOCK: Final = 1 << 20
_UNFIT: Final = re.compile(r"[^a-z0-9_.-]+")
_PART_CHARS: Final = 80  # of one part of a model name


class BodyReader(Protocol):
    """The reader of a request's body."""

    def read(self, size: int, /) -> bytes: ...


class ImportFileMissing(NotFound):
    message = _("This file is not in the import folder.")


class UploadMissing(NotFound):
    message = _("This upload does not exist or has expired. Start it again.")


class UploadRefused(ChatsiteError):
    code = "upload_refused"
    status = 409
    message = _("Upload offset mismatch.")


class Upload(msgspec.Struct, frozen=True):
    """The metadata of an upload: the ``owner``'s key, total ``size`` in bytes and file ``name``."""

    owner: str
    size: int
    name: str


def folder() -> Path:
    """Return the import folder, in which an operator puts GGUF files and bundles."""
    path = settings.ENV.import_dir or Path(settings.DATA_DIR) / "import"
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return Path(path)


def waiting() -> list[Path]:
    """Return the files of the import folder that can be imported, sorted by name."""
    found = (path for path in folder().iterdir() if path.suffix.lower() in {".gguf", ".tar"})
    return sorted(path for path in found if path.is_file())


def find(name: str) -> Path:
    """Return the file ``name`` in the import folder. Raises `ImportFileMissing`."""
    for path in waiting():
        if path.name == name:
            return path
    raise ImportFileMissing


def suggested_name(path: Path, file: str = "") -> str:
    """Propose a model name from GGUF metadata, such as ``smollm2-instruct:135m-q8_0``.

    Without a name in the metadata, it is derived from the file name (``file``).
    """
    file = file or path.name
    try:
        stat = path.stat()
        return _suggested_name(path, stat.st_size, stat.st_mtime_ns) or url.fitting(file)
    except (OSError, gguf.BadGGUF):
        return url.fitting(file)


@functools.lru_cache(maxsize=64)
def _suggested_name(path: Path, size: int, _changed: int) -> str:
    """Return an empty name if the metadata has none. Raises `OSError` and `BadGGUF`."""
    with path.open("rb") as file:
        header = gguf.read_header(file, size)

    def part(*keys: str) -> str:
        found = (str(header.values.get(f"general.{key}", "")) for key in keys)
        joined = _UNFIT.sub("-", "-".join(filter(None, found)).lower())
        return joined.strip("-.")[:_PART_CHARS]

    model = part("basename", "finetune") if part("basename") else part("name")
    label = part("size_label") if part("basename") else ""
    tag = "-".join(filter(None, (label, header.quantization.lower())))
    return names.normalise(f"{model}:{tag}" if tag else model) if model else ""


def begin(owner: str, size: int, name: str) -> UUID:
    """Create an upload of ``size`` bytes; return its ID. Raises `DiskFull`."""
    disk.require_space(size)
    id = uuid4()
    # Databases reject NUL.
    upload = Upload(owner, size, name.replace("\x00", ""))
    with disk.full_refused():
        path_of(id).with_suffix(".json").write_bytes(msgspec.json.encode(upload))
        path_of(id).touch(mode=0o600)
    return id


def arrived(id: UUID, owner: str) -> int:
    """Return the bytes received. Raises `UploadMissing`, also for another user's upload."""
    read(id, owner)
    return path_of(id).stat().st_size


def append(id: UUID, owner: str, offset: int, piece: BodyReader) -> int:
    """Append a piece at ``offset``; return the bytes received so far.

    Raises `UploadRefused` if the piece does not start at the end or exceeds the announced size, and
    `DiskFull`. Bytes received earlier are kept.
    """
    upload = read(id, owner)
    descriptor = os.open(path_of(id), os.O_WRONLY | os.O_CLOEXEC)
    with disk.full_refused(), os.fdopen(descriptor, "r+b", buffering=0) as file:
        end = file.seek(0, os.SEEK_END)
        if offset != end:
            raise UploadRefused(arrived=end)
        while block := piece.read(_BLOCK):
            if end + len(block) > min(upload.size, offset + PIECE_BYTES):
                file.truncate(offset)
                raise UploadRefused(_("The upload is larger than announced."))
            try:
                write_block(file, block)
            except OSError:
                file.truncate(offset)
                raise
            end += len(block)
        return end


def whole(id: UUID, owner: str) -> Upload:
    """Return the upload. Raises `UploadRefused` if it is incomplete."""
    upload = read(id, owner)
    if arrived(id, owner) != upload.size:
        raise UploadRefused
    return upload


def remove(id: UUID) -> None:
    path_of(id).unlink(missing_ok=True)
    path_of(id).with_suffix(".json").unlink(missing_ok=True)


def read(id: UUID, owner: str) -> Upload:
    try:
        upload = msgspec.json.decode(path_of(id).with_suffix(".json").read_bytes(), type=Upload)
    except (FileNotFoundError, msgspec.DecodeError):
        raise UploadMissing from None
    if upload.owner != owner:
        raise UploadMissing
    return upload


def clean(keep: set[str]) -> list[str]:
    """Delete uploads idle for `ABANDONED_SECONDS`, except ``keep``; return the names deleted."""
    gone = []
    for path in _folder().glob("*.upload"):
        if path.stem not in keep and time.time() - path.stat().st_mtime > ABANDONED_SECONDS:
            remove(UUID(path.stem))
            gone.append(path.name)
    return gone


def _folder() -> Path:
    path = disk.folder() / "uploads"
    path.mkdir(mode=0o700, exist_ok=True)
    return path


def path_of(id: UUID) -> Path:
    return _folder() / f"{id}.upload"


def write_block(file: io.FileIO, block: bytes) -> None:
    """Write all of ``block``: a write to a disk that fills up may be partial."""
    left = memoryview(block)
    while left:
        left = left[file.write(left) :]
