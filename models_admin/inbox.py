"""Files that administrators bring: put into a folder of this server, or sent in pieces by the
browser, each piece behind the one before, so that a broken connection costs one piece."""

from __future__ import annotations

import io
import os
import time
from pathlib import Path
from typing import Final, Protocol
from uuid import UUID, uuid4

import msgspec
from django.conf import settings
from django.utils.translation import gettext_lazy as _

from chatsite.errors import ChatsiteError, NotFound
from models_admin import disk

PIECE_BYTES: Final = 8 << 20  # Daphne holds a request's body in memory
_ABANDONED_SECONDS: Final = 24 * 3600
_BLOCK: Final = 1 << 20


class Piece(Protocol):
    """What a request's body is read by."""

    def read(self, size: int, /) -> bytes: ...


class UploadRefused(ChatsiteError):
    code = "upload_refused"
    status = 409
    message = _("This piece does not follow what has arrived. Ask how much that is.")


class Upload(msgspec.Struct, frozen=True):
    """``owner`` is the person's key; ``size`` bytes are to come; ``name`` is the file's own."""

    owner: str
    size: int
    name: str


def folder() -> Path:
    """Where an operator puts GGUF files and bundles."""
    path = settings.ENV.import_dir or Path(settings.DATA_DIR) / "import"
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return Path(path)


def waiting() -> list[Path]:
    """The files in it that can be imported, by name."""
    found = (path for path in folder().iterdir() if path.suffix.lower() in {".gguf", ".tar"})
    return sorted(path for path in found if path.is_file())


def find(name: str) -> Path:
    """The file of that name in the folder, and nowhere else. Raises `NotFound`."""
    for path in waiting():
        if path.name == name:
            return path
    raise NotFound


def begin(owner: str, size: int, name: str) -> UUID:
    """Raises `DiskFull`."""
    disk.require_space(size)
    id = uuid4()
    # No database takes NUL.
    upload = Upload(owner, size, name.replace("\x00", ""))
    with disk.full_refused():
        path_of(id).with_suffix(".json").write_bytes(msgspec.json.encode(upload))
        path_of(id).touch(mode=0o600)
    return id


def arrived(id: UUID, owner: str) -> int:
    """Bytes. Raises `NotFound` for what is nobody's or another's."""
    read(id, owner)
    return path_of(id).stat().st_size


def append(id: UUID, owner: str, offset: int, piece: Piece) -> int:
    """Takes a piece that begins at ``offset``; returns the bytes that are there then. Raises
    `UploadRefused` when it does not follow or is more than was announced, and `DiskFull`; what
    had arrived before stays."""
    upload = read(id, owner)
    descriptor = os.open(path_of(id), os.O_WRONLY | os.O_CLOEXEC)
    with disk.full_refused(), os.fdopen(descriptor, "r+b", buffering=0) as file:
        end = file.seek(0, os.SEEK_END)
        if offset != end:
            raise UploadRefused(arrived=end)
        while block := piece.read(_BLOCK):
            if end + len(block) > min(upload.size, offset + PIECE_BYTES):
                file.truncate(offset)
                raise UploadRefused(_("The piece is larger than what was announced."))
            try:
                _write(file, block)
            except OSError:
                file.truncate(offset)
                raise
            end += len(block)
        return end


def whole(id: UUID, owner: str) -> Upload:
    """Raises `UploadRefused` when something is missing."""
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
        raise NotFound from None
    if upload.owner != owner:
        raise NotFound
    return upload


def clean(keep: set[str]) -> list[str]:
    """Removes what nobody has sent a piece of for a day, but for ``keep``; returns the names."""
    gone = []
    for path in _folder().glob("*.upload"):
        if path.stem not in keep and time.time() - path.stat().st_mtime > _ABANDONED_SECONDS:
            remove(UUID(path.stem))
            gone.append(path.name)
    return gone


def _folder() -> Path:
    path = disk.folder() / "uploads"
    path.mkdir(mode=0o700, exist_ok=True)
    return path


def path_of(id: UUID) -> Path:
    return _folder() / f"{id}.upload"


def _write(file: io.FileIO, block: bytes) -> None:
    """All of it: a disk that fills up takes a part first."""
    left = memoryview(block)
    while left:
        left = left[file.write(left) :]
