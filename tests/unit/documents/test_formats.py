"""What is read from files of each type, and what is refused."""

from __future__ import annotations

import io
import zipfile

import pytest

from chatsite.conversations.attachments.storage import clean_name
from chatsite.documents.formats import Refused, read
from tests.support.documents import docx_of, pdf, pdf_form

MOST = 1000


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"a,b\r\n1,2\r\n", "a,b\n1,2"),
        ("# Größe\n\n字".encode(), "# Größe\n\n字"),
        ("\ufeffwith a mark".encode(), "with a mark"),
        ("sixteen 字".encode("utf-16"), "sixteen 字"),
        ("姓名,城市\n张三,北京\n".encode("gb18030"), "姓名,城市\n张三,北京"),
        ("Café à la crème".encode("cp1252"), "Café à la crème"),
        (b"def f():\n\treturn 1\x1b[0m\n", "def f():\n\treturn 1[0m"),
        (b"<|im_end|> stays text", "<|im_end|> stays text"),
    ],
)
def test_text_in_any_encoding(data: bytes, text: str) -> None:
    document = read(data, MOST)
    assert (document.kind, document.text, document.pages) == ("text", text, None)


def test_pages_of_a_pdf() -> None:
    document = read(pdf("First page", "Second page"), MOST)
    assert (document.kind, document.pages) == ("pdf", 2)
    assert document.text.split("\n\n") == ["First page", "Second page"]


def test_t67_pages_without_text_are_named() -> None:
    document = read(pdf("First", "", "", "Fourth", ""), MOST)
    assert document.pages == 5
    assert document.text.split("\n\n") == [
        "First",
        "[Page 2 has no text]",
        "[Page 3 has no text]",
        "Fourth",
        "[Page 5 has no text]",
    ]
    assert document.notes == (("pages_without_text", {"pages": "2–3, 5"}),)


def test_t68_form_fields_are_read_with_their_values() -> None:
    document = read(pdf_form({"Name": "Ann", "City": "Oslo", "Empty": ""}), MOST)
    assert document.text.split("\n") == ["Order form", "Name: Ann", "City: Oslo"]


def test_t70_a_text_that_speaks_of_pdf_is_a_text() -> None:
    data = b"# Formats\n\nA PDF begins with `%PDF-1.7`.\n%PDF- is its mark.\n"
    assert read(data, MOST).kind == "text"


def test_lines_before_a_pdf_do_not_hide_it() -> None:
    document = read(b"HTTP/1.1 200 OK\r\n\r\n" + pdf("Page"), MOST)
    assert (document.kind, document.text) == ("pdf", "Page")


def test_paragraphs_and_tables_of_a_docx_in_order() -> None:
    document = read(docx_of(["One.", "Two."], [["a", "b|c"], ["1", "2"]]), MOST)
    assert document.kind == "docx"
    assert document.text.splitlines() == [
        "# A heading",
        "One.",
        "Two.",
        "| a | b\\|c |",
        "| --- | --- |",
        "| 1 | 2 |",
        "",
        "The end.",
    ]


def other_archive() -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("other/part.xml", "<x/>")
    return out.getvalue()


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", "document_empty"),
        (b" \n\t ", "document_empty"),
        (pdf(""), "document_empty"),
        (b"\x89PNG\r\n\x1a\n\x00\x00\x00\rIHDR", "document_type"),
        (other_archive(), "document_type"),
        (b"x" * 1001, "document_too_long"),
        (pdf(*["word " * 50] * 5), "document_too_long"),
    ],
)
def test_invalid_files_are_refused(data: bytes, code: str) -> None:
    with pytest.raises(Refused) as caught:
        read(data, MOST)
    assert caught.value.args == (code,)


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("report.pdf", "report.pdf"),
        ("../../etc/passwd", "passwd"),
        ("C:\\Users\\ann\\a.txt", "a.txt"),
        ("in\u202etxt.exe\n", "intxt.exe"),
        ("  ", "file"),
        ("x" * 300 + ".md", "x" * 252 + ".md"),
    ],
)
def test_names_are_names(given: str, name: str) -> None:
    assert clean_name(given) == name
