"""Log lines of child processes: one JSON object per line on standard error.

A child calls `configure`. Its parent parses each line, and logs it with the same level and fields
(`inference.runner`) or shows the reason of a failure to a user. Lines of libraries and of a
crashing interpreter are plain text.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Final

import msgspec

# Attributes of every `logging.LogRecord`, which no field may be named after.
RECORD_FIELDS: Final = frozenset(
    {*vars(logging.makeLogRecord({})), "message", "asctime", "taskName"}
)

Value = str | int | float | bool | None

# The request that this thread prepares, as `run` in its lines.
_run: ContextVar[str] = ContextVar("run", default="")


class Line(msgspec.Struct, frozen=True):
    """A log line; ``level`` is one of `logging`, ``fields`` are the values of ``extra``."""

    level: int
    message: str
    fields: dict[str, Value] = {}

    @property
    def reason(self) -> str:
        """The text shown to a user if this is the last line of a failed child."""
        return str(self.fields.get("error") or self.fields.get("text") or self.message)


def configure() -> None:
    """Log to standard error at level INFO."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(Formatter())
    logging.basicConfig(level=logging.INFO, handlers=[handler])


@contextmanager
def about(run: str) -> Iterator[None]:
    """Add the field ``run`` to the lines that this thread logs in the block."""
    token = _run.set(run)
    try:
        yield
    finally:
        _run.reset(token)


def parse(line: str) -> Line:
    """Parse a line of a child, which is untrusted; other formats become text of level INFO."""
    try:
        fields = msgspec.json.decode(line, type=dict[str, Value])
        level = logging.getLevelNamesMapping()[str(fields.pop("level"))]
        message = str(fields.pop("message"))
    except (ValueError, KeyError, RecursionError):
        return Line(logging.INFO, line)
    return Line(level, message, {k: v for k, v in fields.items() if k not in RECORD_FIELDS})


def relay(
    text: str,
    log: logging.Logger,
    ids: Callable[[str], Mapping[str, Value]] | None = None,
    **fields: Value,
) -> None:
    """Log a line of a child with its own level and fields, and with ``fields``.

    ``ids`` returns the fields that replace ``run``, the ID of a request in frames of the child.
    """
    line = parse(text)
    own = dict(line.fields)
    if ids is not None and isinstance(run := own.pop("run", None), str):
        own.update(ids(run))
    log.log(line.level, line.message, extra={**own, **fields})


class Formatter(logging.Formatter):
    """Formats a record as one JSON object."""

    def format(self, record: logging.LogRecord) -> str:
        entry: dict[str, Value] = {"level": record.levelname, "message": record.getMessage()}
        entry |= {
            key: value if isinstance(value, int | float) else described(value)
            for key, value in vars(record).items()
            if key not in RECORD_FIELDS
        }
        if run := _run.get():
            entry.setdefault("run", run)
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return json.dumps(entry, ensure_ascii=False, separators=(",", ":"))


def described(value: object) -> str:
    """Return the text of a value; an exception without text has the name of its type."""
    return str(value) or (type(value).__name__ if isinstance(value, BaseException) else "")
