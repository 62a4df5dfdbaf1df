"""Database connections of threads that serve no HTTP request, where Django would renew them."""

from __future__ import annotations

import logging

from django.db import close_old_connections, connection

log = logging.getLogger(__name__)


def renew_connection() -> None:
    """Drop a connection of this thread that failed or is too old, as Django does per request.

    Leaves one with an open transaction alone: its owner ends it.
    """
    if connection.in_atomic_block:
        return
    renew_failed_connection()
    close_old_connections()


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
