"""The text of a file's bytes.

Runs only in the reader child (`reader.py`): a file may be an exploit for its parser.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final, Literal

from chatsite.documents import encodings, mail, markup
from chatsite.documents.open_document import OpenDocument
from chatsite.documents.package import Package, TooLarge
from chatsite.documents.sheets import Sheets
from chatsite.documents.slides import Slides

Kind = Literal["text", "pdf", "docx", "pptx", "xlsx", "odt", "ods", "odp", "epub", "html", "eml"]
# A code of `notes` and its values.
Note = tuple[str, dict[str, Any]]

_PDF_MARK: Final = b"%PDF-"
# Control characters that no text needs. (Line ends are \n at this point.)
_CONTROLS: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_TITLE_CHARS: Final = 300
_HTML: Final = re.compile(
    r"\s*(?:<\?xml[^>]{0,200}>\s*)?<(?:!doctype\s+html|html)\b", re.IGNORECASE
)
_MIMETYPES: Final[dict[str, Kind]] = {
    "application/epub+zip": "epub",
    "application/vnd.oasis.opendocument.text": "odt",
    "application/vnd.oasis.opendocument.spreadsheet": "ods",
    "application/vnd.oasis.opendocument.presentation": "odp",
}
_BLANK_LINES: Final = re.compile(r"\n[ \t]*(?:\n[ \t]*){2,}")


class Refused(Exception):
    """The file can't be read; ``args[0]`` is a code of `errors.UNREADABLE`."""


@dataclass(frozen=True)
class Document:
    """The text of a file.

    ``page_starts`` has the index in ``text`` of the first character of each page, and is empty for
    formats without pages.
    """

    kind: Kind
    text: str
    pages: int | None = None
    notes: tuple[Note, ...] = ()
    page_starts: tuple[int, ...] = ()
    title: str = ""


def read(data: bytes, most: int, *, rendered: bool = False) -> Document:
    """Return the text of a file, of at most ``most`` characters.

    With ``rendered`` an HTML page is what a reader sees of it, else its source.

    Raises `Refused`; any exception of a library means that the file is damaged.
    """
    document = _document(data, most, rendered=rendered)
    # With pages, the text is tidy already: tidying would move their starts.
    text = document.text if document.page_starts else tidy(document.text)
    if len(text) > most:
        raise Refused("document_too_long")
    if not text.strip():
        raise Refused("document_empty")
    return replace(document, text=text)


def _document(data: bytes, most: int, *, rendered: bool) -> Document:
    if data.startswith(b"PK\x03\x04"):
        return _zipped(data, most)
    if data.startswith(_PDF_MARK):
        return _pdf(data, most)
    if _PDF_MARK in data[:1024]:
        # Some mailers put lines before a PDF; but a text may also mention the mark.
        try:
            return _pdf(data, most)
        except Refused:
            raise
        except Exception:  # noqa: BLE001  (whatever a parser makes of a text)
            return _text(data)
    if mail.is_mail(data):
        text, subject, attachments = mail.text_of(data)
        mailed = (("mail_attachments", {"count": attachments}),) if attachments else ()
        return Document("eml", text, notes=mailed, title=subject[:_TITLE_CHARS])
    document = _text(data)
    if rendered and _HTML.match(document.text):
        title = markup.title_of(document.text)[:_TITLE_CHARS]
        return replace(document, kind="html", text=markup.text_of(document.text), title=title)
    return document


def _zipped(data: bytes, most: int) -> Document:
    """Read an office document or a book. Raises `Refused` for other archives."""
    try:
        package = Package(data)
    except TooLarge:
        raise Refused("document_too_complex") from None
    if "ppt/presentation.xml" in package.names:
        slides = Slides(package)
        return _of_pages("pptx", slides.pages(), most, slides, pictures="pictures", hidden="hidden")
    if "xl/workbook.xml" in package.names:
        sheets = Sheets(package)
        return _of_pages("xlsx", sheets.pages(), most, sheets, hidden="hidden")
    if "mimetype" in package.names:
        kind = _MIMETYPES.get(package.read("mimetype")[:200].decode("ascii", "replace").strip())
        if kind == "epub":
            return _of_pages(kind, markup.chapters(package), most, package)
        if kind is not None and "META-INF/manifest.xml" in package.names:
            if b"encryption-data" in package.read("META-INF/manifest.xml"):
                raise Refused("document_encrypted")
            found = OpenDocument(package)
            return _of_pages(kind, found.pages(), most, found, pictures="pictures")
    return _word(data, most)


def _of_pages(
    kind: Kind, pages: Iterator[str], most: int, counted: object, **codes: str
) -> Document:
    """Return a document of pages with notes on what ``counted`` has counted, by its attributes."""
    text, starts = _paged(pages, most)
    counts = {code: getattr(counted, attribute) for attribute, code in codes.items()}
    notes = tuple((code, {"count": count}) for code, count in counts.items() if count)
    paged = kind not in {"odt", "epub"}
    return Document(kind, text, len(starts) if paged else None, notes, starts if paged else (), "")


def tidy(text: str) -> str:
    """Unify line ends and remove control characters."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\f", "\n")
    return _CONTROLS.sub("", text).strip("\n")


def _gathered(parts: Iterator[str], most: int) -> str:
    """Join all parts. Raises `Refused` if they exceed ``most`` characters."""
    found: list[str] = []
    length = 0
    for part in parts:
        found.append(part)
        length += len(part) + 1
        if length > most + 1:
            raise Refused("document_too_long")
    return "\n".join(found)


def _paged(pages: Iterator[str], most: int) -> tuple[str, tuple[int, ...]]:
    """Return the joined tidy pages and where each starts. Raises `Refused` as `_gathered`."""
    starts: list[int] = []

    def tidied() -> Iterator[str]:
        at = 0
        for page in pages:
            text = _BLANK_LINES.sub("\n\n", tidy(page)) + "\n"
            starts.append(at)
            at += len(text) + 1
            yield text

    return _gathered(tidied(), most).rstrip("\n"), tuple(starts)


def _text(data: bytes) -> Document:
    try:
        decoded = encodings.decode(data)
    except encodings.NotText:
        raise Refused("document_type") from None
    notes: list[Note] = []
    if decoded.guessed:
        notes.append(("encoding_guessed", {"encoding": decoded.guessed}))
    if decoded.replaced:
        notes.append(("bytes_replaced", {"count": decoded.replaced}))
    return Document("text", decoded.text, notes=tuple(notes))


def _pdf(data: bytes, most: int) -> Document:
    from chatsite.documents import pdf

    found = pdf.Pdf(data)
    try:
        text, starts = _paged(found.pages(), most)
    except pdf.Locked:
        raise Refused("document_encrypted") from None
    except pdf.TooManyPages:
        raise Refused("document_too_complex") from None
    if len(found.empty) == found.count:
        raise Refused("document_empty")
    if len(found.empty) + len(found.failed) == found.count:
        raise Refused("document_damaged")
    named = {
        "pages_without_text": found.empty,
        "pages_failed": found.failed,
        "pages_garbled": found.garbled,
    }
    notes = tuple((code, {"pages": _ranges(pages)}) for code, pages in named.items() if pages)
    title = tidy(found.title).strip()[:_TITLE_CHARS]
    return Document("pdf", text, found.count, notes, starts, title)


def _ranges(numbers: Sequence[int]) -> str:
    """Return ascending numbers as page ranges: 1, 3–5."""
    runs: list[list[int]] = []
    for number in numbers:
        if runs and number == runs[-1][-1] + 1:
            runs[-1].append(number)
        else:
            runs.append([number])
    return ", ".join(f"{run[0]}–{run[-1]}" if len(run) > 1 else str(run[0]) for run in runs)


def _word(data: bytes, most: int) -> Document:
    from chatsite.documents import word

    document = word.Word(data)
    try:
        text = _gathered(document.lines(), most)
    except word.NotWord:
        raise Refused("document_type") from None
    except word.TooLarge:
        raise Refused("document_too_complex") from None
    counts = {"pictures": document.pictures, "objects": document.objects}
    notes = tuple((code, {"count": count}) for code, count in counts.items() if count)
    return Document("docx", _BLANK_LINES.sub("\n\n", text), notes=notes)
