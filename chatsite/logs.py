"""The log format of all processes: one JSON object or one prefixed text line per event.

Below `manage.py up` all children write JSON to their pipe, and the supervisor writes the one
stream that operators see, in the format of `CHATSITE_LOG_FORMAT`. A process that runs by itself,
for instance under systemd, writes that format to its standard error.

Messages are constants; values are fields (``extra``), so that the JSON log can be searched by
them. Engine children write their own format, see `sandbox.log_lines`.

Each line logged for a request has its ``request_id``, each line of an answer its ``generation``:
`bind` sets them for a task and for the threads and tasks that it starts. The request's ID travels
with the job to the inference host.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, Final, TextIO

from chatsite.sandbox.log_lines import RECORD_FIELDS, described

Entry = Mapping[str, Any]

# The current request (HTTP request, or command on a socket) and answer; added to each line that is
# logged during them.
request_id: ContextVar[str] = ContextVar("request_id", default="")
generation_id: ContextVar[str] = ContextVar("generation_id", default="")

_FIXED = ("time", "process", "level", "logger", "message", "exception")
# Reserved names, which can't be fields of ``extra``.
RESERVED: Final = RECORD_FIELDS | {*_FIXED, "request_id"}
_PROCESS_WIDTH = 10
_COLOURS = {"DEBUG": "2", "WARNING": "33", "ERROR": "31", "CRITICAL": "1;31"}
# Loggers with lines per request, per task or at each start, useful only for debugging.
CHATTY = (
    "asyncio",
    "celery.app.trace",
    "celery.beat",
    "celery.bootsteps",
    "celery.worker",
    "daphne",
    "django.channels.server",
    "httpcore",
    "httpx",
    "kombu",
)


@contextmanager
def bind(*, request: str | None = None, generation: str | None = None) -> Iterator[None]:
    """Add IDs to the lines that are logged in the block; None keeps the current one."""
    bound = [
        (variable, variable.set(value))
        for variable, value in ((request_id, request), (generation_id, generation))
        if value is not None
    ]
    try:
        yield
    finally:
        for variable, token in bound:
            variable.reset(token)


def configure(process: str, stream: TextIO | None = None) -> None:
    """Send all logging of this process, named ``process``, to ``stream`` (standard error).

    Replaces any earlier configuration, so it may be called after libraries have configured theirs.
    """
    level = os.environ.get("CHATSITE_LOG_LEVEL", "").upper() or "INFO"
    handler = logging.StreamHandler(stream or sys.stderr)
    handler.setFormatter(_formatter(process, handler.stream))
    handler.addFilter(_worth_a_line)
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.captureWarnings(True)
    sys.excepthook = _log_uncaught
    for name in CHATTY:
        logging.getLogger(name).setLevel(logging.DEBUG if level == "DEBUG" else logging.WARNING)


def configure_command() -> None:
    """Show warnings of a `manage.py` command with their fields, on standard error.

    A command that calls `configure` replaces this.
    """
    if logging.lastResort is not None:
        logging.lastResort.setFormatter(_formatter("manage", sys.stderr))


def _formatter(process: str, stream: TextIO) -> Formatter:
    as_json = os.environ.get("CHATSITE_LOG_FORMAT", "").lower() == "json"
    return Formatter(process, as_json, terminal=stream.isatty())


def _worth_a_line(record: logging.LogRecord) -> bool:
    """Drop lines for refusals of `/healthz` and its parts.

    It is polled often, above all during failures, and logs what is missing itself.
    """
    return not (
        record.name == "django.request"
        and _is_probe(getattr(getattr(record, "request", None), "path", None))
    )


def _is_probe(path: object) -> bool:
    return isinstance(path, str) and (path == "/healthz" or path.startswith("/healthz/"))


def _is_refusal(record: logging.LogRecord) -> bool:
    """Whether the record is a 4xx response.

    Django adds the traceback of the exception that caused it, which is no fault of the server.
    """
    return record.name == "django.request" and 400 <= getattr(record, "status_code", 0) < 500


def _log_uncaught(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    logging.getLogger(__name__).critical("Uncaught exception", exc_info=(kind, error, trace))


class Formatter(logging.Formatter):
    def __init__(self, process: str, as_json: bool, terminal: bool) -> None:
        super().__init__()
        self._process = process
        self._as_json = as_json
        self._terminal = terminal

    def format(self, record: logging.LogRecord) -> str:
        entry = self._entry(record)
        return to_json(entry) if self._as_json else to_text(entry, self._terminal)

    def _entry(self, record: logging.LogRecord) -> dict[str, Any]:
        entry: dict[str, Any] = {
            "time": timestamp(record.created),
            "process": self._process,
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
        }
        if id := request_id.get():
            entry["request_id"] = id
        entry |= {
            key: described(value) if isinstance(value, BaseException) else value
            for key, value in vars(record).items()
            if key not in RECORD_FIELDS and key not in entry
        }
        # A field of the line has priority: a process may log about another answer than its own.
        if id := generation_id.get():
            entry.setdefault("generation", id)
        if record.exc_info and not _is_refusal(record):
            entry["exception"] = self.formatException(record.exc_info)
        return entry


def timestamp(seconds: float) -> str:
    """Return ISO 8601 in UTC with milliseconds."""
    text = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def to_json(entry: Entry) -> str:
    return json.dumps(entry, default=str, ensure_ascii=False, separators=(",", ":"))


def to_text(entry: Entry, terminal: bool) -> str:
    """Return one line per line of the message and the traceback.

    All have the prefix, so that a line break in a client's input can't pass for a line of another
    process. Fields follow the message as ``key=value``. Times are local; on a ``terminal`` without
    the date and with color.
    """
    moment = datetime.fromisoformat(str(entry["time"])).astimezone()
    clock = moment.strftime("%H:%M:%S" if terminal else "%Y-%m-%d %H:%M:%S")
    level = str(entry["level"])
    prefix = f"{clock}.{moment.microsecond // 1000:03d} {entry['process']:<{_PROCESS_WIDTH}}"
    extra = "".join(f" {key}={_field(entry[key])}" for key in entry if key not in _FIXED)
    body = f"{entry['message']}{extra}"
    if "exception" in entry:
        body = f"{body}\n{entry['exception']}"
    start = f"{prefix} {level:<7} "
    lines = [start + _printable(line) for line in body.splitlines() or [""]]
    if terminal and (colour := _COLOURS.get(level)):
        lines = [f"\x1b[{colour}m{line}\x1b[0m" for line in lines]
    return "\n".join(lines)


def _field(value: object) -> str:
    """Return the text, quoted if it contains spaces, quotes or line breaks."""
    text = value if isinstance(value, str) else str(value)
    plain = text.isprintable() and text and not set(text) & set(' "=')
    return text if plain else json.dumps(text, ensure_ascii=False)


def _printable(line: str) -> str:
    """Escape control characters: a client's input must not control the operator's terminal."""
    return "".join(
        char if char.isprintable() or char == "\t" else repr(char)[1:-1] for char in line
    )
