import django.db.models.deletion
from django.conf import settings
from django.db import migrations, models

import chatsite.search.models

# The terms are already segmented, so the tokenizer only splits at spaces, for which `ascii` is the
# cheapest. `detail=none` stores only which entries have a term, without positions.
# A migration in which Django recreates this table on SQLite must recreate the triggers too.
_SQLITE = (
    """
    CREATE VIRTUAL TABLE search_terms USING fts5(
        terms, content='search_entry', content_rowid='id',
        tokenize="ascii", prefix='1 2 3 4', detail=none, columnsize=0
    )
    """,
    """
    CREATE TRIGGER search_entry_put AFTER INSERT ON search_entry BEGIN
        INSERT INTO search_terms(rowid, terms) VALUES (new.id, new.terms);
    END
    """,
    """
    CREATE TRIGGER search_entry_gone AFTER DELETE ON search_entry BEGIN
        INSERT INTO search_terms(search_terms, rowid, terms) VALUES ('delete', old.id, old.terms);
    END
    """,
)
_SQLITE_BACK = (
    "DROP TRIGGER search_entry_gone",
    "DROP TRIGGER search_entry_put",
    "DROP TABLE search_terms",
)
# The terms are stored out of line (TOAST), since a search scans many rows without reading them.
# `fastupdate=off`: no pending list, which each search would have to scan.
_POSTGRESQL = (
    "ALTER TABLE search_entry SET (toast_tuple_target = 128)",
    "ALTER TABLE search_entry ALTER COLUMN terms SET STORAGE EXTERNAL",
    "CREATE INDEX search_terms ON search_entry USING gin (terms) WITH (fastupdate = off)",
)
_POSTGRESQL_BACK = ("DROP INDEX search_terms",)


def make_index(apps, schema_editor):
    postgresql = schema_editor.connection.vendor == "postgresql"
    for statement in _POSTGRESQL if postgresql else _SQLITE:
        schema_editor.execute(statement)


def drop_index(apps, schema_editor):
    postgresql = schema_editor.connection.vendor == "postgresql"
    for statement in _POSTGRESQL_BACK if postgresql else _SQLITE_BACK:
        schema_editor.execute(statement)


class Migration(migrations.Migration):
    initial = True

    dependencies = [
        migrations.swappable_dependency(settings.AUTH_USER_MODEL),
        ("chat", "0003_accepted_tokens"),
    ]

    operations = [
        migrations.CreateModel(
            name="Entry",
            fields=[
                ("id", models.BigIntegerField(primary_key=True, serialize=False)),
                (
                    "owner",
                    models.ForeignKey(
                        db_index=False,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to=settings.AUTH_USER_MODEL,
                    ),
                ),
                (
                    "conversation",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to="chat.conversation",
                    ),
                ),
                (
                    "message",
                    models.ForeignKey(
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="+",
                        to="chat.message",
                    ),
                ),
                ("terms", chatsite.search.models.TermsField()),
            ],
        ),
        migrations.RunPython(make_index, drop_index),
    ]
