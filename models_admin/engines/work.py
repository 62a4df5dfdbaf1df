"""Adding, changing and removing remote engines, and what discovery writes to the catalogue."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import msgspec
from django.core.exceptions import ValidationError
from django.db import transaction
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from chatsite.audit.record import record
from chatsite.errors import ChatsiteError, worded
from models_admin.engines import naming
from models_admin.engines.models import Engine, EngineModel
from models_admin.models import ModelName, ModelVersion, RemoteFacts
from models_admin.sources import egress

# Models of one engine; further ones are not offered. Hosted services list hundreds.
MODELS_MAX: Final = 500
_ERROR_LENGTH: Final = 500
_RECORDED: Final = (
    *("name", "kind", "url", "concurrency", "timeout_seconds", "context", "overrides", "only"),
    "enabled",
)
# Names of details of audit events that differ from those of the fields.
_DETAILS: Final = {"kind": "software"}


class EngineMissing(ChatsiteError):
    code = "engine_missing"
    status = 404
    message = _("There is no such engine.")


class BadEngine(ChatsiteError):
    code = "bad_engine"
    status = 400
    message = _("These settings of an engine are not valid.")


@dataclass(frozen=True)
class Found:
    """A model that an engine reported; see `EngineModel`."""

    name: str
    context: int | None = None
    slots: int | None = None
    capabilities: frozenset[str] = frozenset()


def find(name: str) -> Engine:
    """Return the engine of that name, ignoring case. Raises `EngineMissing`."""
    engine = Engine.objects.filter(name__iexact=name).first()
    if engine is None:
        raise EngineMissing(worded(_("There is no engine named %s."), name))
    return engine


def store(
    engine: Engine,
    *,
    key: str | None = None,
    request: HttpRequest | None = None,
) -> Engine:
    """Validate and save a new or changed engine; ``key`` None keeps the stored key.

    Raises `BadEngine` or `egress.FetchRefused`.
    """
    engine.url = str(egress.engine_url(engine.url))
    before = Engine.objects.filter(pk=engine.pk).first() if engine.pk else None
    if key is not None:
        engine.set_key(key)
    elif before is not None and before.key and _origin(before.url) != _origin(engine.url):
        # A key stays with the server that it was entered for.
        engine.set_key("")
    try:
        engine.full_clean()
    except ValidationError as error:
        raise BadEngine("; ".join(error.messages)) from error
    with transaction.atomic():
        engine.save()
        _settle(engine.models.exclude(version=None).values_list("version", flat=True))
    changes = {
        _DETAILS.get(name, name): _detail(getattr(engine, name))
        for name in _RECORDED
        if before is None or getattr(before, name) != getattr(engine, name)
    }
    if before is None or before.key != engine.key:
        changes["key"] = "set" if engine.key else "none"
    if changes:
        record(
            "engine.added" if before is None else "engine.changed",
            target=("engine", str(engine.pk), engine.name),
            request=request,
            via="page" if request else "cli",
            **changes,
        )
    return engine


def remove(engine: Engine, *, request: HttpRequest | None = None) -> list[str]:
    """Remove an engine, and from the catalogue the models that no other engine has.

    Return the names of these models. Names that have a previous version return to it.
    """
    pk, name = engine.pk, engine.name
    with transaction.atomic():
        versions = list(engine.models.exclude(version=None).values_list("version", flat=True))
        engine.delete()
        _settle(versions)
        gone = ModelVersion.objects.filter(pk__in=versions, engine_models=None)
        names = list(ModelName.objects.filter(version__in=gone).values_list("name", flat=True))
        ModelName.objects.filter(previous__in=gone).update(previous=None, previous_configuration={})
        for model in ModelName.objects.filter(version__in=gone):
            if model.previous_id is None:
                model.delete()
            else:
                model.version_id, model.configuration = (
                    model.previous_id,
                    model.previous_configuration,
                )
                model.previous, model.previous_configuration = None, {}
                model.save()
        ModelVersion.objects.filter(pk__in=list(gone.values_list("pk", flat=True))).delete()
    record(
        "engine.removed",
        target=("engine", str(pk), name),
        request=request,
        via="page" if request else "cli",
        models=names,
    )
    return names


@transaction.atomic
def save_discovery(engine_id: int, version: str, found: Sequence[Found]) -> list[str]:
    """Save what an engine reported, and offer its new models; return their catalogue names.

    Does nothing if the engine was removed meanwhile.
    """
    engine = Engine.objects.select_for_update().filter(pk=engine_id).first()
    if engine is None:
        return []
    Engine.objects.filter(pk=engine_id).update(
        version=version[:200], checked_at=timezone.now(), error=""
    )
    offered = [one for one in found if not engine.only or one.name in engine.only][:MODELS_MAX]
    known = {row.name: row for row in engine.models.all()}
    created: list[str] = []
    touched: set[str | None] = set()
    for one in offered:
        row = known.pop(one.name, None)
        values: dict[str, Any] = {
            "context": engine.context or one.context,
            "slots": one.slots,
            "capabilities": sorted(_effective(one.capabilities, engine.overrides)),
            "present": True,
        }
        if row is None:
            digest = naming.digest_of(one.name)
            facts = msgspec.to_builtins(RemoteFacts(one.name))
            ModelVersion.objects.get_or_create(
                digest=digest,
                defaults={"size": 0, "source": f"remote: {one.name}"[:500], "remote": facts},
            )
            EngineModel.objects.create(engine=engine, name=one.name, version_id=digest, **values)
            touched.add(digest)
            if name := _offer(engine, one.name, digest):
                created.append(name)
        elif any(getattr(row, field) != value for field, value in values.items()):
            for field, value in values.items():
                setattr(row, field, value)
            row.save()
            touched.add(row.version_id)
    for row in known.values():
        if row.present:
            row.present = False
            row.save(update_fields=["present"])
            touched.add(row.version_id)
    _settle(digest for digest in touched if digest)
    return created


def save_error(engine_id: int, error: str) -> None:
    """Save why an engine could not be reached; its models stay in the catalogue."""
    Engine.objects.filter(pk=engine_id).update(error=error[:_ERROR_LENGTH])


def offer_again(row: EngineModel) -> str:
    """Put a model back into the catalogue that was deleted there; return its name."""
    digest = naming.digest_of(row.name)
    with transaction.atomic():
        facts = msgspec.to_builtins(RemoteFacts(row.name))
        ModelVersion.objects.get_or_create(
            digest=digest,
            defaults={"size": 0, "source": f"remote: {row.name}"[:500], "remote": facts},
        )
        EngineModel.objects.filter(name=row.name).update(version=digest)
        name = _offer(row.engine, row.name, digest)
        _settle([digest])
    return name


def _offer(engine: Engine, remote_name: str, digest: str) -> str:
    """Give a remote model a name in the catalogue; return it, "" if it has one already.

    If another model has the name, the engine's name becomes the namespace.
    """
    if ModelName.objects.filter(version=digest).exists():
        return ""
    for name in (
        naming.catalogue_name(remote_name),
        naming.catalogue_name(remote_name, namespace=engine.name),
    ):
        if not ModelName.objects.filter(name__iexact=name).exists():
            ModelName.objects.create(name=name, version_id=digest, origin="")
            return name
    return ""


def _effective(reported: Collection[str], overrides: dict[str, bool]) -> set[str]:
    have = {name for name, there in overrides.items() if there}
    lack = {name for name, there in overrides.items() if not there}
    return (set(reported) | have) - lack


def _settle(digests: Iterable[str | None]) -> None:
    """Update what is known of remote models from all engines in use that have them."""
    for version in ModelVersion.objects.filter(pk__in=list(digests)):
        rows = list(version.engine_models.filter(present=True, engine__enabled=True))
        if not rows:
            continue
        abilities = set.intersection(*(set(row.capabilities) for row in rows))
        contexts = [row.context for row in rows if row.context]
        facts = RemoteFacts(
            name=rows[0].name,
            context=min(contexts, default=None),
            capabilities=tuple(sorted(abilities)),
            isolated="cache_isolation" in abilities,
        )
        version.remote = msgspec.to_builtins(facts)
        version.save(update_fields=["remote"])


def _origin(url: str) -> tuple[str, str, int | None]:
    return egress.origin(egress.engine_url(url))


def _detail(value: Any) -> Any:
    """Return a value as a detail of an audit event."""
    if isinstance(value, dict):
        return [f"{name}: {'yes' if on else 'no'}" for name, on in sorted(value.items())]
    return value
