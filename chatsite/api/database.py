"""The database for what every request of a program asks, on one thread that keeps its connection.

Django gives each request a thread of its own, and with it a connection. To open SQLite takes longer
than all that is asked there; PostgreSQL's connections are ready in a pool, which gets them back.
"""

from __future__ import annotations

import asyncio
import contextvars
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from django.db import connection

R = TypeVar("R")
_thread = ThreadPoolExecutor(1, thread_name_prefix="api-database")


async def in_database(work: Callable[[], R]) -> R:
    """Runs ``work``, which is short, after what others asked for."""
    context = contextvars.copy_context()
    return await asyncio.get_running_loop().run_in_executor(_thread, context.run, _run, work)


def _run(work: Callable[[], R]) -> R:
    try:
        return work()
    finally:
        if connection.vendor != "sqlite" or connection.errors_occurred:
            connection.close()
