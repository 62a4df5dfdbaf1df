"""Which migrations the previous version of the product tolerates.

In a rolling upgrade the first upgraded machine migrates the database while the others still run the
previous version. So a migration only adds what that version can ignore. What is no longer used is
removed one release later, by a migration that says so::

    class Migration(migrations.Migration):
        contracts = "no code reads it since 1.4"
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from django.db import models
from django.db.migrations import operations as ops
from django.db.migrations.migration import Migration
from django.db.migrations.state import ProjectState

_REMOVING = (
    ops.RemoveField,
    ops.DeleteModel,
    ops.RenameField,
    ops.RenameModel,
    ops.AlterModelTable,
)
_RULES = (ops.AddConstraint, ops.AlterUniqueTogether)


def problems(migration: Migration, before: ProjectState) -> list[str]:
    """Return what the previous version does not tolerate; ``before`` is the state it runs on."""
    if getattr(migration, "contracts", ""):
        return []
    state, app, found = before.clone(), migration.app_label, []
    created: set[str] = set()
    for operation in migration.operations:
        if isinstance(operation, ops.CreateModel):
            created.add(operation.name_lower)
        model = getattr(operation, "model_name_lower", "")
        if model not in created:
            problem = _problem(operation, state, app)
            if problem:
                found.append(f"{operation.describe()}: {problem}")
        operation.state_forwards(app, state)
    return found


def _problem(operation: Any, state: ProjectState, app: str) -> str:
    match operation:
        case ops.AddField():
            return _added(operation.field)
        case ops.AlterField():
            old = state.models[app, operation.model_name_lower].fields[operation.name]
            return _altered(old, operation.field)
        case ops.RunSQL():
            return "can't be checked; set `contracts`, or use other operations"
    if isinstance(operation, _REMOVING):
        return "the previous version still uses it"
    if isinstance(operation, _RULES):
        return "the previous version may write rows that violate it"
    return ""


def _added(field: models.Field) -> str:
    if field.many_to_many or field.null or field.has_db_default():
        return ""
    return "the previous version inserts rows without it: add null=True or db_default"


def _altered(old: models.Field, new: models.Field) -> str:
    checks: list[tuple[Callable[[models.Field], Any], str]] = [
        (lambda field: not field.null, "null is no longer allowed"),
        (lambda field: field.unique, "it becomes unique"),
    ]
    for has, what in checks:
        if has(new) and not has(old):
            return f"{what}, but the previous version may write it"
    if _length(new) < _length(old):
        return "it becomes shorter than what the previous version writes"
    types = (old.get_internal_type(), new.get_internal_type())
    if types[0] != types[1] and types != ("CharField", "TextField"):
        return "its type changes under the previous version"
    return ""


def _length(field: models.Field) -> float:
    return field.max_length or float("inf")
