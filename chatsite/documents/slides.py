"""The text of a presentation (PPTX): a page for each slide, with tables and notes."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from chatsite.documents.package import Package, name_of, table


class Slides:
    """``pictures`` and ``hidden`` are complete once ``pages`` is exhausted."""

    def __init__(self, package: Package) -> None:
        self._package = package
        self.pictures = 0
        self.hidden = 0

    def pages(self) -> Iterator[str]:
        """Yield the text of each slide, in the order of the presentation."""
        main = "ppt/presentation.xml"
        related = self._package.related(main)
        for element in self._package.xml(main).iter():
            if name_of(element) != "sldId":
                continue
            id = next((v for k, v in element.attrib.items() if k.endswith("}id")), "")
            _kind, path = related.get(id, ("", ""))
            root = self._package.xml(path)
            if root is None:
                continue
            self.hidden += root.get("show") == "0"
            yield "\n\n".join(filter(None, [*self._shapes(root), *self._notes(path)]))

    def _shapes(self, root: Any) -> Iterator[str]:
        titled = False
        for element in root.iter():
            name = name_of(element)
            if name == "sp":
                text = "\n".join(filter(str.strip, _paragraphs(element)))
                if text and not titled and _is_title(element):
                    titled = True
                    yield f"## {' '.join(text.split())}"
                else:
                    yield text
            elif name == "tbl":
                rows = [
                    [" ".join(_paragraphs(cell)) for cell in row if name_of(cell) == "tc"]
                    for row in element
                    if name_of(row) == "tr"
                ]
                yield table(rows)
            elif name == "pic":
                self.pictures += 1

    def _notes(self, path: str) -> Iterator[str]:
        for kind, target in self._package.related(path).values():
            root = self._package.xml(target) if kind == "notesSlide" else None
            if root is None:
                continue
            for shape in root.iter():
                if name_of(shape) == "sp" and _placeholder(shape) == "body":
                    text = "\n".join(_paragraphs(shape)).strip()
                    if text:
                        yield f"Notes: {text}"


def _paragraphs(parent: Any) -> list[str]:
    return [
        "".join(_run(part) for part in element.iter())
        for element in parent.iter()
        if name_of(element) == "p"
    ]


def _run(element: Any) -> str:
    name = name_of(element)
    if name == "t":
        return element.text or ""
    return {"br": "\n", "tab": "\t"}.get(name, "")


def _placeholder(shape: Any) -> str:
    for element in shape.iter():
        if name_of(element) == "ph":
            return str(element.get("type", ""))
    return ""


def _is_title(shape: Any) -> bool:
    return _placeholder(shape) in {"title", "ctrTitle"}
