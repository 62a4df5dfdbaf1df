"""Changes of settings."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from django.core.exceptions import ValidationError
from django.db import transaction
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from chatsite.audit.record import record
from chatsite.site_settings import values
from chatsite.site_settings.cache import cache, locked
from chatsite.site_settings.fields import declared
from chatsite.site_settings.models import StoredSetting


def save(
    changes: Mapping[str, Any],
    *,
    by: str = "",
    request: HttpRequest | None = None,
    via: str = "page",
) -> dict[str, tuple[Any, Any]]:
    """Store ``changes`` and return those that change something, as ``{name: (old, new)}``.

    Each is an audit event. ``by`` is a username; with ``request`` it is that of its user. Other
    processes use the new values within `cache.LIFETIME` seconds. Raises `ValidationError` with
    messages by field; then nothing is stored.
    """
    problems: dict[str, Any] = {}
    cleaned: dict[str, Any] = {}
    for name, value in changes.items():
        if name in locked():
            message = _("Set by the environment: change %(variable)s there.")
            variable = {"variable": declared()[name].variable}
            problems[name] = ValidationError(message, "locked", variable)
            continue
        try:
            cleaned[name] = values.clean(name, value)
        except ValidationError as error:
            problems[name] = error
    if problems:
        raise ValidationError(problems)
    with transaction.atomic():
        rows = dict(StoredSetting.objects.select_for_update().values_list("name", "value"))
        stored = {name: values.from_stored(name, rows[name]) for name in rows if name in declared()}
        before = values.combined(stored, locked())
        stored |= cleaned
        values.check_together(values.combined(stored, locked()))
        changed = {
            name: (getattr(before, name), value)
            for name, value in cleaned.items()
            if getattr(before, name) != value
        }
        for name, (_old, new) in changed.items():
            StoredSetting.objects.update_or_create(
                name=name,
                defaults={
                    "value": values.to_stored(new),
                    "changed_at": timezone.now(),
                    "changed_by": by,
                },
            )
    cache.put(stored)
    for name, (old, new) in changed.items():
        _record(name, old, new, by, request, via)
    return changed


def _record(name: str, old: Any, new: Any, by: str, request: HttpRequest | None, via: str) -> None:
    kind = "settings.changed"
    if name == "maintenance":
        kind = "settings.maintenance_on" if new else "settings.maintenance_off"
    record(
        kind,
        request=request,
        user=by or None,
        via=via,
        target=("setting", name, str(declared()[name].setting.label)),
        old=_shown(old),
        new=_shown(new),
    )


def _shown(value: Any) -> str | int | bool | list[str] | None:
    if isinstance(value, tuple):
        return [str(one) for one in value]
    return value.isoformat() if isinstance(value, datetime) else value
