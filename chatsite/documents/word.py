"""The text of a Word document (DOCX, DOCM): all that Word shows as text.

The XML is walked element by element, by local names, so both variants of Office Open XML are
read and no wrapper hides text: content controls, tracked insertions, text boxes, hyperlinks.
Deleted and hidden text is left out. Runs only in the reader child.
"""

from __future__ import annotations

import io
import posixpath
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from lxml import etree

_UNPACKED_MOST: Final = 200 << 20
# Columns that a merged cell may span; the attribute may be a hundred million.
_SPAN_MOST: Final = 63
_LEVEL_MOST: Final = 8
# Text that Word does not show: deleted or moved, field codes, the fallback of a drawing for
# programs that can't draw it.
_UNSEEN: Final = frozenset({"del", "moveFrom", "instrText", "delText", "Fallback", "pPr", "rPr"})
_BREAKS: Final = {"tab": "\t", "br": "\n", "cr": "\n", "noBreakHyphen": "-", "ptab": "\t"}
# The private-use area in which Word keeps characters of symbol fonts.
_SYMBOLS: Final = range(0xF000, 0xF100)


class NotWord(Exception):
    """The ZIP archive is not a Word document."""


class TooLarge(Exception):
    """The unpacked document exceeds the limit."""


@dataclass
class Word:
    """A document's paragraphs and table rows, in order.

    ``pictures`` and ``objects`` count elements without text; they are complete once ``lines`` is
    exhausted.
    """

    data: bytes
    pictures: int = 0
    objects: int = 0
    _notes: list[tuple[str, str]] = field(default_factory=list)

    def lines(self) -> Iterator[str]:
        """Yield lines of text.

        Raises `NotWord`, `TooLarge`, and exceptions of zipfile and lxml for a damaged archive.
        """
        with zipfile.ZipFile(io.BytesIO(self.data)) as archive:
            if sum(item.file_size for item in archive.infolist()) > _UNPACKED_MOST:
                raise TooLarge
            self._parts = set(archive.namelist())
            self._archive = archive
            main = self._main_part()
            self._base = main
            self._relations = self._targets(main)
            self._styles = _Styles(self._related("styles"))
            self._numbering = _Numbering(self._related("numbering"))
            root = self._xml(main)
            body = _child(root, "body")
            if body is None:
                raise NotWord
            yield from self._headers("header")
            yield from self._blocks(body)
            yield from self._headers("footer")
            yield from self._appended()

    # The package.

    def _main_part(self) -> str:
        for kind, target in self._targets(""):
            if kind == "officeDocument" and target in self._parts:
                if not target.startswith("word/"):
                    raise NotWord
                return target
        raise NotWord

    def _targets(self, part: str) -> list[tuple[str, str]]:
        """Return kind and path of the parts that ``part`` refers to."""
        folder, name = posixpath.split(part)
        path = posixpath.join(folder, "_rels", f"{name}.rels")
        if path not in self._parts:
            return []
        found = []
        for relation in self._xml(path):
            target = relation.get("Target", "")
            joined = target.lstrip("/") if target.startswith("/") else f"{folder}/{target}"
            kind = relation.get("Type", "").rpartition("/")[2]
            found.append((kind, posixpath.normpath(joined).lstrip("/")))
        return found

    def _related(self, kind: str) -> Any:
        for each, target in self._relations:
            if each == kind and target in self._parts:
                return self._xml(target)
        return None

    def _xml(self, part: str) -> Any:
        parser = etree.XMLParser(
            remove_comments=True,
            remove_pis=True,
            resolve_entities=False,
            no_network=True,
            huge_tree=False,
        )
        return etree.fromstring(self._archive.read(part), parser)

    # Blocks: paragraphs and tables.

    def _blocks(self, parent: Any) -> Iterator[str]:
        for element in parent:
            name = _name(element)
            if name in _UNSEEN:
                continue
            if name == "p":
                yield from self._paragraph(element)
            elif name == "tbl":
                yield from self._table(element)
            elif name == "altChunk":
                self.objects += 1
            else:
                yield from self._blocks(element)

    def _paragraph(self, paragraph: Any) -> Iterator[str]:
        boxes: list[Any] = []
        text = "".join(self._runs(paragraph, boxes))
        properties = _child(paragraph, "pPr")
        level = self._styles.heading(properties)
        if text.strip() and level:
            yield "#" * level + " " + text.strip()
        else:
            mark = self._numbering.mark(properties, self._styles) if text.strip() else ""
            yield mark + text
        for box in boxes:
            yield from self._blocks(box)

    def _table(self, table: Any) -> Iterator[str]:
        number = 0
        for row in _descend(table, "tr", through=("sdt", "sdtContent", "customXml", "ins")):
            if _child(_child(row, "trPr"), "del") is not None:
                continue
            cells = list(self._cells(row))
            yield f"| {' | '.join(cells)} |"
            if number == 0:
                yield f"|{' --- |' * len(cells)}"
            number += 1
        yield ""

    def _cells(self, row: Any) -> Iterator[str]:
        """Yield a row's cells; cells covered by a merged one are empty."""
        for cell in _descend(row, "tc", through=("sdt", "sdtContent", "customXml", "ins")):
            properties = _child(cell, "tcPr")
            merge = _child(properties, "vMerge")
            covered = merge is not None and _value(merge) != "restart"
            text = "" if covered else " ".join(" ".join(self._blocks(cell)).split())
            yield text.replace("|", "\\|")
            span = _value(_child(properties, "gridSpan"))
            extra = int(span) - 1 if span.isdecimal() and len(span) < 10 else 0
            yield from [""] * min(extra, _SPAN_MOST)

    # Runs: text within a paragraph.

    def _runs(self, parent: Any, boxes: list[Any]) -> Iterator[str]:
        for element in parent:
            name = _name(element)
            if name in _UNSEEN or (name == "r" and _is_hidden(element)):
                continue
            if name == "t":
                yield element.text or ""
            elif name in _BREAKS:
                yield _BREAKS[name]
            elif name == "sym":
                yield _symbol(element)
            elif name == "txbxContent":
                boxes.append(element)
            elif name in {"footnoteReference", "endnoteReference", "commentReference"}:
                yield self._reference(name.removesuffix("Reference"), element)
            elif name == "f":
                yield from self._fraction(element, boxes)
            elif name in {"sup", "sub"}:
                yield "^" if name == "sup" else "_"
                yield from self._runs(element, boxes)
            elif name == "rt":
                yield f"({''.join(self._runs(element, boxes))})"
            elif name == "checkBox":
                yield _checkbox(element)
            else:
                self._count(name)
                yield from self._runs(element, boxes)

    def _fraction(self, element: Any, boxes: list[Any]) -> Iterator[str]:
        parts = ["".join(self._runs(part, boxes)) for part in element if _name(part) != "fPr"]
        yield "/".join(f"({part})" if len(part) > 1 else part for part in parts)

    def _count(self, name: str) -> None:
        if name in {"pic", "imagedata"}:
            self.pictures += 1
        elif name in {"chart", "OLEObject", "relIds"}:
            self.objects += 1

    def _reference(self, kind: str, element: Any) -> str:
        number = _attribute(element, "id")
        self._notes.append((kind, number))
        return f"[{_NOTE_MARKS[kind]}{len(self._notes)}]"

    # Around the body.

    def _headers(self, kind: str) -> Iterator[str]:
        """Yield the text of page headers or footers, without duplicates."""
        seen: set[str] = set()
        for each, target in self._relations:
            if each != kind or target not in self._parts:
                continue
            text = "\n".join(self._blocks(self._xml(target))).strip()
            if text and text not in seen:
                seen.add(text)
                yield text
                yield ""

    def _appended(self) -> Iterator[str]:
        """Yield footnotes, endnotes and comments, labeled with their numbers in the text."""
        parts = {kind: self._related(f"{kind}s") for kind in _NOTE_MARKS}
        # A note may refer to others, which are then appended during this loop.
        for number, (kind, id) in enumerate(self._notes, 1):
            for note in parts[kind] if parts[kind] is not None else ():
                if _attribute(note, "id") == id:
                    author = _attribute(note, "author")
                    text = " ".join(" ".join(self._blocks(note)).split())
                    label = f"[{_NOTE_MARKS[kind]}{number}]"
                    yield f"{label} {f'{author}: ' if author else ''}{text}"


_NOTE_MARKS: Final = {"footnote": "", "endnote": "", "comment": "comment "}


class _Styles:
    """Paragraph styles: which are headings, and which have a list mark."""

    def __init__(self, root: Any) -> None:
        self._by_id = {
            _attribute(style, "styleId"): style
            for style in (root if root is not None else ())
            if _name(style) == "style"
        }

    def chain(self, properties: Any) -> Iterator[Any]:
        """Yield the paragraph's own properties, then those of its style and of its base styles."""
        if properties is not None:
            yield properties
        id = _value(_child(properties, "pStyle"))
        seen: set[str] = set()
        while id in self._by_id and id not in seen:
            seen.add(id)
            style = self._by_id[id]
            if (inherited := _child(style, "pPr")) is not None:
                yield inherited
            id = _value(_child(style, "basedOn"))

    def heading(self, properties: Any) -> int:
        """Return the level of a heading, from 1; 0 for other paragraphs."""
        style = self._by_id.get(_value(_child(properties, "pStyle")))
        if _value(_child(style, "name")).lower() == "title":
            return 1
        for each in self.chain(properties):
            level = _value(_child(each, "outlineLvl"))
            if level.isdecimal():
                return int(level) + 1 if int(level) <= _LEVEL_MOST else 0
        return 0


class _Numbering:
    """Marks of list items, counted as Word counts them."""

    def __init__(self, root: Any) -> None:
        abstract: dict[str, Any] = {}
        self._levels: dict[str, dict[int, tuple[str, str, int]]] = {}
        self._counts: dict[str, list[int]] = {}
        for element in root if root is not None else ():
            if _name(element) == "abstractNum":
                abstract[_attribute(element, "abstractNumId")] = element
            elif _name(element) == "num":
                source = abstract.get(_value(_child(element, "abstractNumId")))
                levels = source if source is not None else ()
                self._levels[_attribute(element, "numId")] = {
                    int(_attribute(level, "ilvl") or 0): _level(level)
                    for level in levels
                    if _name(level) == "lvl"
                }

    def mark(self, properties: Any, styles: _Styles) -> str:
        """Return the mark of a list item with its indentation; "" for other paragraphs."""
        for each in styles.chain(properties):
            numbered = _child(each, "numPr")
            if numbered is not None:
                id = _value(_child(numbered, "numId"))
                depth = _value(_child(numbered, "ilvl"))
                return self._next(id, min(int(depth) if depth.isdecimal() else 0, _LEVEL_MOST))
        return ""

    def _next(self, id: str, depth: int) -> str:
        levels = self._levels.get(id, {})
        if depth not in levels:
            return ""
        kind, pattern, _start = levels[depth]
        if kind == "none":
            return ""
        counts = self._counts.setdefault(id, [])
        del counts[depth + 1 :]
        while len(counts) <= depth:
            counts.append(levels.get(len(counts), ("", "", 1))[2] - (len(counts) == depth))
        counts[depth] += 1
        if kind == "bullet":
            return "  " * depth + "- "
        for level, count in enumerate(counts):
            kind = levels.get(level, ("decimal", "", 1))[0]
            pattern = pattern.replace(f"%{level + 1}", _numeral(count, kind))
        return "  " * depth + pattern + " "


def _level(level: Any) -> tuple[str, str, int]:
    """Return format, pattern and first number of a list level."""
    start = _value(_child(level, "start"))
    return (
        _value(_child(level, "numFmt")) or "decimal",
        _value(_child(level, "lvlText")),
        int(start) if start.isdecimal() and len(start) < 10 else 1,
    )


def _numeral(number: int, kind: str) -> str:
    if kind in {"lowerLetter", "upperLetter"} and number > 0:
        letter = chr(ord("a") + (number - 1) % 26) * min((number - 1) // 26 + 1, 5)
        return letter if kind == "lowerLetter" else letter.upper()
    if kind in {"lowerRoman", "upperRoman"} and 0 < number < 4000:
        return _roman(number).upper() if kind == "upperRoman" else _roman(number)
    return str(number)


def _roman(number: int) -> str:
    numerals = ""
    for value, letters in zip(
        (1000, 900, 500, 400, 100, 90, 50, 40, 10, 9, 5, 4, 1),
        ("m", "cm", "d", "cd", "c", "xc", "l", "xl", "x", "ix", "v", "iv", "i"),
        strict=True,
    ):
        numerals += letters * (number // value)
        number %= value
    return numerals


def _descend(parent: Any, wanted: str, *, through: tuple[str, ...]) -> Iterator[Any]:
    """Yield children named ``wanted``, also inside wrappers named ``through``."""
    for element in parent:
        if _name(element) == wanted:
            yield element
        elif _name(element) in through:
            yield from _descend(element, wanted, through=through)


def _is_hidden(run: Any) -> bool:
    vanish = _child(_child(run, "rPr"), "vanish")
    return vanish is not None and _value(vanish) not in {"0", "false", "off"}


def _symbol(element: Any) -> str:
    try:
        code = int(_attribute(element, "char"), 16)
    except ValueError:
        return ""
    # A glyph of a symbol font has no character.
    return "•" if code in _SYMBOLS else chr(code) if code < 0xD800 else ""


def _checkbox(element: Any) -> str:
    """Return the checkbox of a legacy form field as it is shown."""
    state = _child(element, "checked")
    state = _child(element, "default") if state is None else state
    checked = state is not None and _value(state) not in {"0", "false", "off"}
    return "☒ " if checked else "☐ "


def _name(element: Any) -> str:
    tag = element.tag
    return tag.rpartition("}")[2] if isinstance(tag, str) else ""


def _child(parent: Any, name: str) -> Any:
    """Return the first child with a local name, or None, also for no parent."""
    for element in parent if parent is not None else ():
        if _name(element) == name:
            return element
    return None


def _attribute(element: Any, name: str) -> str:
    """Return an attribute by its local name in any namespace; "" if it is missing."""
    for key, value in element.items() if element is not None else ():
        if key.rpartition("}")[2] == name:
            return str(value)
    return ""


def _value(element: Any) -> str:
    return _attribute(element, "val")
