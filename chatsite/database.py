"""Database connections of threads that serve no HTTP request, where Django would renew them."""

from __future__ import annotations

import logging

from django.db import connection

log = logging.getLogger(__name__)


def renew_failed_connection() -> None:
    """Drop this thread's connection if a query on it failed, and the dead ones of the pool.

    A restarted server has closed all of them. Costs nothing unless a query has failed.
    """
    if not connection.errors_occurred or connection.in_atomic_block:
        return
    connection.close()
    pool = getattr(connection, "pool", None)
    if pool:
        pool.check()
