"""The text of PDF pages: reading order, headings, damage."""

from __future__ import annotations

import pytest

from chatsite.documents import columns
from chatsite.documents.columns import Box
from chatsite.documents.formats import read
from tests.support.documents import pdf_of

MOST = 100_000
LEFT = ["The left column begins with this line", "and goes down to the end of its prose"] * 5
RIGHT = ["The right column has other words that", "follow after everything on the left ok"] * 5


def at(x: float, y: float, text: str, size: int = 10) -> str:
    return f"BT /F1 {size} Tf {x} {y} Td ({text}) Tj ET\n"


def interleaved(left: list[str], right: list[str], gap: int = 14) -> str:
    """Return content that draws the lines of two columns in turn, as typesetting by rows does."""
    return "".join(
        at(72, 680 - gap * row, a) + at(320, 680 - gap * row, b)
        for row, (a, b) in enumerate(zip(left, right, strict=True))
    )


def test_columns_that_are_stored_by_rows_are_read_one_after_the_other() -> None:
    title = at(72, 740, "A title that stands over both of the columns here", 14)
    lines = read(pdf_of(title + interleaved(LEFT, RIGHT)), MOST).text.splitlines()
    assert lines[0].startswith("A title")
    assert lines[1:] == LEFT + RIGHT


def test_rows_of_a_table_stay_together() -> None:
    names, values = (
        [f"Name {n}" for n in range(10)],
        [f"{n} Euros per day and person" for n in range(10)],
    )
    text = read(pdf_of(interleaved(names, values)), MOST).text
    assert "Name 3 3 Euros" in text


@pytest.mark.parametrize("rotation", [0, 90, 180, 270])
def test_rotated_pages_are_read_from_top_to_bottom(rotation: int) -> None:
    content = "".join(at(72, 700 - 20 * n, f"Line {n}") for n in range(4))
    text = read(pdf_of(content, extra=f"/Rotate {rotation}"), MOST).text
    assert text.split("\n") == [f"Line {n}" for n in range(4)]


@pytest.mark.parametrize("matrix", ["0 1 -1 0 300 100", "-1 0 0 -1 500 700", "0 -1 1 0 300 700"])
def test_turned_text_is_read_in_order(matrix: str) -> None:
    content = f"q {matrix} cm " + "".join(at(0, -20 * n, f"Line {n}") for n in range(4)) + " Q"
    assert read(pdf_of(content), MOST).text.split("\n") == [f"Line {n}" for n in range(4)]


def test_divided_words_are_joined() -> None:
    lines = ["This is infor-", "mation about Jean-", "Paul."]
    content = "".join(at(72, 700 - 14 * n, line) for n, line in enumerate(lines))
    assert read(pdf_of(content), MOST).text == "This is information about Jean-Paul."


def test_larger_gaps_divide_paragraphs() -> None:
    heights = [700, 686, 672, 644, 630]
    content = "".join(at(72, y, f"Line {n}") for n, y in enumerate(heights))
    assert read(pdf_of(content), MOST).text == "Line 0\nLine 1\nLine 2\n\nLine 3\nLine 4"


def test_entries_of_the_outline_are_headings() -> None:
    first = at(72, 740, "1. First steps", 16) + at(72, 700, "Some words about first steps.")
    second = at(72, 740, "1.1 How to write", 16) + at(72, 720, "a letter", 16) + at(72, 700, "Ink.")
    outline = [(1, "First steps", 0), (2, "How to write a letter", 1), (1, "Not found", 1)]
    document = read(pdf_of(first, second, outline=outline), MOST)
    pages = [document.text[start:].strip().split("\n")[0] for start in document.page_starts]
    assert pages == ["# 1. First steps", "## 1.1 How to write a letter"]
    assert "Not found" not in document.text


def test_a_broken_page_does_not_hide_the_others() -> None:
    data = pdf_of(at(72, 700, "Page one"), at(72, 700, "Page two"), at(72, 700, "Page three"))
    # The second page becomes a dictionary of another type, which is not a page.
    broken = data.replace(b"/Type /Page /Marked 1", b"/Type /Pane /Marked 1")
    assert broken != data
    document = read(broken, MOST)
    assert document.pages == 3
    assert "Page one" in document.text
    assert "Page three" in document.text


def test_boxes_turn_upright() -> None:
    box = Box(10, 20, 12, 60)
    assert box.turned(0) == box
    assert box.turned(1) == Box(20, -12, 60, -10)
    assert box.turned(1).turned(3) == box
    assert box.turned(2).turned(2) == box


def test_short_pages_have_no_columns() -> None:
    assert columns.order([Box(0, 0, 10, 10)] * 3) is None


def test_a_comment_in_code_is_no_heading() -> None:
    content = at(72, 700, "# aptitude purge") + at(72, 686, "# halt")
    assert read(pdf_of(content), MOST).text == " # aptitude purge\n # halt"
