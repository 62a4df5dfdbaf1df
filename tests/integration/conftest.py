"""Shared by integration tests: the database can be dropped at the end."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from django.db import connection

# Not repeated on PostgreSQL: their subject is a protocol, a count in Redis, or who gets which
# answer. The tests of each subject's own module run its queries on both databases.
_ONCE = (
    "accounts/directory/test_ldap.py",
    "accounts/directory/test_oidc.py",
    "accounts/test_throttle.py",
    "web/strangers/",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if item.nodeid.startswith(tuple(f"tests/integration/{path}" for path in _ONCE)):
            item.add_marker("once")


@pytest.fixture(scope="session", autouse=True)
def no_session_is_left(django_db_setup: None, django_db_blocker: Any) -> Iterator[None]:
    """Close database sessions left by test threads: PostgreSQL can't drop a database in use."""
    yield
    if connection.vendor == "postgresql":
        with django_db_blocker.unblock(), connection.cursor() as cursor:
            cursor.execute(
                "SELECT pg_terminate_backend(pid) FROM pg_stat_activity"
                " WHERE datname = current_database() AND pid <> pg_backend_pid()"
            )
