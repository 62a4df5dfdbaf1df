"""Refusals as messages of a command."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.core.management.base import CommandError
from django.db import DatabaseError

from chatsite.errors import ChatsiteError
from chatsite.management.progress_line import ProgressLine


@contextmanager
def reported() -> Iterator[ProgressLine]:
    """Yield a line for progress; turn refusals of the block into `CommandError`."""
    line = ProgressLine()
    try:
        yield line
    except ChatsiteError as error:
        raise CommandError(str(error)) from error
    except DatabaseError as error:
        raise CommandError(f"The database can't be used: {error}") from error
    finally:
        line.end()
