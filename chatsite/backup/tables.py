"""The tables of the product, from Django's registry of models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

import msgspec
from django.apps import apps as current_apps
from django.db import models

from chatsite.backup.columns import Kind, kind_of

if TYPE_CHECKING:
    from django.apps.registry import Apps

MIGRATIONS: Final = "django_migrations"


class Table(msgspec.Struct, frozen=True):
    """``key`` is the primary key; ``serial`` if the database numbers it."""

    name: str
    columns: list[str]
    kinds: list[Kind]
    key: str
    serial: bool

    @property
    def key_kind(self) -> Kind:
        return self.kinds[self.columns.index(self.key)]


def tables(apps: Apps = current_apps) -> list[Table]:
    """Return all tables with rows of the product, also those between two models, by name.

    Raises `TypeError` for a column whose type has no canonical form.
    """
    found = {}
    for model in apps.get_models(include_auto_created=True):
        meta: Any = model._meta
        if not meta.managed or meta.proxy or meta.swapped:
            continue
        fields = [field for field in meta.concrete_fields if not field.generated]
        found[meta.db_table] = Table(
            name=meta.db_table,
            columns=[field.column for field in fields],
            kinds=[kind_of(field) for field in fields],
            key=meta.pk.column,
            serial=isinstance(meta.pk, models.AutoField),
        )
    return [found[name] for name in sorted(found)]
