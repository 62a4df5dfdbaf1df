"""The text of OpenDocument files: ODT in one piece, ODP by slides, ODS by sheets."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

from chatsite.documents.package import Package, attribute, name_of, table

# A repeated empty cell or row stands for thousands.
_REPEATED_MOST: Final = 64
_UNSEEN: Final = frozenset({"tracked-changes", "annotation", "note-citation", "forms"})


class OpenDocument:
    """``pictures`` is complete once ``pages`` is exhausted."""

    def __init__(self, package: Package) -> None:
        self._root = package.xml("content.xml")
        self.pictures = 0

    def pages(self) -> Iterator[str]:
        """Yield sheets or slides; a text is one page."""
        body = next(one for one in self._root.iter() if name_of(one) == "body")
        content = next(iter(body))
        kind = name_of(content)
        if kind == "spreadsheet":
            for sheet in content:
                if name_of(sheet) == "table":
                    yield f"# {attribute(sheet, 'name')}\n\n{self._table(sheet)}"
        elif kind == "presentation":
            for page in content:
                if name_of(page) == "page":
                    yield "\n\n".join(filter(None, self._blocks(page)))
        else:
            yield "\n\n".join(filter(None, self._blocks(content)))

    def _blocks(self, parent: Any) -> Iterator[str]:
        for element in parent:
            name = name_of(element)
            if name in _UNSEEN:
                continue
            if name == "h":
                level = attribute(element, "outline-level")
                depth = min(int(level), 6) if level.isdigit() else 1
                yield "#" * max(1, depth) + " " + self._text(element).strip()
            elif name == "p":
                yield self._text(element).strip()
            elif name == "table":
                yield self._table(element)
            else:
                self.pictures += name == "image"
                yield from self._blocks(element)

    def _table(self, element: Any) -> str:
        rows: list[list[str]] = []
        for row in element.iter():
            if name_of(row) != "table-row":
                continue
            cells: list[str] = []
            for cell in row:
                if name_of(cell) in {"table-cell", "covered-table-cell"}:
                    text = " ".join(filter(None, self._blocks(cell)))
                    cells += [text] * _times(cell, "number-columns-repeated")
            while cells and not cells[-1]:
                cells.pop()
            if cells:
                rows += [cells] * _times(row, "number-rows-repeated")
        return table(rows)

    def _text(self, element: Any) -> str:
        parts = [element.text or ""]
        for child in element:
            name = name_of(child)
            if name == "s":
                count = attribute(child, "c")
                parts.append(" " * (min(int(count), 1000) if count.isdigit() else 1))
            elif name in {"tab", "line-break"}:
                parts.append("\t" if name == "tab" else "\n")
            elif name not in _UNSEEN:
                self.pictures += name == "image"
                parts.append(self._text(child))
            parts.append(child.tail or "")
        return "".join(parts)


def _times(element: Any, name: str) -> int:
    count = attribute(element, name)
    return min(int(count), _REPEATED_MOST) if count.isdigit() else 1
