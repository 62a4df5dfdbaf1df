"""The models that users can choose, and lookup by name."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from django.conf import settings
from django.db import transaction
from django.db.models import QuerySet
from django.utils.translation import gettext_lazy as _

from chatsite.accounts.models import User
from chatsite.audit.record import record
from chatsite.errors import ChatsiteError, ModelMissing, ModelUnavailable, worded
from chatsite.policy import decisions
from chatsite.site_settings import current
from chatsite.site_settings.cache import locked
from chatsite.site_settings.save import save
from models_admin import facts, names
from models_admin.models import ModelName, ModelVersion

# Models with smaller files, below about 0.7 billion parameters as Q4, are for trying out.
_USEFUL_BYTES: Final = 500_000_000


class ModelQuarantined(ModelUnavailable):
    code = "model_quarantined"
    permanent = True
    message = _(
        "This model is disabled because it failed to load. Choose another one or ask an "
        "administrator."
    )


class NoEngine(ModelUnavailable):
    code = "no_engine"
    permanent = True
    message = _("No engine offers this model any more. Choose another one or ask an administrator.")


class CantChat(ChatsiteError):
    code = "model_cannot_chat"
    status = 409
    message = _(
        "This model is not made for chats: it has no chat template or gives embeddings only. "
        "Choose another default."
    )


class DefaultLocked(ChatsiteError):
    code = "default_model_locked"
    status = 409
    message = _("CHATSITE_DEFAULT_MODEL sets the default model. Change it in the environment.")


def resolve(name: str) -> ModelVersion:
    """Return the version that ``name`` refers to; see `find`."""
    return find(name).version


def find(name: str, user: User | None = None) -> ModelName:
    """Return the model of that name, ignoring case; without a tag, `:latest` is added.

    Raises `ModelMissing` (also for a model that is not available to users), `ModelQuarantined`,
    `NoEngine`, or `ModelNotAllowed` if ``user`` may not use it.
    """
    model = installed(name)
    if model is None or not model.enabled:
        raise ModelMissing
    if model.version.quarantined:
        raise ModelQuarantined
    if model.version.remote and not ModelName.objects.filter(pk=model.pk).served().exists():
        raise NoEngine
    if user is not None:
        decisions.require_model(user, model.name)
    return model


def context(model: ModelName | None) -> int:
    """Return the most tokens that prompt and answer may have together."""
    facts = model.version.remote_facts if model else None
    if facts and facts.context:
        return min(model.context or facts.context, facts.context) if model else facts.context
    return (model.context if model else None) or settings.ENV.context


def installed(name: str) -> ModelName | None:
    """Return the installed model of that name, available to users or not; None if there is none."""
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
    """Return the installed model of that name.

    Raises `BadModelName`, or `ModelMissing` with the name.
    """
    written = names.normalise(name)
    model = installed(written)
    if model is None:
        raise ModelMissing(worded(_("%s is not installed."), written))
    return model


def offered(user: User | None = None, *, writing: bool = False) -> list[dict[str, Any]]:
    """Return the models that users, or ``user``, can choose now, sorted by name.

    With ``writing`` embedding models and rerankers are left out.

    Each is ``{name, size, custom}``, with the size in bytes; a custom model has a configuration.
    Base models, which only continue text, also have ``base``.
    """
    return [
        {
            "name": model.name,
            "size": model.version.size,
            "custom": bool(model.configuration),
            **({"base": True} if facts.only_continues(model) else {}),
        }
        for model in allowed(_offered().order_by("name"), user)
        if not writing or "completion" in facts.nature(model.version).abilities
    ]


def allowed(found: Iterable[ModelName], user: User | None) -> list[ModelName]:
    """Return those of the models that the user may use; all without a user."""
    if user is None:
        return list(found)
    return [model for model in found if decisions.allows_model(user, model.name)]


def able(ability: facts.Ability) -> list[ModelName]:
    """Return the models with that ability that are available to users, sorted by name."""
    found = _offered().order_by("name")
    return [model for model in found if ability in facts.nature(model.version).abilities]


def _offered() -> QuerySet[ModelName]:
    found = ModelName.objects.filter(enabled=True, version__quarantined="").served()
    return found.select_related("version")


def default_name(user: User | None = None) -> str | None:
    """Return the default model of new chats, of those that ``user`` may use.

    It is the one that an administrator set, in the settings or the list of models, while it is
    available, or else that of `automatic_name`.
    """
    found = allowed(_offered().order_by("created_at", "pk"), user)
    wanted = current().default_model.lower()
    model = (
        next((model for model in found if model.name.lower() == wanted), None)
        or next((model for model in found if model.is_default), None)
        or _automatic(found)
    )
    return model.name if model else None


def automatic_name() -> str | None:
    """Return the model that is the default while no administrator sets one."""
    model = _automatic(_offered().order_by("created_at", "pk"))
    return model.name if model else None


def _automatic(found: Iterable[ModelName]) -> ModelName | None:
    """Return the first model that can chat.

    Of those large enough to be useful the oldest comes first, so that adding a model changes
    nothing; of the others, such as the starter model, the largest.
    """
    useful = [model for model in found if _is_useful(model.version)]
    small = [model for model in found if not _is_useful(model.version)]
    ordered = [*useful, *sorted(small, key=lambda model: -model.version.size)]
    return next(filter(can_chat, ordered), None)


def _is_useful(version: ModelVersion) -> bool:
    return bool(version.remote) or version.size >= _USEFUL_BYTES


def can_chat(model: ModelName) -> bool:
    """Return whether the model is made for chats: it generates text and is not a base model.

    True if the file can't be read.
    """
    writes = "completion" in facts.nature(model.version).abilities
    return writes and not facts.only_continues(model)


def require_chat(name: str) -> ModelName:
    """Return the model of that name if it may be the default.

    Raises `ModelMissing` if it is not available to users, `ModelQuarantined`, and `CantChat`.
    """
    model = find(name)
    if not can_chat(model):
        raise CantChat
    return model


def set_default(model: ModelName | None) -> None:
    """Make ``model`` the default of new chats; None restores the rule of `automatic_name`.

    Raises as `require_chat`, and `DefaultLocked`.
    """
    if "default_model" in locked():
        raise DefaultLocked
    if model is not None:
        require_chat(model.name)
    with transaction.atomic():
        ModelName.objects.filter(is_default=True).update(is_default=False)
        if model is not None:
            ModelName.objects.filter(pk=model.pk).update(is_default=True)
        save({"default_model": model.name if model else ""})


def quarantine(digest: str, reason: str) -> bool:
    """Keep the version from being loaded until `release`.

    Return False if it is not installed or is already in quarantine, whose reason is kept.
    """
    if not reason:
        raise ValueError("a quarantine needs a reason")
    changed = ModelVersion.objects.filter(digest=digest, quarantined="").update(quarantined=reason)
    if changed:
        names = ModelName.objects.filter(version=digest).values_list("name", flat=True)
        record(
            "model.quarantined",
            via="system",
            outcome="failed",
            target=("version", digest, digest[:12]),
            names=list(names),
            reason=reason,
        )
    return bool(changed)


def release(digest: str) -> bool:
    """Lift the quarantine; return False if there was none."""
    found = ModelVersion.objects.filter(digest=digest).exclude(quarantined="")
    return bool(found.update(quarantined=""))
