"""Marks of citations: which are removed, and what is left alone. The page has the same cases."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from chatsite.conversations.citation_marks import clean

CASES = json.loads((Path(__file__).parents[2] / "cases" / "citations.json").read_text())


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["why"])
def test_only_marks_without_passage_are_removed(case: dict[str, Any]) -> None:
    assert clean(case["text"], case["passages"]) == (case["clean"], case["removed"])
    # What was cleaned is clean.
    assert clean(case["clean"], case["passages"]) == (case["clean"], 0)


@pytest.mark.parametrize("part", ["`", "``` ", "$", "[1", "[1]", "\\[", "$$", "a_[", "~~~", "[1,"])
def test_hostile_text_takes_linear_time(part: str) -> None:
    text = part * (50_000 // len(part))
    assert len(clean(text, 1)[0]) <= len(text)
