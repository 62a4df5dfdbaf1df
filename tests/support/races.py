"""Races: the same operation concurrently, each on its own connection."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import TypeVar

import pytest
from django.db import connection

Result = TypeVar("Result")

on_postgresql = pytest.mark.skipif(
    "CHATSITE_TEST_DATABASE_URL" not in os.environ, reason="SQLite's tests share one connection"
)


def at_once(count: int, work: Callable[[int], Result]) -> list[Result | Exception]:
    """Return the result or exception of ``work`` for each number below ``count``."""
    barrier = threading.Barrier(count)
    results: list[Result | Exception] = []

    def race(number: int) -> None:
        barrier.wait()
        try:
            results.append(work(number))
        except Exception as error:  # noqa: BLE001  (it is what the test looks at)
            results.append(error)
        finally:
            connection.close()

    threads = [threading.Thread(target=race, args=[number]) for number in range(count)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return results
