"""The text of HTML pages and of books made of them (EPUB): headings, lists, tables and code."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Iterator
from typing import Any, Final
from urllib.parse import unquote

from lxml import html

from chatsite.documents.package import Package, attribute, name_of, table

_UNSEEN: Final = frozenset(
    {
        *("script", "style", "noscript", "template", "head", "svg", "iframe", "object", "nav"),
        *("button", "datalist", "input", "select", "textarea"),
    }
)
_BLOCKS: Final = frozenset(
    {
        *("address", "article", "aside", "blockquote", "body", "dd", "details", "div", "dl", "dt"),
        *("fieldset", "figcaption", "figure", "footer", "header", "hr", "html", "li", "main", "ol"),
        *("p", "section", "summary", "ul"),
    }
)
_BLANKS: Final = re.compile(r"[ \t\r\n\f\u00a0]+")
_MANY_LINES: Final = re.compile(r"\n[ \n]*\n")
_DEPTH_MOST: Final = 200


def text_of(source: str) -> str:
    """Return the text of an HTML page as Markdown."""
    # As bytes: lxml refuses text that declares an encoding, as each XHTML page does.
    parser = html.HTMLParser(encoding="utf-8", no_network=True)
    root: Any = html.document_fromstring(source.encode("utf-8", "replace"), parser=parser)
    return _MANY_LINES.sub("\n\n", "".join(_walk(root, 0))).strip()


def title_of(source: str) -> str:
    found = re.search(r"<title[^>]{0,200}>([^<]{1,1000})</title", source, re.IGNORECASE)
    return _plain(found[1]) if found else ""


def _plain(source: str) -> str:
    root: Any = html.fromstring(f"<p>{source}</p>")
    return " ".join(root.text_content().split())


def _walk(element: Any, depth: int) -> Iterator[str]:
    name = name_of(element).lower()
    if name in _UNSEEN or not name or depth > _DEPTH_MOST:
        return
    if re.fullmatch(r"h[1-6]", name):
        yield f"\n\n{'#' * int(name[1])} {' '.join(element.text_content().split())}\n\n"
    elif name == "pre":
        yield f"\n\n```\n{element.text_content().strip(chr(10))}\n```\n\n"
    elif name == "table":
        rows = [
            [" ".join(cell.text_content().split()) for cell in row if name_of(cell) in {"td", "th"}]
            for row in element.iter("tr")
        ]
        yield f"\n\n{table([row for row in rows if row])}\n\n"
    elif name == "br":
        yield "\n"
    else:
        yield "\n\n" if name in _BLOCKS else ""
        yield "- " if name == "li" else ""
        yield _BLANKS.sub(" ", element.text or "")
        for child in element:
            yield from _walk(child, depth + 1)
            yield _BLANKS.sub(" ", child.tail or "")
        yield "\n\n" if name in _BLOCKS else ""


def chapters(package: Package) -> Iterator[str]:
    """Yield the chapters of an EPUB, in the order of its spine."""
    container = package.xml("META-INF/container.xml")
    main = next(
        attribute(one, "full-path") for one in container.iter() if name_of(one) == "rootfile"
    )
    root = package.xml(main)
    folder = posixpath.dirname(main)
    items = {one.get("id"): one.get("href", "") for one in root.iter() if name_of(one) == "item"}
    for one in root.iter():
        if name_of(one) != "itemref":
            continue
        path = posixpath.normpath(posixpath.join(folder, unquote(items.get(one.get("idref"), ""))))
        if path in package.names:
            yield text_of(package.read(path).decode("utf-8", "replace"))
