"""Every part of a Word document that Word displays."""

from __future__ import annotations

import pytest

from chatsite.documents.formats import Refused, read
from tests.support.documents import paragraph, run, word

MOST = 10_000


def text_of(body: str, **parts: str) -> str:
    return read(word(body, **parts), MOST).text


def test_t64_tracked_changes_show_what_is_valid_now() -> None:
    change = (
        '<w:del w:id="1"><w:r><w:delText>100</w:delText></w:r></w:del>'
        f'<w:ins w:id="2">{run("250")}</w:ins>'
    )
    moved = f"<w:moveFrom>{run('gone')}</w:moveFrom><w:moveTo>{run('here')}</w:moveTo>"
    body = paragraph("The price is ", change, " per month.") + paragraph(moved)
    assert text_of(body).split("\n") == ["The price is 250 per month.", "here"]


def test_t65_content_controls_are_read_in_place() -> None:
    inline = f"<w:sdt><w:sdtPr/><w:sdtContent>{run('Ann')}</w:sdtContent></w:sdt>"
    block = f"<w:sdt><w:sdtContent>{paragraph('A cover page')}</w:sdtContent></w:sdt>"
    row = (
        "<w:tbl><w:sdt><w:sdtContent><w:tr><w:sdt><w:sdtContent>"
        f"<w:tc>{paragraph('in a cell')}</w:tc></w:sdtContent></w:sdt></w:tr></w:sdtContent>"
        "</w:sdt></w:tbl>"
    )
    body = block + paragraph("Dear ", inline, ",") + row
    assert text_of(body).split("\n") == [
        "A cover page",
        "Dear Ann,",
        "| in a cell |",
        "| --- |",
    ]


def test_t65_notes_and_comments_follow_the_text() -> None:
    body = paragraph(
        "Fact",
        '<w:r><w:footnoteReference w:id="2"/></w:r>',
        " and",
        '<w:r><w:endnoteReference w:id="2"/></w:r>',
        " more",
        '<w:r><w:commentReference w:id="0"/></w:r>',
    )
    found = text_of(
        body,
        footnotes=f'<w:footnote w:id="2">{paragraph("Source A")}</w:footnote>',
        endnotes=f'<w:endnote w:id="2">{paragraph("Source B")}</w:endnote>',
        comments=f'<w:comment w:id="0" w:author="Bo">{paragraph("Really?")}</w:comment>',
    )
    assert found.split("\n") == [
        "Fact[1] and[2] more[comment 3]",
        "[1] Source A",
        "[2] Source B",
        "[comment 3] Bo: Really?",
    ]


def test_t65_headers_text_boxes_links_and_fields() -> None:
    box = (
        "<w:r><mc:AlternateContent><mc:Choice><w:drawing><wps:txbx><w:txbxContent>"
        f"{paragraph('In a box')}</w:txbxContent></wps:txbx></w:drawing></mc:Choice>"
        f"<mc:Fallback><w:pict><w:txbxContent>{paragraph('In a box')}</w:txbxContent></w:pict>"
        "</mc:Fallback></mc:AlternateContent></w:r>"
    )
    field = f"<w:r><w:instrText>PAGE</w:instrText></w:r>{run('7')}"
    body = paragraph(
        "See ", f"<w:hyperlink>{run('the page')}</w:hyperlink>", " ", field, box
    ) + paragraph("<w:r><w:t>a</w:t><w:tab/><w:t>b</w:t><w:br/><w:t>c</w:t></w:r>")
    found = text_of(body, header=paragraph("Confidential"), footer=paragraph("Page 1"))
    assert found.split("\n") == [
        *("Confidential", "", "See the page 7", "In a box", "a\tb", "c", "Page 1"),
    ]


def test_t65_hidden_text_is_not_shown_and_formulas_are() -> None:
    hidden = "<w:r><w:rPr><w:vanish/></w:rPr><w:t>secret</w:t></w:r>"
    formula = (
        "<m:oMath><m:r><m:t>E=mc</m:t></m:r><m:sSup><m:e/><m:sup><m:r><m:t>2</m:t></m:r></m:sup>"
        "</m:sSup><m:f><m:num><m:r><m:t>a+b</m:t></m:r></m:num><m:den><m:r><m:t>c</m:t></m:r>"
        "</m:den></m:f></m:oMath>"
    )
    assert text_of(paragraph("x", hidden, formula)) == "xE=mc^2(a+b)/c"


def level(number: int, kind: str, pattern: str) -> str:
    return (
        f'<w:lvl w:ilvl="{number}"><w:start w:val="1"/><w:numFmt w:val="{kind}"/>'
        f'<w:lvlText w:val="{pattern}"/></w:lvl>'
    )


def style(id: str, content: str) -> str:
    return f'<w:style w:styleId="{id}">{content}</w:style>'


NUMBERING = (
    f'<w:abstractNum w:abstractNumId="0">{level(0, "decimal", "%1.")}'
    f"{level(1, 'lowerLetter', '%1.%2)')}</w:abstractNum>"
    f'<w:abstractNum w:abstractNumId="1">{level(0, "bullet", "·")}</w:abstractNum>'
    '<w:num w:numId="1"><w:abstractNumId w:val="0"/></w:num>'
    '<w:num w:numId="2"><w:abstractNumId w:val="1"/></w:num>'
)
STYLES = (
    style("T", '<w:name w:val="Title"/>')
    + style("H2", '<w:name w:val="heading 2"/><w:pPr><w:outlineLvl w:val="1"/></w:pPr>')
    + style("Mine", '<w:basedOn w:val="H2"/>')
    + style("LB", '<w:pPr><w:numPr><w:numId w:val="2"/></w:numPr></w:pPr>')
)


def item(text: str, id: int, level: int = 0) -> str:
    numbered = f'<w:numPr><w:ilvl w:val="{level}"/><w:numId w:val="{id}"/></w:numPr>'
    return paragraph(text, properties=numbered)


def styled(text: str, style: str) -> str:
    return paragraph(text, properties=f'<w:pStyle w:val="{style}"/>')


def test_t66_lists_keep_their_marks_and_titles_are_headings() -> None:
    body = (
        styled("Report", "T")
        + styled("Part", "H2")
        + styled("Own style", "Mine")
        + item("one", 1)
        + item("sub", 1, 1)
        + item("sub", 1, 1)
        + item("two", 1)
        + item("dot", 2)
        + styled("by style", "LB")
    )
    assert text_of(body, numbering=NUMBERING, styles=STYLES).split("\n") == [
        "# Report",
        "## Part",
        "## Own style",
        "1. one",
        "  1.a) sub",
        "  1.b) sub",
        "2. two",
        "- dot",
        "- by style",
    ]


def test_t66_merged_cells_come_once() -> None:
    def cell(text: str, properties: str = "") -> str:
        return f"<w:tc><w:tcPr>{properties}</w:tcPr>{paragraph(text)}</w:tc>"

    across, top, below = (
        '<w:gridSpan w:val="3"/>',
        '<w:vMerge w:val="restart"/>',
        "<w:vMerge/>",
    )
    rows = (
        cell("MERGED", across),
        cell("tall", top) + cell("b|c") + cell("d"),
        cell("x", below) + cell("e") + cell("f"),
        "<w:trPr><w:del/></w:trPr>" + cell("deleted"),
    )
    body = f"<w:tbl>{''.join(f'<w:tr>{row}</w:tr>' for row in rows)}</w:tbl>"
    assert text_of(body).split("\n") == [
        "| MERGED |  |  |",
        "| --- | --- | --- |",
        "| tall | b\\|c | d |",
        "|  | e | f |",
    ]


def test_m7_a_cell_over_a_hundred_million_columns_costs_no_more_than_any_other() -> None:
    span = '<w:tcPr><w:gridSpan w:val="100000000"/></w:tcPr>'
    found = text_of(f"<w:tbl><w:tr><w:tc>{span}{paragraph('wide')}</w:tc></w:tr></w:tbl>")
    assert found.split("\n")[0].count("|") == 65


def test_pictures_and_charts_are_counted() -> None:
    body = paragraph(
        "x",
        "<w:r><w:drawing><pic:pic/></w:drawing></w:r>",
        "<w:r><w:drawing><c:chart/></w:drawing></w:r>",
    )
    assert read(word(body), MOST).notes == (("pictures", {"count": 1}), ("objects", {"count": 1}))


def test_the_strict_variant_of_the_format_is_read() -> None:
    strict = "http://purl.oclc.org/ooxml/wordprocessingml/main"
    assert read(word(paragraph("strict"), namespace=strict), MOST).text == "strict"


def test_a_document_whose_style_is_based_on_itself() -> None:
    styles = '<w:style w:styleId="A"><w:basedOn w:val="A"/></w:style>'
    assert text_of(styled("x", "A"), styles=styles) == "x"


def test_an_archive_without_a_document_is_refused() -> None:
    with pytest.raises(Refused, match="document_empty"):
        read(word(""), MOST)
