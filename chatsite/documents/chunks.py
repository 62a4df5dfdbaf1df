"""Division of a text into chunks that are searched and shown as passages.

The text is Markdown as far as `formats` knows the structure of a file: headings, tables and code
in fences. A chunk keeps to them where it can: it begins with a heading rather than ends with one,
repeats the header of a divided table, and divides a paragraph between sentences.
"""

from __future__ import annotations

import re
from bisect import bisect_right
from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

# Characters: a chunk ends at a boundary once it has TARGET, and never exceeds MOST by its own text.
TARGET: Final = 900
MOST: Final = 1400
# A heading begins a new chunk only if the present one has this share of the target.
_WORTH: Final = 3
_HEADING_CHARS: Final = 300
_HEADER_CHARS: Final = 400
_HEADING: Final = re.compile(r"(#{1,6})[ \t]+(\S.*)")
_FENCE: Final = re.compile(r"[ \t]{0,3}(`{3,}|~{3,})")
_LINE_END: Final = re.compile(r"\n")
_RULE: Final = re.compile(r"\|?[ \t]*:?-+:?[ \t]*(?:\|[ \t]*:?-+:?[ \t]*)*\|?[ \t]*")
_SENTENCE_END: Final = re.compile(r"(?<=[.!?…])[\"'”’)\]]*[ \t\n]+|(?<=[。！？；])[”’」』）]*")


class Chunk(NamedTuple):
    """A part of a text.

    ``start`` and ``end`` are characters of the source, whose text it is; a continued table has its
    header before it. ``page`` and ``last_page`` count from 1. ``heading`` has the headings above,
    outermost first.
    """

    heading: str
    text: str
    start: int
    end: int
    page: int | None
    last_page: int | None


class _Block(NamedTuple):
    """A part of the text that is divided only if it is too long. ``header`` is that of a table."""

    kind: str
    start: int
    end: int
    level: int = 0
    title: str = ""
    header: str = ""


def split(
    text: str, page_starts: Sequence[int] = (), *, target: int = TARGET, most: int = MOST
) -> list[Chunk]:
    """Return the chunks of ``text`` in order; their ranges are disjoint and cover all words.

    ``page_starts`` has the index of the first character of each page. Takes linear time.
    """
    path: list[tuple[int, str]] = []
    chunks: list[Chunk] = []
    begun: int | None = None
    ended = 0
    heading = ""
    # Headings alone are no chunk: they begin the block that follows.
    only_headings = True

    def close() -> None:
        nonlocal begun, only_headings
        if begun is not None:
            chunks.extend(_chunk(text, begun, ended, heading, page_starts))
        begun, only_headings = None, True

    for block in _blocks(text):
        if block.kind == "heading":
            if begun is not None and not only_headings and (ended - begun) * _WORTH >= target:
                close()
            path = [one for one in path if one[0] < block.level] + [(block.level, block.title)]
        if begun is not None and block.end - begun > most and not only_headings:
            close()
        if begun is None:
            begun, heading = block.start, _spelled(path)
        elif only_headings:
            heading = _spelled(path)
        if block.end - begun > most:
            whole = block._replace(start=begun)
            for start, end, header in _pieces(text, whole, target, most):
                chunks.extend(_chunk(text, start, end, heading, page_starts, header))
            begun, only_headings = None, True
            continue
        ended = block.end
        only_headings = only_headings and block.kind == "heading"
        if ended - begun >= target and not only_headings:
            close()
    close()
    return chunks


def _spelled(path: Sequence[tuple[int, str]]) -> str:
    return " › ".join(title for _level, title in path)[:_HEADING_CHARS]


def _chunk(
    text: str, start: int, end: int, heading: str, page_starts: Sequence[int], header: str = ""
) -> Iterator[Chunk]:
    """Yield the chunk of a range without blank ends; nothing if it is blank."""
    part = text[start:end]
    start += len(part) - len(part.lstrip())
    part = part.strip()
    if not part:
        return
    end = start + len(part)
    page = last_page = None
    if page_starts:
        page = max(1, bisect_right(page_starts, start))
        last_page = max(page, bisect_right(page_starts, end - 1))
    yield Chunk(heading, f"{header}\n{part}" if header else part, start, end, page, last_page)


def _blocks(text: str) -> Iterator[_Block]:
    """Yield headings, tables, fenced code and paragraphs with their ranges."""
    fence = ""
    begun: int | None = None
    kind = ""
    header: list[str] = []

    def block(end: int) -> Iterator[_Block]:
        nonlocal begun, header
        if begun is not None:
            yield _Block(kind, begun, end, header=_table_header(header) if kind == "table" else "")
        begun, header = None, []

    at = 0
    for line in text.splitlines(keepends=True):
        start, at = at, at + len(line)
        bare = line.rstrip("\n")
        if fence:
            if bare.strip().startswith(fence):
                fence = ""
                yield from block(at)
            continue
        if opening := _FENCE.match(bare):
            yield from block(start)
            fence, begun, kind = opening[1], start, "code"
        elif not bare.strip():
            yield from block(start)
        elif heading := _HEADING.match(bare):
            yield from block(start)
            title = heading[2].strip().rstrip("#").strip()
            yield _Block("heading", start, at, len(heading[1]), title)
        else:
            now = "table" if bare.lstrip().startswith("|") else "text"
            if begun is not None and now != kind:
                yield from block(start)
            if begun is None:
                begun, kind = start, now
            if now == "table" and len(header) < 2:
                header.append(bare)
    yield from block(at)


def _table_header(lines: Sequence[str]) -> str:
    """Return the first two lines of a table if they are a header and its rule."""
    whole = len(lines) == 2 and _RULE.fullmatch(lines[1].strip())
    return "\n".join(lines) if whole and len(lines[0]) <= _HEADER_CHARS else ""


def _pieces(text: str, block: _Block, target: int, most: int) -> Iterator[tuple[int, int, str]]:
    """Yield the ranges of a long block, and the header that those after the first repeat."""
    if block.kind == "text":
        ends = [match.end() for match in _SENTENCE_END.finditer(text, block.start, block.end)]
    else:
        ends = [match.end() for match in _LINE_END.finditer(text, block.start, block.end)]
    start, header = block.start, ""
    last = block.start
    for end in [*ends, block.end]:
        while end - start > most:
            cut = last if last > start else _hard_cut(text, start, start + most)
            yield start, cut, header
            start, header = cut, block.header
            last = max(last, start)
        last = end
        if end - start >= target and end < block.end:
            yield start, end, header
            start, header = end, block.header
    if start < block.end:
        yield start, block.end, header


def _hard_cut(text: str, start: int, end: int) -> int:
    """Return where a piece without a boundary is cut: at a space in its second half, if any."""
    space = max(text.rfind(" ", start + (end - start) // 2, end), text.rfind("\n", start + 1, end))
    return space + 1 if space > start else end
