"""Small files of the types that users attach, and hostile ones."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Sequence

import docx


def pdf_objects(*objects: bytes) -> bytes:
    """Return a PDF of these objects, numbered from 1; the first is the catalogue."""
    out, places = bytearray(b"%PDF-1.7\n"), []
    for number, body in enumerate(objects, 1):
        places.append(len(out))
        out += b"%d 0 obj\n%s\nendobj\n" % (number, body)
    at = len(out)
    out += b"xref\n0 %d\n0000000000 65535 f \n" % (len(objects) + 1)
    for place in places:
        out += b"%010d 00000 n \n" % place
    out += b"trailer\n<< /Size %d /Root 1 0 R >>\nstartxref\n%d\n%%%%EOF\n" % (
        len(objects) + 1,
        at,
    )
    return bytes(out)


def stream(data: bytes, extra: bytes = b"") -> bytes:
    return b"<< /Length %d %s >>\nstream\n%s\nendstream" % (len(data), extra, data)


def pdf(*pages: str) -> bytes:
    """Return a PDF with one line of text per page; "" makes an empty page."""
    kids = b" ".join(b"%d 0 R" % (4 + 2 * n) for n in range(len(pages)))
    objects = [
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [%s] /Count %d >>" % (kids, len(pages)),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    for number, text in enumerate(pages):
        objects.append(
            b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] "
            b"/Resources << /Font << /F1 3 0 R >> >> /Contents %d 0 R >>" % (5 + 2 * number)
        )
        objects.append(stream(b"BT /F1 12 Tf 72 700 Td (%s) Tj ET" % text.encode()))
    return pdf_objects(*objects)


def pdf_of(*contents: str, extra: str = "", outline: Sequence[tuple[int, str, int]] = ()) -> bytes:
    """Return a PDF of pages with these content streams, whose font is ``/F1``.

    ``extra`` are further entries of each page. ``outline`` has level, title and page from 0.
    """
    first, count = 4, len(contents)
    kids = " ".join(f"{first + 2 * n} 0 R" for n in range(count))
    root = first + 2 * count
    objects = [
        f"<< /Type /Catalog /Pages 2 0 R {f'/Outlines {root} 0 R' if outline else ''} >>".encode(),
        f"<< /Type /Pages /Kids [{kids}] /Count {count} >>".encode(),
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica /Encoding /WinAnsiEncoding >>",
    ]
    for number, content in enumerate(contents):
        objects.append(
            f"<< /Type /Page /Marked {number} /Parent 2 0 R /MediaBox [0 0 612 792] {extra} "
            f"/Resources << /Font << /F1 3 0 R >> >> /Contents {first + 2 * number + 1} 0 R "
            ">>".encode()
        )
        objects.append(stream(content.encode("cp1252")))
    return pdf_objects(*objects, *_outline(outline, root, first))


def _outline(entries: Sequence[tuple[int, str, int]], root: int, first: int) -> list[bytes]:
    """Return the objects of an outline, of which ``root`` is the number of the first."""
    if not entries:
        return []
    parents = []
    for at, (level, _title, _page) in enumerate(entries):
        above = [n for n in range(at) if entries[n][0] < level]
        parents.append(root + 1 + above[-1] if above else root)
    objects = []
    for at in range(-1, len(entries)):
        number = root + 1 + at
        below = [root + 1 + n for n, parent in enumerate(parents) if parent == number]
        parts = (
            [f"/First {below[0]} 0 R /Last {below[-1]} 0 R /Count {len(below)}"] if below else []
        )
        if at >= 0:
            _level, title, page = entries[at]
            beside = [root + 1 + n for n, one in enumerate(parents) if one == parents[at]]
            later = [one for one in beside if one > number]
            parts.append(f"/Title ({title}) /Parent {parents[at]} 0 R")
            parts.append(f"/Dest [{first + 2 * page} 0 R /Fit]")
            parts += [f"/Next {later[0]} 0 R"] if later else []
        objects.append(f"<< {' '.join(parts)} >>".encode())
    return objects


def pdf_bomb(megabytes: int) -> bytes:
    """Return a PDF page with a small content stream that expands to that many megabytes."""
    packer = zlib.compressobj(9)
    packed = b"".join(packer.compress(bytes(1 << 20)) for _ in range(megabytes)) + packer.flush()
    return pdf_objects(
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [3 0 R] /Count 1 >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 4 0 R >>",
        stream(packed, b"/Filter /FlateDecode"),
    )


def pdf_that_never_ends() -> bytes:
    """Return a PDF that takes forever to walk: a page tree that contains itself twice."""
    return pdf_objects(
        b"<< /Type /Catalog /Pages 2 0 R >>",
        b"<< /Type /Pages /Kids [2 0 R 2 0 R] /Count 2000000000 >>",
    )


def docx_of(paragraphs: Sequence[str], table: Sequence[Sequence[str]] = ()) -> bytes:
    document = docx.Document()
    document.add_heading("A heading", 1)
    for text in paragraphs:
        document.add_paragraph(text)
    if table:
        made = document.add_table(0, len(table[0]))
        for row in table:
            for cell, text in zip(made.add_row().cells, row, strict=True):
                cell.text = text
    document.add_paragraph("The end.")
    out = io.BytesIO()
    document.save(out)
    return out.getvalue()


def docx_bomb(megabytes: int) -> bytes:
    """Return a document whose small main part expands to that many megabytes."""
    out = io.BytesIO()
    with (
        zipfile.ZipFile(io.BytesIO(docx_of(["x"]))) as source,
        zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as target,
    ):
        for item in source.infolist():
            data = source.read(item)
            if item.filename == "word/document.xml":
                data = data.replace(b"<w:body>", b"<w:body>" + b" " * (megabytes << 20))
            target.writestr(item.filename, data)
    return out.getvalue()


_WORD = "http://schemas.openxmlformats.org/wordprocessingml/2006/main"
_RELATIONS = "http://schemas.openxmlformats.org/package/2006/relationships"
_KINDS = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"


def word(body: str, *, namespace: str = _WORD, **parts: str) -> bytes:
    """Return a Word document with this XML as its body.

    ``parts`` are further parts by kind (``footnotes``, ``numbering``, ``header``): the content of
    their root element.
    """
    names = ["m", "wp", "a", "pic", "wps", "mc", "v", "o", "c", "r", "w14"]
    spaces = f'xmlns:w="{namespace}" ' + " ".join(f'xmlns:{name}="urn:{name}"' for name in names)
    relation = f'<Relationship Id="{{0}}" Type="{_KINDS}/{{0}}" Target="{{1}}"/>'
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        rows = relation.format("officeDocument", "word/document.xml")
        archive.writestr(
            "_rels/.rels", f'<Relationships xmlns="{_RELATIONS}">{rows}</Relationships>'
        )
        rows = "".join(relation.format(kind, f"{kind}.xml") for kind in parts)
        archive.writestr(
            "word/_rels/document.xml.rels",
            f'<Relationships xmlns="{_RELATIONS}">{rows}</Relationships>',
        )
        archive.writestr(
            "word/document.xml", f"<w:document {spaces}><w:body>{body}</w:body></w:document>"
        )
        for kind, content in parts.items():
            archive.writestr(f"word/{kind}.xml", f"<w:{kind} {spaces}>{content}</w:{kind}>")
    return out.getvalue()


def paragraph(*texts: str, properties: str = "") -> str:
    """Return a Word paragraph of runs; a text that is XML already is inserted unchanged."""
    runs = "".join(text if "<" in text else f"<w:r><w:t>{text}</w:t></w:r>" for text in texts)
    return f"<w:p>{f'<w:pPr>{properties}</w:pPr>' if properties else ''}{runs}</w:p>"


def run(text: str) -> str:
    return f"<w:r><w:t>{text}</w:t></w:r>"


def pdf_form(fields: dict[str, str]) -> bytes:
    """Return a page with a label and filled-in text fields."""
    first = 6
    kids = b" ".join(b"%d 0 R" % (first + n) for n in range(len(fields)))
    return pdf_objects(
        b"<< /Type /Catalog /Pages 2 0 R /AcroForm << /Fields [%s] >> >>" % kids,
        b"<< /Type /Pages /Kids [4 0 R] /Count 1 >>",
        b"<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
        b"<< /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Annots [%s] "
        b"/Resources << /Font << /F1 3 0 R >> >> /Contents 5 0 R >>" % kids,
        stream(b"BT /F1 12 Tf 72 700 Td (Order form) Tj ET"),
        *(
            b"<< /Type /Annot /Subtype /Widget /FT /Tx /T (%s) /V (%s) /Rect [0 0 9 9] >>"
            % (name.encode(), value.encode())
            for name, value in fields.items()
        ),
    )
