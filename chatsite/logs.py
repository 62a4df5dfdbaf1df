"""How every process of ours logs: one JSON object or one prefixed text line per event.

Below `manage.py up` all children write JSON to their pipe, and the supervisor writes the one
stream that people see, in the format of `CHATSITE_LOG_FORMAT`. A process that runs by itself,
under systemd for instance, writes that format to its standard error.

Only the standard library: the engine child logs through this too.
"""

from __future__ import annotations

import json
import logging
import os
import sys
from collections.abc import Mapping
from datetime import UTC, datetime
from types import TracebackType
from typing import Any, TextIO

Entry = Mapping[str, Any]

_KNOWN = {*vars(logging.makeLogRecord({})), "message", "asctime", "taskName"}
_FIXED = ("time", "process", "level", "logger", "message", "exception")
_PROCESS_WIDTH = 10
_COLOURS = {"DEBUG": "2", "WARNING": "33", "ERROR": "31", "CRITICAL": "1;31"}
# Lines per request, per task or at each start: of use only to who looks for a fault.
_CHATTY = (
    "asyncio",
    "celery.app.trace",
    "celery.beat",
    "celery.bootsteps",
    "celery.worker",
    "daphne",
    "django.channels.server",
    "kombu",
)


def configure(process: str, stream: TextIO | None = None) -> None:
    """Sends all logging of this process to ``stream`` (standard error), named ``process``.

    Replaces what others configured, so that it may be called after them.
    """
    level = os.environ.get("CHATSITE_LOG_LEVEL", "").upper() or "INFO"
    handler = logging.StreamHandler(stream or sys.stderr)
    as_json = os.environ.get("CHATSITE_LOG_FORMAT", "").lower() == "json"
    handler.setFormatter(_Formatter(process, as_json, terminal=handler.stream.isatty()))
    handler.addFilter(_worth_a_line)
    logging.basicConfig(level=level, handlers=[handler], force=True)
    logging.captureWarnings(True)
    sys.excepthook = _log_uncaught
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.DEBUG if level == "DEBUG" else logging.WARNING)


def _worth_a_line(record: logging.LogRecord) -> bool:
    """Not each refusal of `/healthz`, which is asked often, above all while things are down;
    it logs what is missing itself."""
    return not (
        record.name == "django.request"
        and getattr(getattr(record, "request", None), "path", None) == "/healthz"
    )


def _log_uncaught(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    if issubclass(kind, KeyboardInterrupt):
        sys.__excepthook__(kind, error, trace)
        return
    logging.getLogger(__name__).critical("uncaught", exc_info=(kind, error, trace))


class _Formatter(logging.Formatter):
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
        entry |= {key: value for key, value in vars(record).items() if key not in _KNOWN}
        if record.exc_info:
            entry["exception"] = self.formatException(record.exc_info)
        return entry


def timestamp(seconds: float) -> str:
    """ISO 8601 in UTC with milliseconds."""
    text = datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def to_json(entry: Entry) -> str:
    return json.dumps(entry, default=str, ensure_ascii=False, separators=(",", ":"))


def to_text(entry: Entry, terminal: bool) -> str:
    """One line per line of the message and the traceback, all with the prefix, so that a line
    break in what somebody sent can't pass for a line of another process.

    Local time; on a ``terminal`` without the date and with colour.
    """
    moment = datetime.fromisoformat(str(entry["time"])).astimezone()
    clock = moment.strftime("%H:%M:%S" if terminal else "%Y-%m-%d %H:%M:%S")
    level = str(entry["level"])
    prefix = f"{clock}.{moment.microsecond // 1000:03d} {entry['process']:<{_PROCESS_WIDTH}}"
    extra = "".join(f" {key}={entry[key]}" for key in entry if key not in _FIXED)
    body = f"{entry['message']}{extra}"
    if "exception" in entry:
        body = f"{body}\n{entry['exception']}"
    start = f"{prefix} {level:<7} "
    lines = [start + _printable(line) for line in body.splitlines() or [""]]
    if terminal and (colour := _COLOURS.get(level)):
        lines = [f"\x1b[{colour}m{line}\x1b[0m" for line in lines]
    return "\n".join(lines)


def _printable(line: str) -> str:
    """Escape sequences in what somebody sent must not reach the operator's terminal."""
    return "".join(
        char if char.isprintable() or char == "\t" else repr(char)[1:-1] for char in line
    )
