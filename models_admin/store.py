"""The store of model files: `DATA_DIR/models/sha256-<digest>`, and the rows that name them.

A file enters by its content. It is read once, hashed while it is copied to a file ending in
`.part`, flushed to disk, renamed into place, and only then named in the database, so at no
moment is there a name without its whole file. Whoever writes a `.part` file holds a lock on it;
one that nobody holds was left by a process that was killed, and `clean_partials` removes it.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import secrets
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, BinaryIO

from django.conf import settings
from django.db import transaction
from django.utils.translation import gettext_lazy as _

from chatsite.errors import ChatsiteError, ModelMissing
from models_admin import gguf, names
from models_admin.models import ModelName, ModelVersion

# Called with bytes read so far and bytes in all.
Progress = Callable[[int, int], None]

_BLOCK = 4 << 20
# What stays free on the disk after an import, for the database and logs on the same one.
RESERVE = 256 << 20


class ImportRefused(ChatsiteError):
    code = "import_refused"
    status = 400
    message = _("This file can't be imported as a model.")


class DiskFull(ChatsiteError):
    code = "disk_full"
    status = 507
    permanent = False
    message = _("There is not enough space on the disk of the data folder for this model.")


def folder() -> Path:
    path = Path(settings.DATA_DIR) / "models"
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    return path


def import_file(
    path: Path, name: str, *, move: bool = False, progress: Progress | None = None
) -> ModelName:
    """Brings the GGUF file ``path`` into the store and lets ``name`` point to it.

    Importing the same content again changes nothing but the name. With ``move`` the file is
    gone from ``path`` afterwards, and is not copied if it is on the store's file system.

    Raises `BadModelName`, `ImportRefused` (with the reason) or `DiskFull`.
    """
    written = names.normalise(name)
    if move and path.is_symlink():
        raise ImportRefused(str(_("%s is a symbolic link, which can't be moved.")) % path)
    clean_partials()
    try:
        with _open_regular(path) as source:
            digest, size = _bring_in(source, path, move, progress or _silent)
            with _locked():
                # Another process may have removed the file since, as its last name went.
                if not _is_whole(_path(digest), size):
                    raise ImportRefused(_("The model was removed meanwhile. Import it again."))
                model = _name(written, digest, size, str(path))
            if move and path.absolute() != _path(digest):
                path.unlink()
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            raise DiskFull from error
        reason = _("%(path)s can't be imported: %(reason)s.")
        raise ImportRefused(
            str(reason) % {"path": path, "reason": error.strerror or error}
        ) from error
    return model


def remove_name(name: str) -> None:
    """Removes a name, and the file with the last one. A process that has the file mapped keeps
    it until it ends. Raises `ModelMissing`."""
    with _locked(), transaction.atomic():
        model = ModelName.objects.filter(name__iexact=names.normalise(name)).first()
        if model is None:
            raise ModelMissing
        version = model.version
        path = version.path
        model.delete()
        if not version.names.exists():
            version.delete()
            # Rows first: a file without rows is only wasted space.
            transaction.on_commit(lambda: path.unlink(missing_ok=True))


def remove_version(version: ModelVersion) -> None:
    """Removes a version that no name points to, and its file. Raises `ProtectedError` if one
    does."""
    with _locked():
        path = version.path
        version.delete()
        path.unlink(missing_ok=True)


def copy_name(source: str, target: str) -> ModelName:
    """Lets ``target`` point to what ``source`` points to. Raises `ModelMissing`."""
    written = names.normalise(target)
    with _locked():
        found = ModelName.objects.filter(name__iexact=names.normalise(source)).first()
        if found is None:
            raise ModelMissing
        return _point(written, found.version, found.configuration)


def point(written: str, parent: ModelName, configuration: dict[str, Any]) -> ModelName:
    """Lets a name stand for the version of ``parent`` with a configuration of its own. Raises
    `ModelMissing` when the version was removed meanwhile."""
    with _locked():
        version = ModelVersion.objects.filter(digest=parent.version_id).first()
        if version is None:
            raise ModelMissing
        return _point(written, version, configuration)


def clean_partials() -> list[str]:
    """Removes what killed imports left behind; returns the names of the files."""
    gone = []
    for path in folder().glob("*.part"):
        with suppress(FileNotFoundError, BlockingIOError), path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            path.unlink()
            gone.append(path.name)
    return gone


def _silent(done: int, total: int) -> None:
    pass


def _path(digest: str) -> Path:
    return ModelVersion(digest=digest).path


def _is_whole(path: Path, size: int) -> bool:
    try:
        return path.stat().st_size == size
    except FileNotFoundError:
        return False


@contextmanager
def _open_regular(path: Path) -> Iterator[BinaryIO]:
    # Without O_NONBLOCK, opening a named pipe would wait for its writer for ever.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with os.fdopen(descriptor, "rb") as file:
        if not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise ImportRefused(str(_("%s is not a file.")) % path)
        yield file


def _bring_in(source: BinaryIO, path: Path, move: bool, progress: Progress) -> tuple[str, int]:
    """Returns digest and size of what is now in the store."""
    status = os.fstat(source.fileno())
    size = status.st_size
    try:
        gguf.check_model(source, size)
    except gguf.BadGGUF as error:
        raise ImportRefused(f"{path}: {error}") from error
    source.seek(0)
    # What is there already, or can be linked, is hashed without a copy.
    linked = move and _may_link(status)
    if linked or ModelVersion.objects.filter(size=size).exists():
        digest = _transfer(source, None, size, progress)
        if _is_whole(_path(digest), size):
            return digest, size
        if linked and _link(path, status, digest):
            return digest, size
        source.seek(0)
    free = shutil.disk_usage(folder()).free
    if free < size + RESERVE:
        reason = _(
            "The model needs %(size)s MB on the disk of the data folder, with %(reserve)s MB to "
            "spare; %(free)s MB are free."
        )
        figures = {"size": size >> 20, "reserve": RESERVE >> 20, "free": free >> 20}
        raise DiskFull(str(reason) % figures)
    return _copy(source, size, progress), size


def _may_link(status: os.stat_result) -> bool:
    """Ours alone and on the same file system: nobody else can write to it afterwards."""
    return (
        status.st_dev == folder().stat().st_dev
        and status.st_nlink == 1
        and status.st_uid == os.geteuid()
    )


def _link(path: Path, hashed: os.stat_result, digest: str) -> bool:
    """A second name in the store for the file that was hashed; False where that can't be."""
    target = _path(digest)
    try:
        target.unlink(missing_ok=True)  # a damaged one, or it would have been used
        os.link(path, target, follow_symlinks=False)
    except OSError:
        return False
    if not os.path.samestat(os.lstat(target), hashed):
        target.unlink()
        raise ImportRefused(_("The file changed while it was read. Import it again."))
    target.chmod(0o600)
    _flush_folder()
    return True


def _copy(source: BinaryIO, size: int, progress: Progress) -> str:
    with _partial() as (file, part):
        digest = _transfer(source, file, size, progress)
        file.flush()
        os.fsync(file.fileno())
        # A second import of the same content only puts the same bytes in their own place; a
        # process that has the old file mapped keeps it.
        os.replace(part, _path(digest))
    _flush_folder()
    return digest


@contextmanager
def _partial() -> Iterator[tuple[BinaryIO, Path]]:
    """A locked `.part` file, removed unless it was renamed."""
    while True:
        part = folder() / f"{secrets.token_hex(16)}.part"
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
        raise ImportRefused(_("The file changed while it was read. Import it again."))
    return sha256.hexdigest()


def _name(written: str, digest: str, size: int, source: str) -> ModelName:
    with transaction.atomic():
        version, _created = ModelVersion.objects.get_or_create(
            digest=digest, defaults={"size": size, "source": source[:500]}
        )
        return _point(written, version)


def _point(
    written: str, version: ModelVersion, configuration: dict[str, Any] | None = None
) -> ModelName:
    """An existing name keeps its spelling, and whether it is offered."""
    model, _created = ModelName.objects.update_or_create(
        name__iexact=written,
        defaults={"version": version, "configuration": configuration or {}},
        create_defaults={
            "name": written,
            "version": version,
            "configuration": configuration or {},
        },
    )
    return model


@contextmanager
def _locked() -> Iterator[None]:
    """One at a time changes which files have names, over all processes of this store."""
    descriptor = os.open(folder() / ".lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _flush_folder() -> None:
    descriptor = os.open(folder(), os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
