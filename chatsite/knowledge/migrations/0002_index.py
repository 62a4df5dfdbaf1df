import django.db.models.deletion
import django.utils.timezone
from django.db import migrations, models

import chatsite.text_terms

# The terms are segmented already: the tokenizer only splits at spaces. Only which passages have a
# term is stored; `retrieve` counts it in the few candidates.
# A migration in which Django recreates this table on SQLite must recreate the triggers too.
_SQLITE = (
    """
    CREATE VIRTUAL TABLE knowledge_words USING fts5(
        terms, content='knowledge_passageterms', content_rowid='passage_id',
        tokenize="ascii", detail=none
    )
    """,
    "CREATE VIRTUAL TABLE knowledge_vocabulary USING fts5vocab('knowledge_words', 'row')",
    """
    CREATE TRIGGER knowledge_terms_put AFTER INSERT ON knowledge_passageterms BEGIN
        INSERT INTO knowledge_words(rowid, terms) VALUES (new.passage_id, new.terms);
    END
    """,
    """
    CREATE TRIGGER knowledge_terms_gone AFTER DELETE ON knowledge_passageterms BEGIN
        INSERT INTO knowledge_words(knowledge_words, rowid, terms)
        VALUES ('delete', old.passage_id, old.terms);
    END
    """,
)
_SQLITE_BACK = (
    "DROP TRIGGER knowledge_terms_gone",
    "DROP TRIGGER knowledge_terms_put",
    "DROP TABLE knowledge_vocabulary",
    "DROP TABLE knowledge_words",
)
# PostgreSQL does not know how many passages have a term. The counts are updated in the order of
# terms, so that two transactions can't wait for each other.
_POSTGRESQL = (
    (
        "CREATE INDEX knowledge_words ON knowledge_passageterms USING gin (terms) "
        "WITH (fastupdate = off)"
    ),
    (
        "CREATE TABLE knowledge_term (term text PRIMARY KEY, passages bigint NOT NULL) "
        "WITH (fillfactor = 70)"
    ),
    """
    CREATE FUNCTION knowledge_terms_put() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO knowledge_term AS known (term, passages)
        SELECT term, count(*) FROM added, unnest(tsvector_to_array(terms)) AS term
        GROUP BY term ORDER BY term
        ON CONFLICT (term) DO UPDATE SET passages = known.passages + excluded.passages;
        RETURN NULL;
    END $$
    """,
    """
    CREATE FUNCTION knowledge_terms_gone() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        INSERT INTO knowledge_term AS known (term, passages)
        SELECT term, -count(*) FROM removed, unnest(tsvector_to_array(terms)) AS term
        GROUP BY term ORDER BY term
        ON CONFLICT (term) DO UPDATE SET passages = known.passages + excluded.passages;
        DELETE FROM knowledge_term WHERE passages <= 0 AND term IN (
            SELECT term FROM removed, unnest(tsvector_to_array(terms)) AS term
        );
        RETURN NULL;
    END $$
    """,
    (
        "CREATE TRIGGER knowledge_terms_put AFTER INSERT ON knowledge_passageterms "
        "REFERENCING NEW TABLE AS added FOR EACH STATEMENT EXECUTE FUNCTION knowledge_terms_put()"
    ),
    (
        "CREATE TRIGGER knowledge_terms_gone AFTER DELETE ON knowledge_passageterms "
        "REFERENCING OLD TABLE AS removed FOR EACH STATEMENT EXECUTE FUNCTION knowledge_terms_gone()"
    ),
)
_POSTGRESQL_BACK = (
    "DROP TRIGGER knowledge_terms_gone ON knowledge_passageterms",
    "DROP TRIGGER knowledge_terms_put ON knowledge_passageterms",
    "DROP FUNCTION knowledge_terms_gone()",
    "DROP FUNCTION knowledge_terms_put()",
    "DROP TABLE knowledge_term",
    "DROP INDEX knowledge_words",
)


def make_index(apps, schema_editor):
    postgresql = schema_editor.connection.vendor == "postgresql"
    for statement in _POSTGRESQL if postgresql else _SQLITE:
        schema_editor.execute(statement)


def drop_index(apps, schema_editor):
    postgresql = schema_editor.connection.vendor == "postgresql"
    for statement in _POSTGRESQL_BACK if postgresql else _SQLITE_BACK:
        schema_editor.execute(statement)


class Migration(migrations.Migration):
    dependencies = [
        ("attachments", "0002_attachment_notes"),
        ("knowledge", "0001_collections"),
    ]

    operations = [
        migrations.CreateModel(
            name="PassageTerms",
            fields=[
                (
                    "passage",
                    models.OneToOneField(
                        on_delete=django.db.models.deletion.CASCADE,
                        primary_key=True,
                        related_name="+",
                        serialize=False,
                        to="knowledge.passage",
                    ),
                ),
                ("terms", chatsite.text_terms.TermsField()),
            ],
        ),
        migrations.CreateModel(
            name="EmbeddingIndex",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("model", models.CharField(max_length=255, verbose_name="model")),
                ("digest", models.CharField(max_length=64, unique=True)),
                ("dimensions", models.PositiveIntegerField()),
                (
                    "state",
                    models.CharField(
                        choices=[("building", "Building"), ("active", "Active")],
                        default="building",
                        max_length=10,
                    ),
                ),
                ("created_at", models.DateTimeField(default=django.utils.timezone.now)),
            ],
            options={
                "constraints": [
                    models.UniqueConstraint(
                        condition=models.Q(("state", "active")),
                        fields=("state",),
                        name="embedding_index_one_active",
                    )
                ],
            },
        ),
        migrations.CreateModel(
            name="PassageVectors",
            fields=[
                (
                    "id",
                    models.BigAutoField(
                        auto_created=True, primary_key=True, serialize=False, verbose_name="ID"
                    ),
                ),
                ("rows", models.PositiveIntegerField()),
                ("data", models.BinaryField()),
                (
                    "attachment",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="vectors",
                        to="attachments.attachment",
                    ),
                ),
                (
                    "document",
                    models.ForeignKey(
                        blank=True,
                        null=True,
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="vectors",
                        to="knowledge.document",
                    ),
                ),
                (
                    "index",
                    models.ForeignKey(
                        on_delete=django.db.models.deletion.CASCADE,
                        related_name="vectors",
                        to="knowledge.embeddingindex",
                    ),
                ),
            ],
            options={
                "constraints": [
                    models.CheckConstraint(
                        condition=models.Q(
                            ("document__isnull", True),
                            ("attachment__isnull", True),
                            _connector="XOR",
                        ),
                        name="vectors_of_one",
                    ),
                    models.UniqueConstraint(
                        fields=("document", "index"), name="vectors_of_document_once"
                    ),
                    models.UniqueConstraint(
                        fields=("attachment", "index"), name="vectors_of_attachment_once"
                    ),
                ],
            },
        ),
        migrations.RunPython(make_index, drop_index),
    ]
