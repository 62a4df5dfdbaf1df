"""Titles of conversations: the beginning of the first message at once, and a better one from the
model when it has answered. Pure.

What a model writes is believed only if it looks like a title: a small one repeats what it was
told as readily as it finds a name for it.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from typing import Final

from django.utils.text import Truncator

from chatsite.engine.messages import ChatMessage

MOST: Final = 60
# Tokens of a title in writing systems that vocabularies are poor in.
TOKENS: Final = 40
# Models of fewer parameters write nonsense.
LEAST_PARAMETERS: Final = 400_000_000
# What a row of the list shows, about, in Latin letters: what is shorter is a title already.
_SHOWN: Final = 32
# A text's writing system shows in its beginning.
_SAMPLE: Final = 2000
# As many characters taken from an answer, or from what was asked, are no chance.
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
# Talk about the answer in its place.
_TALK = re.compile(
    r"^(sure|certainly|of course|here (is|are)|here's|i'm|i am|i'll|i can|as an ai|"
    r"好的|当然|以下|抱歉|对不起)",
    re.I,
)
_JOINED = {"HIRAGANA": "CJK", "KATAKANA": "CJK", "KATAKANA-HIRAGANA": "CJK"}


def first_line(content: str) -> str:
    """The beginning of a conversation's first message, in one line."""
    return Truncator(" ".join(content.split())).chars(MOST)


def pays(content: str) -> bool:
    """Whether a better title than the first line is worth the model's time. Without text the
    title is the name of a file."""
    return not content.strip() or "\n" in content.strip() or _width(content) > _SHOWN


def question(first: str) -> ChatMessage:
    """What the model is asked behind a conversation that began with ``first``."""
    chinese = _script(first) == "CJK" and not _kana(first)
    return ChatMessage("user", _ASK_CHINESE if chinese else _ASK)


def read(text: str, first: str, answer: str, *, cut: bool) -> str:
    """The title in what the model wrote, "" where there is none to be believed. ``first`` and
    ``answer`` are the conversation's first messages; ``cut``: it was not done with writing."""
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
    """In one line, without what is not seen or turns the direction of what is."""
    kept = (c if unicodedata.category(c)[0] != "C" else " " for c in line)
    return " ".join("".join(kept).split())


def _unwrapped(line: str) -> str:
    """Without the marks that models put around a title, in whichever order."""
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
    """Whether it is what was asked, or how an answer began, and no name for it."""
    folded = _folded(title)
    asked = _folded(first[:_SAMPLE])
    said = _folded(answer.strip()[:_SAMPLE].partition("\n")[0])
    if not folded or folded == asked or any(folded in _folded(ask) for ask in _ASKS):
        return True
    # An answer's heading is a good title; the beginning of its first sentence is none.
    cut_out = [text for text in (asked, said) if text.startswith(folded) and text != folded]
    return len(folded) >= _COPIED and bool(cut_out)


def _folded(text: str) -> str:
    return "".join(c for c in text.casefold() if c.isalnum())


def _of_one_script(title: str, first: str) -> bool:
    """Whether the title has a letter of the writing system that the conversation is in."""
    script = _script(first)
    return not script or any(_script_of(c) == script for c in title)


def _script(text: str) -> str:
    """The writing system of most letters, such as LATIN; "" without any."""
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
