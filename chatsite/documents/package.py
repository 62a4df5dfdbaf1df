"""ZIP packages of XML parts: what the readers of office formats share. Only in the reader child."""

from __future__ import annotations

import io
import posixpath
import zipfile
from typing import Any, Final

from lxml import etree

_UNPACKED_MOST: Final = 200 << 20


class TooLarge(Exception):
    """The unpacked package exceeds the limit."""


class Package:
    """A ZIP archive whose parts are read as XML, without entities and network."""

    def __init__(self, data: bytes) -> None:
        """Raise `TooLarge`, or `zipfile.BadZipFile` for a damaged archive."""
        self._archive = zipfile.ZipFile(io.BytesIO(data))
        items = self._archive.infolist()
        if sum(item.file_size for item in items) > _UNPACKED_MOST:
            raise TooLarge
        self.names = {item.filename for item in items}

    def read(self, name: str) -> bytes:
        return self._archive.read(name)

    def xml(self, name: str) -> Any:
        """Return the root element of a part; None if there is no such part."""
        return parsed(self.read(name)) if name in self.names else None

    def related(self, part: str) -> dict[str, tuple[str, str]]:
        """Return kind and path of the parts that ``part`` refers to, by ID, in Open XML."""
        folder, name = posixpath.split(part)
        root = self.xml(posixpath.join(folder, "_rels", f"{name}.rels"))
        found = {}
        for relation in root if root is not None else ():
            target = relation.get("Target", "")
            joined = target.lstrip("/") if target.startswith("/") else f"{folder}/{target}"
            path = posixpath.normpath(joined).lstrip("/")
            kind = relation.get("Type", "").rpartition("/")[2]
            found[relation.get("Id", "")] = (kind, path)
        return found


def parsed(data: bytes) -> Any:
    parser = etree.XMLParser(
        remove_comments=True,
        remove_pis=True,
        resolve_entities=False,
        no_network=True,
        huge_tree=False,
    )
    return etree.fromstring(data, parser)


def name_of(element: Any) -> str:
    """Return the local name of an element."""
    tag = element.tag
    return tag.rpartition("}")[2] if isinstance(tag, str) else ""


def attribute(element: Any, name: str) -> str:
    """Return an attribute by its local name, "" without it."""
    for key, value in element.attrib.items():
        if key.rpartition("}")[2] == name:
            return str(value)
    return ""


def table(rows: list[list[str]]) -> str:
    """Return rows of cells as a Markdown table, whose first row is the header."""
    width = max((len(row) for row in rows), default=0)
    if not width:
        return ""
    lines = []
    for at, row in enumerate(rows):
        cells = [" ".join(cell.split()).replace("|", "\\|") for cell in row]
        lines.append(f"| {' | '.join(cells + [''] * (width - len(cells)))} |")
        if at == 0:
            lines.append(f"|{'---|' * width}")
    return "\n".join(lines)
