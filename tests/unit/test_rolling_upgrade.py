"""The previous version runs on the database that the next one has migrated."""

from __future__ import annotations

from typing import Any

import pytest
from django.db import migrations, models
from django.db.migrations.loader import MigrationLoader
from django.db.migrations.state import ModelState, ProjectState

from tests.support.migrations import problems

# The last migrations before rolling upgrades were supported.
BASELINE = {
    "accounts": "0006",
    "assistants": "0002",
    "attachments": "0002",
    "audit": "0001",
    "chat": "0013",
    "exchange": "0001",
    "feedback": "0001",
    "models_admin": "0009",
    "policy": "0001",
    "retention": "0001",
    "search": "0002",
    "sharing": "0001",
    "site_settings": "0001",
    "usage": "0001",
}


def own(loader: MigrationLoader) -> list[tuple[str, str]]:
    """Return the project's migrations after the baseline."""
    mine = ("chatsite.", "models_admin.")
    return sorted(
        key
        for key, migration in loader.disk_migrations.items()
        if type(migration).__module__.startswith(mine) and key[1][:4] > BASELINE.get(key[0], "")
    )


def test_every_migration_is_tolerated_by_the_previous_version() -> None:
    loader = MigrationLoader(None)
    checked = own(loader)
    found = {
        f"{app}.{name}": problems(
            loader.get_migration(app, name), loader.project_state((app, name), at_end=False)
        )
        for app, name in checked
    }
    assert ("models_admin", "0010_nature_of_versions") in checked
    assert {name: what for name, what in found.items() if what} == {}


def state() -> ProjectState:
    fields: list[tuple[str, models.Field[Any, Any]]] = [
        ("id", models.BigAutoField(primary_key=True)),
        ("name", models.CharField(max_length=50)),
        ("note", models.CharField(max_length=50, null=True)),
    ]
    project = ProjectState()
    project.add_model(ModelState("app", "Thing", fields))
    return project


def of(*operations: Any, contracts: str = "") -> list[str]:
    body = {"operations": list(operations), "contracts": contracts}
    kind = type("Migration", (migrations.Migration,), body)
    return problems(kind("0002", "app"), state())


@pytest.mark.parametrize(
    "operation",
    [
        migrations.RemoveField("Thing", "note"),
        migrations.RenameField("Thing", "note", "remark"),
        migrations.DeleteModel("Thing"),
        migrations.RenameModel("Thing", "Item"),
        migrations.AlterModelTable("Thing", "items"),
        migrations.AddField("Thing", "size", models.IntegerField(default=0)),
        migrations.AlterField("Thing", "note", models.CharField(max_length=50, default="")),
        migrations.AlterField("Thing", "name", models.CharField(max_length=20)),
        migrations.AlterField("Thing", "name", models.CharField(max_length=50, unique=True)),
        migrations.AlterField("Thing", "name", models.IntegerField()),
        migrations.AlterUniqueTogether("Thing", {("name", "note")}),
        migrations.AddConstraint(
            "Thing", models.UniqueConstraint(fields=["name"], name="one_name")
        ),
        migrations.RunSQL("DROP TABLE app_thing"),
    ],
)
def test_what_the_previous_version_does_not_tolerate_is_refused(operation: Any) -> None:
    assert len(of(operation)) == 1
    assert of(operation, contracts="unused since 1.4") == []


@pytest.mark.parametrize(
    "operation",
    [
        migrations.CreateModel("Other", [("id", models.BigAutoField(primary_key=True))]),
        migrations.AddField("Thing", "size", models.IntegerField(null=True)),
        migrations.AddField("Thing", "size", models.IntegerField(db_default=0)),
        migrations.AlterField("Thing", "name", models.CharField(max_length=80)),
        migrations.AlterField("Thing", "name", models.CharField("title", max_length=50)),
        migrations.AddIndex("Thing", models.Index(fields=["name"], name="by_name")),
        migrations.RunPython(migrations.RunPython.noop),
    ],
)
def test_what_it_ignores_is_allowed(operation: Any) -> None:
    assert of(operation) == []


def test_a_new_table_may_have_any_rules() -> None:
    made = migrations.CreateModel("Other", [("id", models.BigAutoField(primary_key=True))])
    added = migrations.AddField("Other", "size", models.IntegerField(default=0))
    assert of(made, added) == []
