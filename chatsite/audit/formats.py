"""Events as JSON lines, CSV and syslog messages (RFC 5424)."""

from __future__ import annotations

import csv
import io
import re
import socket
from collections.abc import Iterable, Iterator
from functools import cache
from typing import Final

import msgspec

from chatsite.audit.chain import canonical, iso
from chatsite.audit.models import Event

FORMATS: Final = ("jsonl", "csv", "syslog")
CONTENT_TYPES: Final = {
    "jsonl": "application/x-ndjson",
    "csv": "text/csv; charset=utf-8",
    "syslog": "text/plain; charset=utf-8",
}
NAMES: Final = tuple(field.attname for field in Event._meta.concrete_fields)

# Facility "log audit", and the severities of RFC 5424.
_FACILITY: Final = 13
_SEVERITIES: Final = {"ok": 6, "denied": 4, "failed": 4}
# The enterprise number that RFC 5612 reserves for documentation; we have none of our own.
_SD_ID: Final = "chatsite@32473"
_SD_FIELDS: Final = (
    *("sequence", "kind", "outcome", "actor_id", "actor_name", "via", "address"),
    *("target_type", "target_id", "target_name", "hash"),
)
_SD_SPECIAL: Final = re.compile(r'(["\\\]])')
_BOM: Final = "\ufeff"
# A spreadsheet computes cells that begin like this.
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r")


def values(event: Event) -> list[object]:
    return [getattr(event, name) for name in NAMES]


def as_json(event: Event) -> str:
    """Return one line: the canonical JSON of the event with its ``hash`` as the last member.

    Without that member it is what the hash is computed of.
    """
    body = canonical(values(event)).decode()
    return f'{body[:-1]},"hash":"{event.hash}"}}'


def as_syslog(event: Event) -> str:
    """Return an RFC 5424 message without framing."""
    priority = _FACILITY * 8 + _SEVERITIES.get(event.outcome, 5)
    fields = " ".join(
        f'{name}="{_SD_SPECIAL.sub(_escape, str(getattr(event, name)))}"' for name in _SD_FIELDS
    )
    header = f"<{priority}>1 {iso(event.time)} {_hostname()} chatsite - {event.kind[:32]}"
    return f"{header} [{_SD_ID} {fields}] {_BOM}{as_json(event)}"


def _escape(found: re.Match[str]) -> str:
    return f"\\{found[1]}"


@cache
def _hostname() -> str:
    name = "".join(char for char in socket.gethostname() if "!" <= char <= "~")
    return name[:255] or "-"


def lines(events: Iterable[Event], form: str) -> Iterator[str]:
    """Yield an export, one line at a time, with line breaks."""
    if form == "csv":
        yield _row(NAMES)
        for event in events:
            yield _row([iso(event.time) if n == "time" else getattr(event, n) for n in NAMES])
        return
    write = as_json if form == "jsonl" else as_syslog
    for event in events:
        yield f"{write(event)}\n"


def _row(cells: Iterable[object]) -> str:
    buffer = io.StringIO()
    csv.writer(buffer).writerow([_cell(str(cell)) for cell in cells])
    return buffer.getvalue()


def _cell(text: str) -> str:
    return f"'{text}" if text.startswith(_FORMULA) else text


def details(event: Event) -> dict[str, object]:
    found: dict[str, object] = msgspec.json.decode(event.details, type=dict[str, object])
    return found
