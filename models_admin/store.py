"""The store of model files: `DATA_DIR/models/sha256-<digest>`, and the rows that name them.

A file enters by its content. It is read once, hashed while it is copied to a file ending in
`.part`, flushed to disk, renamed into place, and only then named in the database, so at no
moment is there a name without its whole file. Whoever writes a `.part` file holds a lock on it;
one that nobody holds was left by a process that was killed, and `clean_partials` removes it.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import secrets
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from django.utils.translation import gettext_lazy as _

from models_admin import disk, gguf, names, versions
from models_admin.models import ModelName, ModelVersion

# Called with bytes read so far and bytes in all.
Progress = Callable[[int, int], None]

_BLOCK = 4 << 20


def import_file(
    path: Path,
    name: str,
    *,
    move: bool = False,
    progress: Progress | None = None,
    configuration: dict[str, Any] | None = None,
) -> ModelName:
    """Brings the GGUF file ``path`` into the store and lets ``name`` point to it, with that
    configuration.

    Importing the same content again changes nothing but the name. With ``move`` the file is
    gone from ``path`` afterwards, and is not copied if it is on the store's file system.

    Raises `BadModelName`, `ImportRefused` (with the reason) or `DiskFull`.
    """
    written = names.normalise(name)
    if move and path.is_symlink():
        raise versions.ImportRefused(str(_("%s is a symbolic link, which can't be moved.")) % path)
    clean_partials()
    try:
        with disk.full_refused(), _open_regular(path) as source:
            digest, size = _bring_in(source, path, move, progress or _silent)
            with disk.locked():
                # Another process may have removed the file since, as its last name went.
                if not disk.is_whole(disk.path_of(digest), size):
                    raise versions.ImportRefused(
                        _("The model was removed meanwhile. Import it again.")
                    )
                model = versions.assign(written, digest, size, str(path), configuration)
                versions.collect()
            if move and path.absolute() != disk.path_of(digest):
                path.unlink()
    except OSError as error:
        reason = _("%(path)s can't be imported: %(reason)s.")
        raise versions.ImportRefused(
            str(reason) % {"path": path, "reason": error.strerror or error}
        ) from error
    return model


def clean_partials() -> list[str]:
    """Removes what killed imports left behind; returns the names of the files."""
    gone = []
    for path in disk.folder().glob("*.part"):
        with suppress(FileNotFoundError, BlockingIOError), path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
            gone.append(path.name)
    return gone


def _silent(done: int, total: int) -> None:
    pass


@contextmanager
def _open_regular(path: Path) -> Iterator[BinaryIO]:
    # Without O_NONBLOCK, opening a named pipe would wait for its writer for ever.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise versions.ImportRefused(str(_("%s is not a file.")) % path)
        yield file


def _bring_in(source: BinaryIO, path: Path, move: bool, progress: Progress) -> tuple[str, int]:
    """Returns digest and size of what is now in the store."""
    status = os.fstat(source.fileno())
    size = status.st_size
    _check_header(source, size, str(path))
    source.seek(0)
    # What is there already, or can be linked, is hashed without a copy.
    linked = move and _may_link(status)
    if linked or ModelVersion.objects.filter(size=size).exists():
        digest = _transfer(source, None, size, progress)
        if disk.is_whole(disk.path_of(digest), size):
            return digest, size
        if linked and _link(path, status, digest):
            return digest, size
        source.seek(0)
    disk.require_space(size)
    return _copy(source, size, progress), size


def _check_header(file: BinaryIO, size: int, origin: str) -> None:
    try:
        gguf.check_model(file, size)
    except gguf.BadGGUF as error:
        raise versions.ImportRefused(f"{origin}: {error}") from error


def _may_link(status: os.stat_result) -> bool:
    """Ours alone and on the same file system: nobody else can write to it afterwards."""
    return (
        status.st_dev == disk.folder().stat().st_dev
        and status.st_nlink == 1
        and status.st_uid == os.geteuid()
    )


def _link(path: Path, hashed: os.stat_result, digest: str) -> bool:
    """A second name in the store for the file that was hashed; False where that can't be."""
    target = disk.path_of(digest)
    try:
        target.unlink(missing_ok=True)  # a damaged one, or it would have been used
        os.link(path, target, follow_symlinks=False)
    except OSError:
        return False
    if not os.path.samestat(os.lstat(target), hashed):
        target.unlink()
        raise versions.ImportRefused(_("The file changed while it was read. Import it again."))
    target.chmod(0o600)
    disk.flush_folder()
    return True


def _copy(source: BinaryIO, size: int, progress: Progress) -> str:
    with partial() as (file, part):
        digest = _transfer(source, file, size, progress)
        file.flush()
        os.fsync(file.fileno())
        # A second import of the same content only puts the same bytes in their own place; a
        # process that has the old file mapped keeps it.
        os.replace(part, disk.path_of(digest))
    disk.flush_folder()
    return digest


@contextmanager
def partial() -> Iterator[tuple[BinaryIO, Path]]:
    """A locked `.part` file, removed unless it was renamed."""
    while True:
        part = disk.folder() / f"{secrets.token_hex(16)}.part"
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if os.fstat(descriptor).st_nlink == 0:
                continue  # a cleaner took it before it was locked
            try:
                yield file, part
            finally:
                part.unlink(missing_ok=True)
            return


def _transfer(source: BinaryIO, target: BinaryIO | None, size: int, progress: Progress) -> str:
    """Hashes all of ``source``, copying it if there is a target; returns the digest."""
    sha256 = hashlib.sha256()
    done = 0
    # A file that grows while it is read must not fill the disk.
    while done <= size and (block := source.read(_BLOCK)):
        sha256.update(block)
        if target is not None:
            target.write(block)
        done += len(block)
        progress(min(done, size), size)
    if done != size:
        raise versions.ImportRefused(_("The file changed while it was read. Import it again."))
    return sha256.hexdigest()
