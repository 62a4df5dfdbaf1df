"""Files and names that the documents for contributors refer to exist."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [
    *(ROOT / name for name in ("CONTRIBUTING.md", "SECURITY.md")),
    *(ROOT / "docs" / name for name in ("glossary.md", "questions.md")),
    *sorted((ROOT / "docs" / "adr").glob("*.md")),
]
# `folder/file.py` or `folder/file.py:name`, from the top of the repository or of the package.
REFERENCE = re.compile(
    r"`((?:[\w-]+/)+[\w.-]+\.(?:py|js|lua|html|toml|md|txt|json|in))(?::(\w+))?`"
)


def broken(text: str) -> list[str]:
    """Return the references to files that do not exist and to names that their file lacks."""
    found = []
    for path, name in REFERENCE.findall(text):
        file = next((one for one in (ROOT / path, ROOT / "chatsite" / path) if one.exists()), None)
        if file is None or (name and not re.search(rf"\b{name}\b", file.read_text())):
            found.append(f"{path}:{name}" if name else path)
    return found


@pytest.mark.parametrize("path", DOCUMENTS, ids=lambda path: path.name)
def test_references_to_code_exist(path: Path) -> None:
    text = path.read_text()
    assert broken(text) == []


def test_broken_references_are_found() -> None:
    text = (
        "`manage.py` `engine/batching/slots.py:reusable_prefix_length`"
        " `engine/batching/slots.py:no_such` `chatsite/no/such.py`"
    )
    assert broken(text) == ["engine/batching/slots.py:no_such", "chatsite/no/such.py"]


def test_the_glossary_is_short() -> None:
    rows = re.findall(r"(?m)^\| (?!term|--)", (ROOT / "docs" / "glossary.md").read_text())
    assert 20 <= len(rows) <= 40
