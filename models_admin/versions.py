"""Which name stands for which version, and which versions nobody needs any more.

Each change is made under the lock of the store, so that no file goes while a name is put on it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from chatsite.errors import ChatsiteError, ModelMissing
from models_admin import disk, names
from models_admin.models import ModelName, ModelVersion


class ImportRefused(ChatsiteError):
    code = "import_refused"
    status = 400
    message = _("This file can't be imported as a model.")


def install(
    name: str,
    path: Path | None,
    digest: str,
    *,
    size: int,
    origin: str,
    taken: str = "",
    configuration: dict[str, Any],
) -> ModelName:
    """Lets ``name`` stand for the content ``digest``, which the caller has verified: of ``path``
    (on the store's file system, which may go afterwards), or None for one that is here. ``taken``
    is the version that the source ``origin`` calls it by.

    Raises `ImportRefused` and `BadModelName`.
    """
    written = names.normalise(name)
    with disk.locked():
        if path is not None and not disk.is_whole(disk.path_of(digest), size):
            path.chmod(0o600)
            disk.path_of(digest).unlink(missing_ok=True)
            os.link(path, disk.path_of(digest))
            disk.flush_folder()
        if not disk.is_whole(disk.path_of(digest), size):
            raise ImportRefused(_("The model was removed meanwhile. Import it again."))
        with transaction.atomic():
            model = assign(written, digest, size, origin, configuration)
            ModelName.objects.filter(pk=model.pk).update(
                origin=origin, taken=taken, newest=taken, checked_at=timezone.now()
            )
        collect()
    model.refresh_from_db()
    return model


def go_back(name: str) -> ModelName:
    """Lets the name stand again for what it stood for before; once more undoes that. Raises
    `ModelMissing`, and `ImportRefused` when nothing was before."""
    with disk.locked(), transaction.atomic():
        model = ModelName.objects.filter(name__iexact=names.normalise(name)).first()
        if model is None:
            raise ModelMissing
        if model.previous is None:
            raise ImportRefused(_("No version of this model was here before."))
        model.version, model.previous = model.previous, model.version
        model.configuration, model.previous_configuration = (
            model.previous_configuration,
            model.configuration,
        )
        model.save()
    return model


def copy_name(source: str, target: str) -> ModelName:
    """Lets ``target`` point to what ``source`` points to. Raises `ModelMissing`."""
    written = names.normalise(target)
    with disk.locked():
        found = ModelName.objects.filter(name__iexact=names.normalise(source)).first()
        if found is None:
            raise ModelMissing
        return _point(written, found.version, found.configuration)


def point(written: str, parent: ModelName, configuration: dict[str, Any]) -> ModelName:
    """Lets a name stand for the version of ``parent`` with a configuration of its own. Raises
    `ModelMissing` when the version was removed meanwhile."""
    with disk.locked():
        version = ModelVersion.objects.filter(digest=parent.version_id).first()
        if version is None:
            raise ModelMissing
        return _point(written, version, configuration)


def remove_name(name: str) -> None:
    """Removes a name, and each file that no other name needs. A process that has one mapped keeps
    it until it ends. Raises `ModelMissing`."""
    with disk.locked(), transaction.atomic():
        model = ModelName.objects.filter(name__iexact=names.normalise(name)).first()
        if model is None:
            raise ModelMissing
        versions = {model.version_id, model.previous_id}
        model.delete()
        _collect(versions)


def forget_previous(name: str) -> None:
    """Gives up what the name could go back to, and its file with the last such name."""
    with disk.locked(), transaction.atomic():
        model = ModelName.objects.filter(name__iexact=names.normalise(name)).first()
        if model is None:
            raise ModelMissing
        before = model.previous_id
        model.previous, model.previous_configuration = None, {}
        model.save()
        _collect({before})


def collect() -> None:
    """Removes all versions that no name stands for, now or if it went back, with their files."""
    unused = ModelVersion.objects.filter(names=None, left_by=None)
    with transaction.atomic():
        _collect(set(unused.values_list("digest", flat=True)))


def assign(
    written: str,
    digest: str,
    size: int,
    source: str,
    configuration: dict[str, Any] | None = None,
) -> ModelName:
    """Lets a name stand for content that is in the store; under the lock, by who has it."""
    with transaction.atomic():
        version, _created = ModelVersion.objects.get_or_create(
            digest=digest, defaults={"size": size, "source": source[:500]}
        )
        return _point(written, version, configuration)


def _point(
    written: str, version: ModelVersion, configuration: dict[str, Any] | None = None
) -> ModelName:
    """An existing name keeps its spelling, whether it is offered, and what it stood for."""
    model = ModelName.objects.filter(name__iexact=written).first()
    if model is None:
        return ModelName.objects.create(
            name=written, version=version, configuration=configuration or {}
        )
    before = (model.version_id, model.configuration)
    if before != (version.digest, configuration or {}):
        model.previous_id, model.previous_configuration = before
        model.version, model.configuration = version, configuration or {}
    model.save()
    return model


def _collect(digests: set[str | None]) -> None:
    """Those of ``digests`` that nothing refers to any more."""
    for version in ModelVersion.objects.filter(digest__in=digests - {None}):
        if version.names.exists() or version.left_by.exists():
            continue
        path, copy = version.path, disk.copy_of(version.digest)
        version.delete()
        # Rows first: a file without rows is only wasted space.
        transaction.on_commit(lambda path=path: path.unlink(missing_ok=True))  # type: ignore[misc]
        transaction.on_commit(copy.remove)
