"""Follow-up questions, searched with what they refer to.

No model is asked: that would take longer than the search, and small models invent. A question that
is short or refers back is searched together with the one before it.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from chatsite.text_terms import sequence

# A question with fewer terms of its own rarely names its subject.
_FEW_TERMS: Final = 4
_BEFORE_CHARS: Final = 300
_REFERS: Final = re.compile(
    r"\b(it|its|they|them|their|this|that|these|those|former|latter)\b"
    r"|[它他她这那此该其]|上述|前者|后者",
    re.IGNORECASE,
)
# A longer question says what it is about.
_LONG_TERMS: Final = 14


def standalone(question: str, history: Sequence[str]) -> str:
    """Return the text to search for ``question``.

    ``history`` has the messages before it, oldest first: questions and answers in turn.
    """
    earlier = history[-2] if len(history) > 1 else "".join(history)
    if not earlier.strip():
        return question
    opening = question[:_BEFORE_CHARS]
    count = len(sequence(opening))
    if count > _LONG_TERMS or (count > _FEW_TERMS and not _REFERS.search(opening)):
        return question
    return f"{question}\n{earlier[-_BEFORE_CHARS:]}"
