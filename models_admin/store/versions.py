"""Model names, the versions that they refer to, and removal of unused versions.

Each change is made under the store's lock, so that no file is removed while a name is being
assigned to it.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from django.db import transaction
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from chatsite.errors import ChatsiteError, ModelMissing
from models_admin import facts, names
from models_admin.models import ModelName, ModelVersion
from models_admin.store import disk


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
    enabled: bool = True,
) -> ModelName:
    """Point ``name`` to the content ``digest``, which the caller has verified.

    ``path`` is a file with the content on the store's file system, which may be removed afterwards,
    or None for content that is in the store. ``taken`` is the source's ID of the version at
    ``origin``. A new name is available to users if ``enabled``; the availability of an existing
    name does not change.

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
            raise ImportRefused(_("The model has been removed in the meantime. Import it again."))
        with transaction.atomic():
            model = assign(written, digest, size, origin, configuration, enabled=enabled)
            ModelName.objects.filter(pk=model.pk).update(
                origin=origin, taken=taken, newest=taken, checked_at=timezone.now()
            )
        collect()
    model.refresh_from_db()
    return model


def rollback(name: str) -> ModelName:
    """Swap the current and the previous version of a name.

    Raises `ModelMissing`, and `ImportRefused` if there is no previous version.
    """
    with disk.locked(), transaction.atomic():
        model = ModelName.objects.filter(name__iexact=names.normalise(name)).first()
        if model is None:
            raise ModelMissing
        if model.previous is None:
            raise ImportRefused(_("This model has no previous version."))
        model.version, model.previous = model.previous, model.version
        model.configuration, model.previous_configuration = (
            model.previous_configuration,
            model.configuration,
        )
        model.save()
    return model


def copy_name(source: str, target: str) -> ModelName:
    """Point ``target`` to the version and configuration of ``source``. Raises `ModelMissing`."""
    written = names.normalise(target)
    with disk.locked():
        found = ModelName.objects.filter(name__iexact=names.normalise(source)).first()
        if found is None:
            raise ModelMissing
        return _point(written, found.version, found.configuration)


def set_alias(written: str, parent: ModelName, configuration: dict[str, Any]) -> ModelName:
    """Point a name to the version of ``parent`` with its own configuration.

    Raises `ModelMissing` if the version was removed meanwhile.
    """
    with disk.locked():
        version = ModelVersion.objects.filter(digest=parent.version_id).first()
        if version is None:
            raise ModelMissing
        return _point(written, version, configuration)


def remove_name(name: str) -> None:
    """Remove a name, and the files that no other name uses.

    A process that has a file mapped keeps it until it exits. Raises `ModelMissing`.
    """
    with disk.locked(), transaction.atomic():
        model = ModelName.objects.filter(name__iexact=names.normalise(name)).first()
        if model is None:
            raise ModelMissing
        versions = {model.version_id, model.previous_id}
        model.delete()
        _collect(versions)


def drop_previous(name: str) -> None:
    """Remove the previous version of a name, and its file if no other name uses it.

    Raises `ModelMissing`.
    """
    with disk.locked(), transaction.atomic():
        model = ModelName.objects.filter(name__iexact=names.normalise(name)).first()
        if model is None:
            raise ModelMissing
        before = model.previous_id
        model.previous, model.previous_configuration = None, {}
        model.save()
        _collect({before})


def collect() -> None:
    """Remove unused versions with their files.

    A version is in use while it is the current or previous one of a name.
    """
    unused = ModelVersion.objects.filter(names=None, left_by=None)
    with transaction.atomic():
        _collect(set(unused.values_list("digest", flat=True)))


def assign(
    written: str,
    digest: str,
    size: int,
    source: str,
    configuration: dict[str, Any] | None = None,
    *,
    enabled: bool = True,
) -> ModelName:
    """Point a name to content that is in the store. The caller holds the lock."""
    with transaction.atomic():
        version, _created = ModelVersion.objects.get_or_create(
            digest=digest, defaults={"size": size, "source": source[:500]}
        )
        return _point(written, version, configuration, enabled=enabled)


def _point(
    written: str,
    version: ModelVersion,
    configuration: dict[str, Any] | None = None,
    *,
    enabled: bool = True,
) -> ModelName:
    """Point a name to ``version``.

    An existing name keeps its spelling and availability, and its current version becomes the
    previous one.
    """
    model = ModelName.objects.filter(name__iexact=written).first()
    if model is None:
        return ModelName.objects.create(
            name=written, version=version, configuration=configuration or {}, enabled=enabled
        )
    before = (model.version_id, model.configuration)
    if before != (version.digest, configuration or {}):
        model.previous_id, model.previous_configuration = before
        model.version, model.configuration = version, configuration or {}
    model.save()
    return model


def _collect(digests: set[str | None]) -> None:
    """Remove the unused versions among ``digests``."""
    for version in ModelVersion.objects.filter(digest__in=digests - {None}):
        if version.names.exists() or version.left_by.exists():
            continue
        path, copy = version.path, disk.copy_of(version.digest)
        facts.forget(version)
        version.delete()
        # Rows first: a file without a row only wastes space.
        transaction.on_commit(lambda path=path: path.unlink(missing_ok=True))  # type: ignore[misc]
        transaction.on_commit(copy.remove)
