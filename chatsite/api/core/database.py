"""Database access for every API request, on one thread that keeps its connection.

Django gives each request its own thread, and so its own connection. Opening SQLite takes longer
than all queries of a request. PostgreSQL's connections come from a pool and are returned to it.
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
    """Run ``work``, which must be short, on the API's database thread, in order of arrival."""
    context = contextvars.copy_context()
    return await asyncio.get_running_loop().run_in_executor(_thread, context.run, _run, work)


def _run(work: Callable[[], R]) -> R:
    try:
        return work()
    finally:
        if connection.vendor != "sqlite" or connection.errors_occurred:
            connection.close()
