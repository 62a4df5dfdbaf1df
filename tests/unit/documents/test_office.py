"""Presentations, workbooks, OpenDocument, HTML, books and messages, made by usual libraries."""

from __future__ import annotations

import io
import zipfile
from datetime import date, datetime
from email.message import EmailMessage

import openpyxl
import pptx
import pytest
from odf import draw, opendocument, table, text
from odf import style as odf_style
from pptx.util import Inches

from chatsite.documents.formats import Document, Refused, read

MOST = 100_000


def saved(made: object) -> bytes:
    file = io.BytesIO()
    made.save(file)  # type: ignore[attr-defined]
    return file.getvalue()


def pages(document: Document) -> list[str]:
    ends = [*document.page_starts[1:], len(document.text)]
    return [
        document.text[start:end].strip()
        for start, end in zip(document.page_starts, ends, strict=True)
    ]


def test_slides_are_pages_with_titles_tables_and_notes() -> None:
    made = pptx.Presentation()
    first = made.slides.add_slide(made.slide_layouts[1])
    first.shapes.title.text = "Travel rules"
    first.placeholders[1].text = "Book early.\nKeep receipts."
    first.notes_slide.notes_text_frame.text = "Mention the new form."
    second = made.slides.add_slide(made.slide_layouts[6])
    cells = second.shapes.add_table(2, 2, Inches(1), Inches(1), Inches(4), Inches(1)).table
    for at, value in enumerate(("City", "Limit", "Berlin", "120 | 130")):
        cells.cell(at // 2, at % 2).text = value
    found = read(saved(made), MOST)
    assert (found.kind, found.pages) == ("pptx", 2)
    assert pages(found) == [
        "## Travel rules\n\nBook early.\nKeep receipts.\n\nNotes: Mention the new form.",
        "| City | Limit |\n|---|---|\n| Berlin | 120 \\| 130 |",
    ]


def test_sheets_are_tables_with_dates_formulas_and_merged_cells() -> None:
    made = openpyxl.Workbook()
    sheet = made.active
    assert sheet is not None
    sheet.title = "Budget 2026"
    sheet.append(["Item", "Due", "Euros"])
    sheet.append(["Büro", date(2026, 3, 31), 1200.5])
    sheet.append(["Meeting", datetime(2026, 4, 1, 9, 30), True])  # noqa: DTZ001
    sheet["A5"] = "Merged"
    sheet.merge_cells("A5:C5")
    hidden = made.create_sheet("Rates")
    hidden["B2"] = "中文"
    hidden.sheet_state = "hidden"
    found = read(saved(made), MOST)
    assert (found.kind, found.pages, found.notes) == ("xlsx", 2, (("hidden", {"count": 1}),))
    first, second = pages(found)
    assert first == (
        "# Budget 2026\n\n| Item | Due | Euros |\n|---|---|---|\n| Büro | 2026-03-31 | 1200.5 |\n"
        "| Meeting | 2026-04-01 09:30:00 | TRUE |\n| Merged | Merged | Merged |"
    )
    assert second == "# Rates\n\n|  | 中文 |\n|---|---|"


def test_open_document_text_has_headings_and_tables() -> None:
    made = opendocument.OpenDocumentText()
    made.text.addElement(text.H(outlinelevel=2, text="Rules"))
    made.text.addElement(text.P(text="First paragraph."))
    grid = table.Table(name="t")
    for values in (("a", "b"), ("c", "d")):
        row = table.TableRow()
        for value in values:
            cell = table.TableCell()
            cell.addElement(text.P(text=value))
            row.addElement(cell)
        grid.addElement(row)
    made.text.addElement(grid)
    found = read(saved(made), MOST)
    assert (found.kind, found.pages) == ("odt", None)
    assert found.text == "## Rules\n\nFirst paragraph.\n\n| a | b |\n|---|---|\n| c | d |"


def test_open_document_sheets_and_slides_are_pages() -> None:
    made = opendocument.OpenDocumentSpreadsheet()
    for name in ("One", "Two"):
        grid, row, cell = table.Table(name=name), table.TableRow(), table.TableCell()
        cell.addElement(text.P(text=f"In {name}"))
        row.addElement(cell)
        row.addElement(table.TableCell(numbercolumnsrepeated=16_000))
        grid.addElement(row)
        grid.addElement(table.TableRow(numberrowsrepeated=1_000_000))
        made.spreadsheet.addElement(grid)
    assert pages(read(saved(made), MOST)) == [
        "# One\n\n| In One |\n|---|",
        "# Two\n\n| In Two |\n|---|",
    ]
    shown = opendocument.OpenDocumentPresentation()
    layout = odf_style.PageLayout(name="l")
    shown.automaticstyles.addElement(layout)
    master = odf_style.MasterPage(name="m", pagelayoutname=layout)
    shown.masterstyles.addElement(master)
    for words in ("First slide", "Second slide"):
        page, frame, box = draw.Page(masterpagename=master), draw.Frame(), draw.TextBox()
        box.addElement(text.P(text=words))
        frame.addElement(box)
        page.addElement(frame)
        shown.presentation.addElement(page)
    assert pages(read(saved(shown), MOST)) == ["First slide", "Second slide"]


HTML = """<!DOCTYPE html><html><head><title>A &amp; B</title><style>p {}</style></head><body>
<nav>Menu</nav><h1>Rules <em>2026</em></h1><p>One<br>two   three.</p><ul><li>a<li>b</ul>
<table><tr><th>x</th><th>y</th></tr><tr><td>1</td><td>2</td></tr></table>
<pre>def f():
    return 1</pre><script>alert(1)</script></body></html>"""


def test_a_rendered_page_is_what_a_reader_sees() -> None:
    found = read(HTML.encode(), MOST, rendered=True)
    assert (found.kind, found.title) == ("html", "A & B")
    assert found.text == (
        "# Rules 2026\n\nOne\ntwo three.\n\n- a\n\n- b\n\n| x | y |\n|---|---|\n| 1 | 2 |\n\n"
        "```\ndef f():\n    return 1\n```"
    )
    # An XHTML page declares its encoding.
    declared = f'<?xml version="1.0" encoding="UTF-8"?>\n{HTML}'.encode()
    assert read(declared, MOST, rendered=True).text == found.text
    # Attached, it is source code to ask about.
    assert read(HTML.encode(), MOST).text == HTML


def test_a_page_within_one_form_is_read() -> None:
    """As some web frameworks render each page."""
    fields = "<select><option>x</select><button>Go</button>"
    source = f"<!DOCTYPE html><form><h1>Rules</h1><p>Text.</p>{fields}</form>"
    assert read(source.encode(), MOST, rendered=True).text == "# Rules\n\nText."


def test_a_book_is_its_chapters() -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as book:
        book.writestr("mimetype", "application/epub+zip")
        book.writestr(
            "META-INF/container.xml",
            '<container><rootfiles><rootfile full-path="o/b.opf"/></rootfiles></container>',
        )
        book.writestr(
            "o/b.opf",
            '<package><manifest><item id="1" href="c%201.xhtml"/><item id="2" href="c2.xhtml"/>'
            '</manifest><spine><itemref idref="2"/><itemref idref="1"/></spine></package>',
        )
        book.writestr("o/c 1.xhtml", "<html><body><h1>Last</h1></body></html>")
        book.writestr(
            "o/c2.xhtml",
            '<?xml version="1.0" encoding="utf-8"?>'
            "<html><body><h1>First</h1><p>Text.</p></body></html>",
        )
    found = read(file.getvalue(), MOST)
    assert (found.kind, found.text) == ("epub", "# First\n\nText.\n\n# Last")


def test_a_message_has_its_headers_and_text() -> None:
    message = EmailMessage()
    message["From"], message["To"] = "Ann <ann@example.org>", "bob@example.org"
    message["Subject"] = "Größere Reise"
    message["Message-ID"] = "<1@example.org>"
    message.set_content("Grüße aus Köln.")
    message.add_alternative("<p>Grüße</p>", subtype="html")
    message.add_attachment(b"%PDF-", maintype="application", subtype="pdf", filename="plan.pdf")
    found = read(message.as_bytes(), MOST)
    assert (found.kind, found.title) == ("eml", "Größere Reise")
    assert found.text == (
        "From: Ann <ann@example.org>\nTo: bob@example.org\nSubject: Größere Reise\n\n"
        "Grüße aus Köln.\n\n\nAttachments: plan.pdf"
    )
    assert found.notes == (("mail_attachments", {"count": 1}),)


@pytest.mark.parametrize("source", ["From: a\nno header\n", "def f():\n    pass\n", "a: 1\nb: 2"])
def test_other_text_is_no_message(source: str) -> None:
    assert read(source.encode(), MOST).kind == "text"


def test_other_archives_and_bombs_are_refused() -> None:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        archive.writestr("a.txt", "a")
    with pytest.raises(Refused, match="document_type"):
        read(file.getvalue(), MOST)
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/workbook.xml", b"\0" * (201 << 20))
    with pytest.raises(Refused, match="document_too_complex"):
        read(file.getvalue(), MOST)


def test_deep_pages_end() -> None:
    assert read(b"<html>" + b"<div>" * 100 + b"deep", MOST, rendered=True).text == "deep"
    with pytest.raises(Refused):
        read(b"<html>" + b"<div>" * 50_000 + b"deep", 1_000_000, rendered=True)
