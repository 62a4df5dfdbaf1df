"""Bundles: models in one file for servers without internet access.

A bundle is a tar of a manifest with names and configurations, followed by the weights, named by
digest. Its content is untrusted: names and digests are checked like those of a download, and none
of its paths reaches the disk.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import IO, Annotated, Any, Final

import msgspec
from django.utils.translation import gettext_lazy as _

from chatsite.errors import ChatsiteError, ModelMissing, worded
from models_admin import names
from models_admin.config import custom, go_template, options
from models_admin.models import ModelName, ModelVersion
from models_admin.store import disk, partial

_MANIFEST: Final = "manifest.json"
_MANIFEST_BYTES: Final = 16 << 20
_BLOCK: Final = 4 << 20
_VERSION: Final = 1

Progress = Callable[[int, int], None]


class BadBundle(ChatsiteError):
    code = "bad_bundle"
    status = 400
    message = _("This is not a bundle of models, or it is damaged.")


class Named(msgspec.Struct, frozen=True):
    """A model name, the SHA-256 of its weights, and the fields of `ModelName` to restore."""

    name: str
    digest: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
    origin: Annotated[str, msgspec.Meta(max_length=1000)] = ""
    configuration: dict[str, Any] = {}


class Manifest(msgspec.Struct, frozen=True):
    version: int
    models: Annotated[tuple[Named, ...], msgspec.Meta(min_length=1)]


def is_bundle(path: Path) -> bool:
    try:
        with path.open("rb") as file:
            return file.read(4) != b"GGUF" and tarfile.is_tarfile(path)
    except OSError:
        return False


def write(path: Path, models: Sequence[ModelName], progress: Progress) -> None:
    """Write ``models`` to the file ``path``, which appears only when it is complete.

    Raises `DiskFull`, and `ModelMissing` if a model is removed during the export.
    """
    versions = {model.version_id: model.version for model in models}
    total = sum(version.size for version in versions.values())
    disk.require_space(total)
    manifest = Manifest(
        _VERSION,
        tuple(
            Named(model.name, model.version_id, model.origin, model.configuration)
            for model in models
        ),
    )
    fresh = path.with_suffix(".part")
    try:
        with (
            disk.full_refused(),
            fresh.open("wb") as file,
            tarfile.open(fileobj=file, mode="w") as tar,
        ):
            _add(tar, _MANIFEST, io.BytesIO(data := msgspec.json.encode(manifest)), len(data))
            done = 0
            for version in versions.values():
                counted = _Counted(_opened(version), done, total, progress)
                with io.BufferedReader(counted, _BLOCK) as weights:
                    _add(tar, f"sha256-{version.digest}", weights, version.size)
                done += version.size
            tar.close()
            file.flush()
            os.fsync(file.fileno())
        fresh.replace(path)
    finally:
        fresh.unlink(missing_ok=True)


def removed(names: str) -> ModelMissing:
    return ModelMissing(worded(_("%s has been removed in the meantime. Export the others."), names))


def read_manifest(path: Path) -> Manifest:
    """Return the manifest of a bundle.

    Raises `BadBundle`, and `BadModelName`, `BadOption` or `UntranslatableTemplate` for its content.
    """
    try:
        with tarfile.open(path, mode="r:") as tar:
            first = tar.next()
            if first is None or first.name != _MANIFEST or first.size > _MANIFEST_BYTES:
                raise BadBundle
            file = tar.extractfile(first)
            if file is None:
                raise BadBundle
            found = msgspec.json.decode(file.read(_MANIFEST_BYTES), type=Manifest)
    except (tarfile.TarError, OSError, msgspec.DecodeError) as error:
        raise BadBundle from error
    if found.version != _VERSION:
        raise BadBundle
    for named in found.models:
        _check(named)
    return found


def _check(named: Named) -> None:
    """Reject values that would fail at each request, and NUL, which databases reject."""
    names.normalise(named.name)
    if "\\u0000" in json.dumps([named.origin, named.configuration]):
        raise BadBundle
    try:
        made = msgspec.convert(named.configuration, custom.Configuration)
    except msgspec.ValidationError as error:
        raise BadBundle from error
    options.sampling(made.parameters)
    go_template.as_jinja(made.template)


def take_weights(
    path: Path, digest: str, progress: Progress, use: Callable[[Path, int], None]
) -> None:
    """Extract the weights ``digest``, verify them, and call ``use`` with the file and its size.

    The file is deleted afterwards. Raises `BadBundle`, `PartialBusy` and `DiskFull`.
    """
    try:
        with tarfile.open(path, mode="r:") as tar:
            member = tar.getmember(f"sha256-{digest}")
            source = tar.extractfile(member)
            if source is None:
                raise BadBundle
            with partial.hold(digest, member.size) as file:
                _copy(source, file, digest, progress)
                use(file.path, member.size)
    except (tarfile.TarError, KeyError, EOFError) as error:
        raise BadBundle from error


def _copy(source: IO[bytes], file: partial.Partial, digest: str, progress: Progress) -> None:
    file.restart()
    sha256, at = hashlib.sha256(), 0
    while block := source.read(_BLOCK):
        sha256.update(block)
        file.write(at, memoryview(block))
        at += len(block)
        progress(at, file.size)
    if at != file.size or sha256.hexdigest() != digest:
        file.restart()
        raise BadBundle(_("A model in the bundle is damaged (SHA-256 differs)."))
    file.save()


def _add(tar: tarfile.TarFile, name: str, content: IO[bytes], size: int) -> None:
    member = tarfile.TarInfo(name)
    member.size = size
    member.mode = 0o644
    tar.addfile(member, content)


def _opened(version: ModelVersion) -> io.FileIO:
    try:
        return io.FileIO(version.path)
    except FileNotFoundError:
        names = ", ".join(model.name for model in version.names.all())
        raise removed(names or str(version)) from None


class _Counted(io.RawIOBase):
    """A version's file that reports the bytes read."""

    def __init__(self, file: io.FileIO, before: int, total: int, progress: Progress) -> None:
        self._file = file
        self._done, self._total, self._progress = before, total, progress

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any, /) -> int:
        got = self._file.readinto(buffer)
        self._done += got
        self._progress(self._done, self._total)
        return got

    def close(self) -> None:
        self._file.close()
        super().close()
