"""The cells of a workbook (XLSX): a page for each sheet, as a table."""

from __future__ import annotations

import re
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any, Final

from chatsite.documents.package import Package, attribute, name_of, table

# A sheet's used range may be all of its 16,384 columns: those beyond the last value are left out.
_COLUMNS_MOST: Final = 512
_CELL: Final = re.compile(r"([A-Z]{1,3})([0-9]{1,7})")
_RANGE: Final = re.compile(r"([A-Z]{1,3}[0-9]{1,7}):([A-Z]{1,3}[0-9]{1,7})")
_MERGED_MOST: Final = 10_000
# Numbers of the built-in formats of dates and times.
_DATES: Final = frozenset({*range(14, 23), *range(27, 37), *range(45, 48), *range(50, 59)})
_QUOTED: Final = re.compile(r'"[^"]*"|\[[^\]]*\]|\\.')
_EPOCHS: Final = {False: datetime(1899, 12, 30), True: datetime(1904, 1, 1)}  # noqa: DTZ001


class Sheets:
    """``hidden`` sheets are read too; their count is complete once ``pages`` is exhausted."""

    def __init__(self, package: Package) -> None:
        self._package = package
        self.hidden = 0

    def pages(self) -> Iterator[str]:
        """Yield each sheet as a heading and a table."""
        main = "xl/workbook.xml"
        workbook = self._package.xml(main)
        related = self._package.related(main)
        self._strings = _strings(self._package.xml("xl/sharedStrings.xml"))
        self._dates = _date_styles(self._package.xml("xl/styles.xml"))
        properties = [one for one in workbook.iter() if name_of(one) == "workbookPr"]
        self._epoch = _EPOCHS[bool(properties) and properties[0].get("date1904") in {"1", "true"}]
        for element in workbook.iter():
            if name_of(element) != "sheet":
                continue
            self.hidden += element.get("state", "visible") != "visible"
            id = next((v for k, v in element.attrib.items() if k.endswith("}id")), "")
            root = self._package.xml(related.get(id, ("", ""))[1])
            if root is not None:
                yield f"# {element.get('name', '')}\n\n{table(self._rows(root))}"

    def _rows(self, root: Any) -> list[list[str]]:
        found: dict[int, dict[int, str]] = {}
        merged: list[str] = []
        for element in root.iter():
            name = name_of(element)
            if name == "c":
                place = _place(element.get("r", ""))
                if place is None:
                    continue
                text = self._value(element)
                if text and place[1] < _COLUMNS_MOST:
                    found.setdefault(place[0], {})[place[1]] = text
            elif name == "mergeCell" and len(merged) < _MERGED_MOST:
                merged.append(element.get("ref", ""))
        for ref in merged:
            _spread(found, ref)
        return [
            [found[row].get(column, "") for column in range(max(found[row]) + 1)]
            for row in sorted(found)
        ]

    def _value(self, cell: Any) -> str:
        kind = cell.get("t", "n")
        if kind == "inlineStr":
            return _text(cell)
        value = next((one.text or "" for one in cell if name_of(one) == "v"), "")
        if kind == "s":
            at = int(value) if value.isdigit() else -1
            return self._strings[at] if 0 <= at < len(self._strings) else ""
        if kind == "b":
            return {"1": "TRUE", "0": "FALSE"}.get(value, value)
        if kind == "n" and value and int(cell.get("s", "0") or 0) in self._dates:
            return self._moment(value)
        return value

    def _moment(self, value: str) -> str:
        try:
            moment = self._epoch + timedelta(days=float(value))
        except (ValueError, OverflowError):
            return value
        moment = (moment + timedelta(milliseconds=500)).replace(microsecond=0)
        if float(value) < 1:
            return moment.strftime("%H:%M:%S")
        whole = moment.hour == moment.minute == moment.second == 0
        return moment.strftime("%Y-%m-%d" if whole else "%Y-%m-%d %H:%M:%S")


def _strings(root: Any) -> list[str]:
    if root is None:
        return []
    return [_text(one) for one in root if name_of(one) == "si"]


def _text(element: Any) -> str:
    """Return the text of a string without its phonetic guides."""
    parts = [
        one.text or ""
        for one in element.iter()
        if name_of(one) == "t" and name_of(one.getparent()) != "rPh"
    ]
    return "".join(parts)


def _date_styles(root: Any) -> set[int]:
    """Return the styles of cells that show a date or a time."""
    if root is None:
        return set()
    own = {
        int(one.get("numFmtId", "0")): one.get("formatCode", "")
        for one in root.iter()
        if name_of(one) == "numFmt"
    }
    formats = next((one for one in root if name_of(one) == "cellXfs"), ())
    found = set()
    for at, one in enumerate(formats):
        number = int(attribute(one, "numFmtId") or 0)
        code = _QUOTED.sub("", own.get(number, "")).lower()
        if number in _DATES or re.search(r"[ymdhs]", code):
            found.add(at)
    return found


def _place(text: str) -> tuple[int, int] | None:
    """Return row and column of a cell's name, from 0."""
    found = _CELL.fullmatch(text)
    if found is None:
        return None
    column = 0
    for letter in found[1]:
        column = column * 26 + ord(letter) - 64
    return int(found[2]) - 1, column - 1


def _spread(found: dict[int, dict[int, str]], ref: str) -> None:
    """Put the value of merged cells into each of their columns in the first row and each row."""
    corners = _RANGE.fullmatch(ref)
    first = _place(corners[1]) if corners else None
    last = _place(corners[2]) if corners else None
    if first is None or last is None:
        return
    value = found.get(first[0], {}).get(first[1])
    size = (last[0] - first[0] + 1) * (last[1] - first[1] + 1)
    if not value or not 0 < size <= _COLUMNS_MOST:
        return
    for row in range(first[0], last[0] + 1):
        if row in found:
            for column in range(first[1], last[1] + 1):
                found[row].setdefault(column, value)
