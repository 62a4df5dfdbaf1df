"""What pypdf reads of PDF files: form fields, and pages that PDFium can't open.

Runs only in the reader child.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from functools import cached_property
from typing import Any


class Reader:
    """Pages are numbered from 1. The file is parsed at the first use; any method may raise."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    @cached_property
    def _reader(self) -> Any:
        # Imported late: most files don't need it.
        from pypdf import PdfReader

        return PdfReader(io.BytesIO(self._data))

    def is_locked(self) -> bool:
        """Return whether the file can be opened only with a password."""
        return bool(self._reader.is_encrypted and not self._reader.decrypt(""))

    def count(self) -> int:
        return len(self._reader.pages)

    def title(self) -> str:
        try:
            return str(self._reader.metadata.title or "") if self._reader.metadata else ""
        except Exception:  # noqa: BLE001  (damaged metadata does not matter)
            return ""

    def text(self, number: int) -> str:
        return str(self._reader.pages[number - 1].extract_text())

    def fields(self, number: int) -> Iterator[str]:
        """Yield the filled-in form fields of a page as ``name: value``."""
        for reference in self._reader.pages[number - 1].get("/Annots") or ():
            field = reference.get_object()
            value = _inherited(field, "/V")
            if field.get("/Subtype") != "/Widget" or value in (None, "", "/Off"):
                continue
            values = value if isinstance(value, list) else [value]
            name = str(_inherited(field, "/T") or "").strip()
            shown = ", ".join(str(one).removeprefix("/").strip() for one in values)
            yield f"{name}: {shown}" if name else shown


def _inherited(field: Any, key: str) -> Any:
    """Return a value of a form field, which it may inherit from a parent field."""
    for _depth in range(10):
        if key in field:
            return field[key]
        if "/Parent" not in field:
            return None
        field = field["/Parent"].get_object()
    return None
