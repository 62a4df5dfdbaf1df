"""What people may choose, and what a name stands for."""

from __future__ import annotations

from typing import Any

from django.utils.translation import gettext_lazy as _

from chatsite.errors import ModelMissing, ModelUnavailable
from models_admin import names
from models_admin.models import ModelName, ModelVersion


class ModelQuarantined(ModelUnavailable):
    code = "model_quarantined"
    permanent = True
    message = _(
        "This model is switched off because it failed. Choose another one, or ask an administrator."
    )


def resolve(name: str) -> ModelVersion:
    """The version that ``name`` stands for; see `find`."""
    return find(name).version


def find(name: str) -> ModelName:
    """The model of that name, whatever its case, `:latest` added if it has no tag.

    Raises `ModelMissing` (also for a name that is not offered) or `ModelQuarantined`.
    """
    model = installed(name)
    if model is None or not model.enabled:
        raise ModelMissing
    if model.version.quarantined:
        raise ModelQuarantined
    return model


def installed(name: str) -> ModelName | None:
    """The installed model of that name, offered or not."""
    try:
        written = names.normalise(name)
    except names.BadModelName:
        return None
    found = ModelName.objects.select_related("version")
    try:
        return found.get(name__iexact=written)
    except ModelName.DoesNotExist:
        return None


def require(name: str) -> ModelName:
    """`installed`; raises `BadModelName`, or `ModelMissing` with the name."""
    written = names.normalise(name)
    model = installed(written)
    if model is None:
        raise ModelMissing(str(_("%s is not installed.")) % written)
    return model


def offered() -> list[dict[str, Any]]:
    """The models that people can choose now, in order of their names: ``{name, size, custom}``
    each, the size in bytes; a custom one has a configuration of its own."""
    found = ModelName.objects.filter(enabled=True, version__quarantined="").order_by("name")
    return [
        {"name": name, "size": size, "custom": bool(configuration)}
        for name, size, configuration in found.values_list("name", "version__size", "configuration")
    ]


def default_name() -> str | None:
    """What somebody chats with who chose nothing: the model that has been offered longest."""
    found = ModelName.objects.filter(enabled=True, version__quarantined="")
    return found.order_by("created_at", "pk").values_list("name", flat=True).first()


def quarantine(digest: str, reason: str) -> bool:
    """Stops the version from being loaded until `release`. False when it is not installed or is
    in quarantine already, whose reason stays."""
    if not reason:
        raise ValueError("a quarantine needs a reason")
    return bool(
        ModelVersion.objects.filter(digest=digest, quarantined="").update(quarantined=reason)
    )


def release(digest: str) -> bool:
    """Lifts the quarantine; False when there was none."""
    found = ModelVersion.objects.filter(digest=digest).exclude(quarantined="")
    return bool(found.update(quarantined=""))
