"""Titles of conversations: first the beginning of the first message, then a generated one. Pure.

Generated text is accepted only if it looks like a title: a small model is as likely to repeat its
input as to name it.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from typing import Final

from django.utils.text import Truncator

from chatsite.engine.contract.messages import ChatMessage

MOST: Final = 60
# Tokens of a title in writing systems that vocabularies cover poorly.
TOKENS: Final = 40
# Smaller models generate nonsense.
LEAST_PARAMETERS: Final = 400_000_000
# About what a row of the list shows, in Latin letters: shorter text already is a title.
_SHOWN: Final = 32
# The beginning of a text suffices to detect its writing system.
_SAMPLE: Final = 2000
# A match of this many characters with the question or the answer is no coincidence.
_COPIED: Final = 20

_ASK: Final = (
    "Write a short title for this conversation, of three to six words, in the language of my "
    "messages. Reply with the title only: no quotation marks, no explanation."
)
_ASK_CHINESE: Final = (
    "请为以上对话写一个简短的标题，不超过十二个字。只回复标题本身，不要引号，不要解释。"
)
_ASKS: Final = (_ASK, _ASK_CHINESE)

_LABEL = re.compile(r"^(title|titel|titre|título|titolo|标题|標題|题目)\s*[:：]\s*", re.I)
_MARKS = re.compile(r"^(#{1,6}\s+|[-*•]\s+|1[.)]\s+)")
_PAIRS = ('""', "''", "``", "**", "__", "“”", "‘’", "«»", "„“", "「」", "『』", "《》")
# Phrases of a reply in place of a title.
_TALK = re.compile(
    r"^(sure|certainly|of course|here (is|are)|here's|i'm|i am|i'll|i can|as an ai|"
    r"好的|当然|以下|抱歉|对不起)",
    re.I,
)
# Phrases that begin requests, in their usual order.
_OPENINGS: Final = tuple(
    re.compile(rf"^(?:{words})\b[\s,.!]*", re.I)
    for words in (
        "hi|hello|hey",
        "please",
        "(?:can|could|would|will) you|i (?:want|need) (?:you )?to|i'd like (?:you )?to",
        "please",
        "help me(?: to)?",
        "(?:write|give|tell|show|make|create|draft|generate|explain|describe)(?: me| us)?",
        "about",
    )
)
_ARTICLE = re.compile(r"^(?:an?|the|some)\s+", re.I)
_WORDS_LEFT: Final = 3
_JOINED = {"HIRAGANA": "CJK", "KATAKANA": "CJK", "KATAKANA-HIRAGANA": "CJK"}


def first_line(content: str) -> str:
    """Return the beginning of the first message in one line, without the phrases of requests.

    What follows them distinguishes the rows of a list.
    """
    line = whole = " ".join(content.split())
    for opening in _OPENINGS:
        line = _without(opening, line)
    if line != whole:
        line = _without(_ARTICLE, line)
    return Truncator(line).chars(MOST)


def _without(opening: re.Pattern[str], line: str) -> str:
    """Return the line without its opening, if enough words remain."""
    rest = opening.sub("", line)
    if rest == line or len(rest.split()) < _WORDS_LEFT:
        return line
    return rest[:1].upper() + rest[1:]


def worth_generating(content: str) -> bool:
    """Whether to generate a better title than the first line.

    Without text the title is the name of a file.
    """
    return not content.strip() or "\n" in content.strip() or _width(content) > _SHOWN


def title_prompt(first: str) -> ChatMessage:
    """Return the request for a title, for a conversation that began with ``first``."""
    chinese = _script(first) == "CJK" and not _kana(first)
    return ChatMessage("user", _ASK_CHINESE if chinese else _ASK)


def parse_title(text: str, first: str, answer: str, *, cut: bool) -> str:
    """Return the title in the generated text; "" if there is no plausible one.

    ``first`` and ``answer`` are the conversation's first messages; ``cut``: the text is truncated.
    """
    lines = [line for line in (_clean(line) for line in text.splitlines()) if line]
    if not lines or (cut and len(lines) < 2):
        return ""
    title = _unwrapped(lines[0])
    nonsense = (
        not 2 <= len(title) <= MOST
        or title.endswith((":", "：", ","))
        or _TALK.match(title)
        or not _of_one_script(title, first)
        or _copied(title, first, answer)
    )
    return "" if nonsense else title


def _clean(line: str) -> str:
    """Return the line without control and format characters."""
    kept = (c if unicodedata.category(c)[0] != "C" else " " for c in line)
    return " ".join("".join(kept).split())


def _unwrapped(line: str) -> str:
    """Return the line without the marks that models put around a title, nested in any order."""
    before = ""
    while line != before:
        before = line
        line = _LABEL.sub("", _MARKS.sub("", line)).strip()
        for pair in _PAIRS:
            if len(line) > 2 and line[0] + line[-1] == pair:
                line = line[1:-1].strip()
        if not line.endswith(("...", "…")):
            line = line.rstrip(".。").rstrip()
    return line


def _copied(title: str, first: str, answer: str) -> bool:
    """Whether the title copies the question or the beginning of the answer."""
    folded = _folded(title)
    asked = _folded(first[:_SAMPLE])
    said = _folded(answer.strip()[:_SAMPLE].partition("\n")[0])
    if not folded or folded == asked or any(folded in _folded(ask) for ask in _ASKS):
        return True
    # The heading of an answer is a good title; the beginning of its first sentence is not.
    cut_out = [text for text in (asked, said) if text.startswith(folded) and text != folded]
    return len(folded) >= _COPIED and bool(cut_out)


def _folded(text: str) -> str:
    return "".join(c for c in text.casefold() if c.isalnum())


def _of_one_script(title: str, first: str) -> bool:
    """Whether the title has a letter of the conversation's writing system."""
    script = _script(first)
    return not script or any(_script_of(c) == script for c in title)


def _script(text: str) -> str:
    """Return the writing system of most letters, such as LATIN; "" without letters."""
    found = Counter(filter(None, map(_script_of, text[:_SAMPLE])))
    return found.most_common(1)[0][0] if found else ""


def _script_of(char: str) -> str:
    name = unicodedata.name(char, "").split(" ")[0] if char.isalpha() else ""
    return _JOINED.get(name, name)


def _kana(text: str) -> bool:
    names = (unicodedata.name(c, "") for c in text[:_SAMPLE])
    return any(name.startswith(("HIRAGANA", "KATAKANA")) for name in names)


def _width(text: str) -> int:
    return sum(2 if unicodedata.east_asian_width(c) in "WF" else 1 for c in text)
