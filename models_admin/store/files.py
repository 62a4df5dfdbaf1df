"""The store of model files: `DATA_DIR/models/sha256-<digest>`, and the rows that name them.

A file is read once, hashed while it is copied to a file ending in `.part`, flushed to disk, renamed
into place, and only then named in the database, so a name never lacks its complete file. The writer
of a `.part` file holds a lock on it; one without a lock was left by a killed process, and
`clean_partials` removes it.
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

from chatsite.errors import worded
from models_admin import names
from models_admin.gguf import header
from models_admin.models import ModelName, ModelVersion
from models_admin.store import disk, versions

# Called with the bytes read so far and the total.
Progress = Callable[[int, int], None]

_BLOCK = 4 << 20


def import_file(
    path: Path,
    name: str,
    *,
    move: bool = False,
    progress: Progress | None = None,
    configuration: dict[str, Any] | None = None,
    enabled: bool = True,
) -> ModelName:
    """Add the GGUF file ``path`` to the store and point ``name`` to it with ``configuration``.

    A new name is available to users if ``enabled``.

    Importing the same content again changes only the name. With ``move`` the file is removed from
    ``path``, and it is linked instead of copied if the store's file system allows that.

    Raises `BadModelName`, `ImportRefused` (with the reason) or `DiskFull`.
    """
    written = names.normalise(name)
    if move and path.is_symlink():
        raise versions.ImportRefused(
            worded(_("%s is a symbolic link, which can't be moved."), path)
        )
    clean_partials()
    try:
        with disk.full_refused(), _open_regular(path) as source:
            digest, size = _bring_in(source, path, move, progress or _silent)
            with disk.locked():
                # Another process may have removed the file since, with its last name.
                if not disk.is_whole(disk.path_of(digest), size):
                    raise versions.ImportRefused(
                        _("The model has been removed in the meantime. Import it again.")
                    )
                model = versions.assign(
                    written, digest, size, str(path), configuration, enabled=enabled
                )
                versions.collect()
            if move and path.absolute() != disk.path_of(digest):
                path.unlink()
    except OSError as error:
        reason = _("%(path)s can't be imported: %(reason)s.")
        raise versions.ImportRefused(
            worded(reason, {"path": path, "reason": error.strerror or error})
        ) from error
    return model


def clean_partials() -> list[str]:
    """Remove files left by killed imports; return their names."""
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
    # Without O_NONBLOCK, opening a named pipe would block until it has a writer.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise versions.ImportRefused(worded(_("%s is not a file."), path))
        yield file


def _bring_in(source: BinaryIO, path: Path, move: bool, progress: Progress) -> tuple[str, int]:
    """Add the content to the store; return its digest and size in bytes."""
    status = os.fstat(source.fileno())
    size = status.st_size
    _check_header(source, size, str(path))
    source.seek(0)
    # Content that may be in the store already, or can be linked, is hashed without a copy.
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
        header.check_model(file, size)
    except header.BadGGUF as error:
        raise versions.ImportRefused(f"{origin}: {error}") from error


def _may_link(status: os.stat_result) -> bool:
    """Return whether the file can be linked into the store.

    It must be on the same file system, and owned by this user under a single name, so that no other
    user can write to it afterwards.
    """
    return (
        status.st_dev == disk.folder().stat().st_dev
        and status.st_nlink == 1
        and status.st_uid == os.geteuid()
    )


def _link(path: Path, hashed: os.stat_result, digest: str) -> bool:
    """Link the hashed file into the store; return False if that is not possible."""
    target = disk.path_of(digest)
    try:
        target.unlink(missing_ok=True)  # a damaged file; a complete one would have been used
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
        # A second import of the same content replaces the file with the same bytes; a process that
        # has the old file mapped keeps it.
        os.replace(part, disk.path_of(digest))
    disk.flush_folder()
    return digest


@contextmanager
def partial() -> Iterator[tuple[BinaryIO, Path]]:
    """Yield a locked `.part` file, which is removed unless it was renamed."""
    while True:
        part = disk.folder() / f"{secrets.token_hex(16)}.part"
        descriptor = os.open(part, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            fcntl.flock(file, fcntl.LOCK_EX)
            if os.fstat(descriptor).st_nlink == 0:
                continue  # removed by `clean_partials` before it was locked
            try:
                yield file, part
            finally:
                part.unlink(missing_ok=True)
            return


def _transfer(source: BinaryIO, target: BinaryIO | None, size: int, progress: Progress) -> str:
    """Hash all of ``source``, copying it to ``target`` if there is one; return the digest."""
    sha256 = hashlib.sha256()
    done = 0
    # A file that grows while it is being read must not fill the disk.
    while done <= size and (block := source.read(_BLOCK)):
        sha256.update(block)
        if target is not None:
            target.write(block)
        done += len(block)
        progress(min(done, size), size)
    if done != size:
        raise versions.ImportRefused(_("The file changed while it was read. Import it again."))
    return sha256.hexdigest()
