"""Division of texts into chunks."""

from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from chatsite.documents.chunks import MOST, split

LINES = st.sampled_from(
    [
        "# One",
        "## Two",
        "### Three #",
        "",
        "A sentence. Another one! And a third?",
        "中文的一句话。另一句！",
        "word " * 400,
        "x" * 3000,
        "长" * 2000,
        "| a | b |",
        "|---|---|",
        "| 1 | 2 |",
        "```python",
        "```",
        "    code = 1",
        "~~~",
    ]
)


@given(st.lists(LINES, max_size=60).map("\n".join), st.data())
def test_ranges_are_disjoint_and_cover_all_words(text: str, data: st.DataObject) -> None:
    starts = sorted(data.draw(st.sets(st.integers(0, max(0, len(text) - 1)), max_size=5)) | {0})
    chunks = split(text, starts)
    covered = ""
    at = 0
    for chunk in chunks:
        assert at <= chunk.start < chunk.end <= len(text)
        assert not text[at : chunk.start].strip()
        own = text[chunk.start : chunk.end]
        assert chunk.text == own or chunk.text.endswith(f"\n{own}")
        assert len(own) <= MOST
        assert chunk.page is not None
        assert starts[chunk.page - 1] <= chunk.start
        assert chunk.last_page is not None
        assert starts[chunk.last_page - 1] < chunk.end
        at = chunk.end
        covered += own
    assert not text[at:].strip()
    assert re.sub(r"\s", "", covered) == re.sub(r"\s", "", text)


def test_headings_begin_chunks_and_are_their_path() -> None:
    text = "# Manual\n\n" + "First part. " * 40 + "\n\n## Setup\n\n" + "Second part. " * 40
    first, second = split(text)
    assert (first.heading, second.heading) == ("Manual", "Manual › Setup")
    assert second.text.startswith("## Setup\n\nSecond")


def test_short_sections_share_a_chunk() -> None:
    text = "\n\n".join(f"## Section {n}\n\nShort." for n in range(5))
    assert len(split(text)) == 1


def test_a_divided_table_repeats_its_header() -> None:
    rows = "\n".join(f"| {n} | {'value ' * 5}|" for n in range(100))
    chunks = split(f"| Number | Value |\n|---|---|\n{rows}")
    assert len(chunks) > 2
    assert all(chunk.text.startswith("| Number | Value |\n|---|---|\n|") for chunk in chunks)
    assert "| 99 |" in chunks[-1].text


def test_a_long_paragraph_is_divided_between_sentences() -> None:
    english = split("This is a sentence of some words. " * 100)
    assert all(chunk.text.endswith(".") for chunk in english)
    chinese = split("这是一句不太长的话，用来测试分句。" * 200)
    assert len(chinese) > 2
    assert all(chunk.text.endswith("。") for chunk in chinese)


def test_code_is_divided_between_lines_and_its_hashes_are_no_headings() -> None:
    code = "\n".join(f"# comment {n}\nvalue_{n} = {n}" for n in range(200))
    chunks = split(f"# Title\n\n```python\n{code}\n```\n")
    assert {chunk.heading for chunk in chunks} == {"Title"}
    assert all(
        chunk.text.splitlines()[-1].startswith(("value_", "# comment", "```")) for chunk in chunks
    )


def test_a_passage_over_two_pages_has_both() -> None:
    text = "One page.\n\nOther page."
    (chunk,) = split(text, [0, 11])
    assert (chunk.page, chunk.last_page) == (1, 2)
