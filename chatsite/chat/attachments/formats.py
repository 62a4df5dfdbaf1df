"""From a file's bytes to its text. Runs in the reading child alone (`reader.py`): files may be
made to do harm to whoever parses them."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final, Literal

Kind = Literal["text", "pdf", "docx"]

# What a DOCX may hold when it is unpacked, in bytes.
_UNPACKED_MOST: Final = 200 << 20
_PDF_MARK: Final = b"%PDF-"
_UTF16: Final = (b"\xff\xfe", b"\xfe\xff")
# Control characters that no text needs. (Lines end in \n by then.)
_CONTROLS: Final = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")
_BLANK_LINES: Final = re.compile(r"\n[ \t]*(?:\n[ \t]*){2,}")
_CHINESE: Final = re.compile(r"[\u3000-\u303f\u4e00-\u9fff\uff00-\uffef]")


class Refused(Exception):
    """``args[0]`` is a code of `errors.UNREADABLE`."""


@dataclass(frozen=True)
class Document:
    kind: Kind
    text: str
    pages: int | None = None


def read(data: bytes, most: int) -> Document:
    """The text of a file of at most ``most`` characters. Raises `Refused`; what a library raises
    means that the file is damaged."""
    if _PDF_MARK in data[:1024]:
        document = _pdf(data, most)
    elif data.startswith(b"PK\x03\x04"):
        document = Document("docx", _gathered(_docx(data), most))
    else:
        document = Document("text", _decoded(data))
    text = tidy(document.text)
    if len(text) > most:
        raise Refused("document_too_long")
    if not text.strip():
        raise Refused("document_empty")
    return Document(document.kind, text, document.pages)


def tidy(text: str) -> str:
    """Lines that end alike, no control characters, and at most one blank line in a row between
    paragraphs of what was laid out for paper."""
    text = text.replace("\r\n", "\n").replace("\r", "\n").replace("\f", "\n")
    return _CONTROLS.sub("", text).strip("\n")


def _gathered(parts: Iterator[str], most: int) -> str:
    """All parts, as long as they are not too many."""
    found: list[str] = []
    length = 0
    for part in parts:
        found.append(part)
        length += len(part) + 1
        if length > most + 1:
            raise Refused("document_too_long")
    return "\n".join(found)


def _decoded(data: bytes) -> str:
    if data.startswith(_UTF16):
        return data.decode("utf-16")
    if b"\x00" in data:
        raise Refused("document_type")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError:
        pass
    try:
        text = data.decode("gb18030")
        foreign = [char for char in text if char > "\x7f"]
        if sum(bool(_CHINESE.match(char)) for char in foreign) * 2 >= len(foreign):
            return text
    except UnicodeDecodeError:
        pass
    return data.decode("cp1252", errors="replace")


def _pdf(data: bytes, most: int) -> Document:
    from pypdf import PdfReader

    reader = PdfReader(io.BytesIO(data))
    if reader.is_encrypted and not reader.decrypt(""):
        raise Refused("document_encrypted")
    pages = len(reader.pages)
    text = _gathered((page.extract_text() + "\n" for page in reader.pages), most)
    return Document("pdf", _BLANK_LINES.sub("\n\n", text), pages)


def _docx(data: bytes) -> Iterator[str]:
    """Paragraphs, and rows of tables, in the order of the document."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        if "word/document.xml" not in archive.namelist():
            raise Refused("document_type")
        if sum(item.file_size for item in archive.infolist()) > _UNPACKED_MOST:
            raise Refused("document_too_complex")
    import docx
    from docx.table import Table

    for block in docx.Document(io.BytesIO(data)).iter_inner_content():
        if isinstance(block, Table):
            yield from _rows(block)
            continue
        style = (block.style.name or "") if block.style else ""
        level = style.removeprefix("Heading ")
        mark = "#" * int(level) + " " if level.isdecimal() and block.text else ""
        yield mark + block.text


def _rows(table: object) -> Iterator[str]:
    for number, row in enumerate(table.rows):  # type: ignore[attr-defined]
        cells = [" ".join(cell.text.split()).replace("|", "\\|") for cell in row.cells]
        yield f"| {' | '.join(cells)} |"
        if number == 0:
            yield f"|{' --- |' * len(cells)}"
    yield ""
