"""The columns of usage tables, for pages, CSV files and the command."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from chatsite.usage.figures import Figures
from chatsite.usage.report import Line

Kind = Literal["count", "share", "milliseconds", "speed"]
Value = int | float | None


@dataclass(frozen=True)
class Column:
    """A column: ``name`` in addresses and files, ``value`` of a line whose figures are shown.

    Shares are 0 to 1, times are milliseconds, speeds tokens per second. ``costly`` values need
    histograms, which tables of groups and users have for shown lines only. ``minor`` columns are
    left out on phones.
    """

    name: str
    label: str | Promise
    kind: Kind
    value: Callable[[Figures], Value]
    costly: bool = False
    minor: bool = False


COLUMNS: Final = (
    Column("requests", _("Requests"), "count", lambda found: found.requests),
    Column("prompt_tokens", _("Prompt tokens"), "count", lambda found: found.prompt_tokens),
    Column("cached", _("Cached"), "share", lambda found: found.cached_share, minor=True),
    Column("completion_tokens", _("Output tokens"), "count", lambda found: found.completion_tokens),
    Column("errors", _("Errors"), "share", lambda found: found.error_share),
    Column(
        "waiting_p95",
        _("Waiting p95"),
        "milliseconds",
        lambda found: found.percentile("waiting", 0.95),
        costly=True,
        minor=True,
    ),
    Column(
        "ttft_p50",
        _("TTFT p50"),
        "milliseconds",
        lambda found: found.percentile("ttft", 0.5),
        costly=True,
    ),
    Column(
        "ttft_p95",
        _("TTFT p95"),
        "milliseconds",
        lambda found: found.percentile("ttft", 0.95),
        costly=True,
        minor=True,
    ),
    Column(
        "speed_p50",
        _("Speed p50"),
        "speed",
        lambda found: found.percentile("speed", 0.5),
        costly=True,
        minor=True,
    ),
)
BY_NAME: Final = {column.name: column for column in COLUMNS}
# Only in files: what the page sums up in other columns.
_FILE_ONLY: Final = ("done", "failed", "cancelled", "interrupted", "cached_tokens", "cache_hits")

# A spreadsheet takes a cell that begins so as a formula.
_FORMULA: Final = ("=", "+", "-", "@", "\t", "\r", "\n")


def sort(lines: list[Line], name: str, *, descending: bool) -> list[Line]:
    """Return the lines by a column, by ``users`` or by ``name``; hidden lines are last."""

    def key(line: Line) -> Any:
        if name == "name":
            return line.name.casefold()
        if line.figures is None:
            return 0
        value = line.users if name == "users" else BY_NAME[name].value(line.figures)
        return -1 if value is None else value

    shown = [line for line in lines if line.figures is not None]
    hidden = [line for line in lines if line.figures is None]
    return sorted(shown, key=key, reverse=descending) + hidden


def as_dict(line: Line) -> dict[str, Any]:
    """Return a line as JSON; a hidden one has its name only."""
    if line.figures is None:
        return {"name": line.name, "hidden": True}
    return {
        "name": line.name,
        "users": line.users,
        **{name: getattr(line.figures, name) for name in _FILE_ONLY},
        **{column.name: _rounded(column.value(line.figures)) for column in COLUMNS},
    }


def as_csv(first: str, lines: Iterable[Line], least: int) -> str:
    """Return a table as CSV with column names for programs.

    Names that a spreadsheet would take for formulas begin with an apostrophe. Hidden figures are
    empty, and the column ``note`` says so.
    """
    names = ["users", *(column.name for column in COLUMNS), *_FILE_ONLY]
    out = io.StringIO()
    writer = csv.writer(out)
    writer.writerow([first, *names, "note"])
    for line in lines:
        found = as_dict(line)
        values = ["" if found.get(name) is None else found[name] for name in names]
        note = "" if line.figures else f"fewer than {least} users"
        writer.writerow([safe(line.name), *values, note])
    return out.getvalue()


def safe(text: str) -> str:
    """Return text that a spreadsheet does not take for a formula."""
    return f"'{text}" if text.startswith(_FORMULA) else text


def as_text(first: str, lines: Sequence[Line], least: int) -> str:
    """Return a table for a terminal."""
    rows = [[first, "users", *(column.name for column in COLUMNS)]]
    for line in lines:
        found = as_dict(line)
        if line.figures is None:
            rows.append([line.name, f"fewer than {least}", *("" for _column in COLUMNS)])
        else:
            rows.append([line.name, *(_plain(found[name]) for name in rows[0][1:])])
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if at == 0 else cell.rjust(width)
            for at, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    )


def _rounded(value: Value) -> Value:
    return round(value, 4) if isinstance(value, float) else value


def _plain(value: Value) -> str:
    return "-" if value is None else f"{value:g}" if isinstance(value, float) else str(value)
