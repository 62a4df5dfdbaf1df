"""PostgreSQL's statistics of tables that were filled at once."""

from __future__ import annotations

from typing import Final

from django.db import connections, models, router

# Fewer rows do not mislead the planner by much before autovacuum analyzes the table.
MANY_ROWS: Final = 5000


def refresh(*tables: type[models.Model]) -> None:
    """Analyze tables after many rows were written at once.

    Autovacuum does it within a minute or more. Until then the planner takes such tables for nearly
    empty and may choose nested loops: a search of 100,000 rows took up to 0.8 s instead of 0.1 s,
    a list of 10,000 users up to a minute. Other databases need nothing.
    """
    for table in tables:
        connection = connections[router.db_for_write(table)]
        if connection.vendor == "postgresql":
            with connection.cursor() as cursor:
                cursor.execute(f"ANALYZE {connection.ops.quote_name(table._meta.db_table)}")
