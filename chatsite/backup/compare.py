"""Comparison of tables row by row."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import zip_longest

from chatsite.backup.columns import Row
from chatsite.backup.databases import Database
from chatsite.backup.errors import BackupRefused
from chatsite.backup.tables import Table


class Different(BackupRefused):
    """A row differs from what was to be written."""

    code = "rows_differ"
    message = "A row differs from what was to be written."


def require_equal(table: Table, expected: Iterable[Row], database: Database) -> int:
    """Compare ``expected`` with the rows of ``table``, both ordered by key; return their number.

    Raises `Different`, which names the first row that differs.
    """
    place = table.columns.index(table.key)
    count = 0
    for wanted, found in zip_longest(expected, database.rows(table)):
        if wanted is None or found is None or database.storable(table, wanted) != found:
            row = wanted or found
            key = row[place] if row else "?"
            what = "is missing" if found is None else "was not expected"
            if wanted is not None and found is not None:
                what = "has other values"
            raise Different(f"Row {key} of {table.name} in {database.name} {what}.")
        count += 1
    return count
