"""The text of PDF files, page by page, in reading order. Runs only in the reader child.

PDFium reads the pages: it is several times as fast as pypdf, and repairs what browsers repair.
pypdf (`pdf_python`) reads form fields, and pages or files that PDFium can't open.
"""

from __future__ import annotations

import ctypes
import re
import unicodedata
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, suppress
from dataclasses import dataclass, field
from math import pi
from statistics import median
from typing import Any, Final, NamedTuple

import pypdfium2 as pdfium
from pypdfium2 import raw

from chatsite.documents import columns, pdf_python
from chatsite.documents.columns import Box

# PDFium marks a hyphen at the end of a line by this noncharacter, and joins the lines.
_HYPHEN: Final = "\ufffe"
_HYPHENATED: Final = re.compile(rf"(\w)?{_HYPHEN}(\w)?")
# Lines of code that would be taken for headings; an indented one is not.
_HASHES: Final = re.compile(r"(?m)^(#{1,6}[ \t])")
# A gap between lines of this many usual ones divides paragraphs.
_PARAGRAPH: Final = 1.35
# The text of a page below this length may be a stamp on a scan.
_STAMP_CHARS: Final = 40
_SCAN_SHARE: Final = 0.5
# A page whose text has this share of characters without a meaning has fonts without Unicode.
_GARBLED_SHARE: Final = 0.3
_BOXES_MOST: Final = 2000
_PAGES_MOST: Final = 50_000
_OUTLINE_MOST: Final = 20_000
_LEVEL_MOST: Final = 6
# Pixels per point of a page whose text is recognized: 200 dpi; large pages get fewer.
_SCALE: Final = 200 / 72
_PIXELS_MOST: Final = 12_000_000


class Locked(Exception):
    """The file can be opened only with a password."""


class TooManyPages(Exception):
    """The file claims more pages than a document has."""


class _Heading(NamedTuple):
    level: int
    key: str


@dataclass
class Pdf:
    """Pages of a PDF, and lists of the numbers of those that could not be read.

    ``recognize`` returns the text of a page's picture, or None once it has used up its time.
    ``skipped`` are pages that it has left out. The lists are complete once ``pages`` is exhausted.
    """

    data: bytes
    recognize: Callable[[Any], str | None] | None = None
    count: int = 0
    title: str = ""
    empty: list[int] = field(default_factory=list)
    failed: list[int] = field(default_factory=list)
    garbled: list[int] = field(default_factory=list)
    recognized: list[int] = field(default_factory=list)
    skipped: list[int] = field(default_factory=list)

    def pages(self) -> Iterator[str]:
        """Yield the text of each page; a mark in brackets for a page without readable text.

        Raises `Locked`, `TooManyPages`, or any exception of pypdf for a damaged file.
        """
        try:
            document = pdfium.PdfDocument(self.data)
        except pdfium.PdfiumError as error:
            if getattr(error, "err_code", None) == raw.FPDF_ERR_PASSWORD:
                raise Locked from None
            document = None
        self._other = pdf_python.Reader(self.data)
        if document is None:
            yield from self._pages_of_pypdf()
            return
        with closing(document):
            self.count = len(document)
            if self.count > _PAGES_MOST:
                raise TooManyPages
            if not self.count:
                yield from self._pages_of_pypdf()
                return
            self.title = document.get_metadata_dict().get("Title", "")
            headings = _outline(document)
            has_fields = document.get_formtype() != raw.FORMTYPE_NONE
            for number in range(1, self.count + 1):
                text = self._page(document, number, headings.get(number - 1, ()))
                fields = self._fields(number) if has_fields else ""
                yield self._shown(number, "\n".join(filter(None, (text, fields))))

    def _pages_of_pypdf(self) -> Iterator[str]:
        if self._other.is_locked():
            raise Locked
        self.count = self._other.count()
        self.title = self._other.title()
        for number in range(1, self.count + 1):
            text = self._text_of_pypdf(number)
            yield self._shown(number, "\n".join(filter(None, (text, self._fields(number)))))

    def _text_of_pypdf(self, number: int) -> str:
        try:
            return self._other.text(number)
        except Exception:  # noqa: BLE001  (whatever the parser makes of a broken page)
            self.failed.append(number)
            return ""

    def _fields(self, number: int) -> str:
        with suppress(Exception):  # a broken form: the text of the page is read all the same
            return "\n".join(self._other.fields(number))
        return ""

    def _shown(self, number: int, text: str) -> str:
        if text.strip():
            return text
        if number in self.failed[-1:]:
            return f"[Page {number} could not be read]"
        self.empty.append(number)
        return f"[Page {number} has no text]"

    def _page(self, document: Any, number: int, headings: Sequence[_Heading]) -> str:
        try:
            page = document[number - 1]
        except pdfium.PdfiumError:
            return self._text_of_pypdf(number)
        with closing(page):
            rotation = page.get_rotation()
            text = _upright_text(page, headings)
            garbled = _is_garbled(text)
            scanned = len(text.strip()) < _STAMP_CHARS and _has_scan(page)
            if garbled or scanned or not text.strip():
                page.set_rotation(rotation)
                text = self._recognized(page, number, text, garbled=garbled)
        return text

    def _recognized(self, page: Any, number: int, text: str, *, garbled: bool) -> str:
        """Return the text of a page's picture, or ``text`` if there is none."""
        if self.recognize is not None and _has_marks(page):
            found = self.recognize(_picture(page))
            if found is None:
                self.skipped.append(number)
            elif found.strip():
                self.recognized.append(number)
                return found
        if garbled:
            self.garbled.append(number)
        return text


def _upright_text(page: Any, headings: Sequence[_Heading]) -> str:
    """Return the text of a page, which is turned so that most text is upright.

    PDFium reverses the lines of a page that is shown turned by its ``/Rotate`` only.
    """
    page.set_rotation(0)
    with closing(page.get_textpage()) as text_page:
        turn = _turn(text_page)
        if not turn:
            return _text(text_page, turn, headings)
    page.set_rotation(90 * turn)
    with closing(page.get_textpage()) as text_page:
        return _text(text_page, turn, headings)


def _text(page: Any, turn: int | None, headings: Sequence[_Heading]) -> str:
    boxes = _boxes(page)
    order = columns.order([box.turned(turn) for box in boxes]) if turn is not None else None
    if order is not None:
        text = "\n".join(_lines(page, [boxes[at] for at in group]) for group in order)
    else:
        text = page.get_text_range()
        if turn is not None and len(text) == page.count_chars():
            text = _paragraphs(page, text, turn)
        text = text.replace("\r\n", "\n")
    text = _HYPHENATED.sub(_unhyphenated, text)
    text = _HASHES.sub(r" \1", text)
    return _with_headings(text, headings) if headings else text


def _boxes(page: Any) -> list[Box]:
    """Return the boxes of runs of text; none if there are too many to be a page of prose."""
    count = page.count_rects()
    if count > _BOXES_MOST:
        return []
    return [Box(*page.get_rect(at)) for at in range(count)]


def _turn(page: Any) -> int | None:
    """Return by how many quarters the page's first text is turned counterclockwise, if any."""
    for at in range(min(page.count_chars(), 50)):
        angle = raw.FPDFText_GetCharAngle(page, at)
        if angle >= 0 and chr(raw.FPDFText_GetUnicode(page, at) or 32).strip():
            quarters = angle / (pi / 2)
            return -round(quarters) % 4 if abs(quarters - round(quarters)) < 0.05 else None
    return None


def _lines(page: Any, boxes: Sequence[Box]) -> str:
    """Return the text within boxes that follow each other, a line for each row."""
    lines = [
        page.get_text_bounded(
            left=min(box.left for box in row),
            bottom=min(box.bottom for box in row),
            right=max(box.right for box in row),
            top=max(box.top for box in row),
        ).replace("\r\n", " ")
        for row in columns.rows(boxes)
    ]
    text = "\n".join(line.strip() for line in lines if line.strip())
    return re.sub(r"(\w)[-\u00ad\ufffe]\n(\w)", rf"\1{_HYPHEN}\2", text)


def _paragraphs(page: Any, text: str, turn: int) -> str:
    """Put an empty line where the gap between two lines is larger than usual on this page."""
    ends = [match.start() for match in re.finditer("\r\n", text)]
    gaps = []
    for end in ends:
        above, below = _baseline(page, end - 1, turn), _baseline(page, end + 2, turn)
        gaps.append(above - below if above is not None and below is not None else 0.0)
    usual = median([gap for gap in gaps if gap > 0] or [0.0])
    parts, start = [], 0
    for end, gap in zip(ends, gaps, strict=True):
        parts += [text[start:end], "\n\n" if gap > _PARAGRAPH * usual > 0 else "\n"]
        start = end + 2
    return "".join([*parts, text[start:]])


def _baseline(page: Any, at: int, turn: int) -> float | None:
    """Return the height of a character's baseline above that of the page, as it is read."""
    x, y = ctypes.c_double(), ctypes.c_double()
    if at < 0 or not raw.FPDFText_GetCharOrigin(page, at, x, y):
        return None
    return (y.value, -x.value, -y.value, x.value)[turn]


def _unhyphenated(match: re.Match[str]) -> str:
    """Join a divided word. A hyphen before a capital or a digit is one of the word."""
    before, after = match[1] or "", match[2] or ""
    divided = before.isalpha() and after.islower()
    return f"{before}{'' if divided else '-'}{after}"


def _outline(document: Any) -> dict[int, list[_Heading]]:
    """Return the entries of the outline by page, from 0."""
    found: dict[int, list[_Heading]] = {}
    with suppress(pdfium.PdfiumError, ValueError):
        for count, entry in enumerate(document.get_toc(max_depth=_LEVEL_MOST)):
            target = entry.get_dest()
            place = target.get_index() if target is not None else None
            key = _key(entry.get_title())
            if place is not None and key:
                level = min(entry.level + 1, _LEVEL_MOST)
                found.setdefault(place, []).append(_Heading(level, key))
            if count > _OUTLINE_MOST:
                break
    return found


def _key(text: str) -> str:
    """Return the letters of a heading, without its number."""
    letters = "".join(char for char in text.casefold() if char.isalnum())
    return letters.lstrip("0123456789") or letters


def _with_headings(text: str, headings: Sequence[_Heading]) -> str:
    """Mark lines, or two together, that are entries of the outline on this page."""
    levels = {heading.key: heading.level for heading in reversed(headings)}
    found: list[str] = []
    lines = text.split("\n")
    keys = [_key(line) for line in lines]
    at = 0
    while at < len(lines):
        for taken in (1, 2):
            level = levels.pop("".join(keys[at : at + taken]), 0) if keys[at] else 0
            if level:
                title = " ".join(" ".join(lines[at : at + taken]).split())
                found += ["", f"{'#' * level} {title}", ""]
                at += taken
                break
        else:
            found.append(lines[at])
            at += 1
    return "\n".join(found)


def _is_garbled(text: str) -> bool:
    """Return whether most characters are glyphs without a meaning."""
    seen = [char for char in text if not char.isspace()]
    odd = sum(char in "\ufffd\x00" or unicodedata.category(char) in {"Co", "Cn"} for char in seen)
    odd -= text.count(_HYPHEN)
    return odd > _GARBLED_SHARE * len(seen)


def _has_scan(page: Any) -> bool:
    """Return whether a picture covers half of the page."""
    width, height = page.get_size()
    for item in page.get_objects(filter=(raw.FPDF_PAGEOBJ_IMAGE,), max_depth=3):
        with suppress(pdfium.PdfiumError):
            left, bottom, right, top = item.get_bounds()
            if (right - left) * (top - bottom) >= _SCAN_SHARE * width * height:
                return True
    return False


def _has_marks(page: Any) -> bool:
    """Return whether anything is drawn on the page."""
    return bool(raw.FPDFPage_CountObjects(page))


def _picture(page: Any) -> Any:
    """Return the page as an array of grey or BGR pixels."""
    width, height = page.get_size()
    scale = min(_SCALE, (_PIXELS_MOST / max(1.0, width * height)) ** 0.5)
    with closing(page.render(scale=scale, grayscale=False)) as bitmap:
        return bitmap.to_numpy().copy()
