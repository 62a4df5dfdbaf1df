"""Text from bytes without a stated encoding.

UTF-8 and UTF-16 are recognized by their structure. Legacy encodings are ranked by chardet, by
language statistics, which are weak for the few non-ASCII characters of a table. So candidates that
put letters and marks where no language has them are dropped first.
"""

from __future__ import annotations

import codecs
import re
import unicodedata
from dataclasses import dataclass
from typing import Final

# Encodings of files that are still in use. The rare ones need twice the evidence.
_COMMON: Final = (
    *("cp1250", "cp1251", "cp1252", "cp1253", "cp1254", "cp1255", "cp1256", "cp1257"),
    *("koi8-r", "cp874", "cp932", "euc-jp", "gb18030", "big5", "cp949"),
)
_RARE: Final = ("iso8859-2", "iso8859-5", "iso8859-7", "mac-roman", "cp850", "cp852", "cp866")
_RARE_WEIGHT: Final = 0.5
_DEFAULT: Final = "cp1252"
# Windows-1252, the most common, is chosen if its confidence is at least this share of the best:
# a few accented letters are as likely in several Latin encodings.
_DEFAULT_SHARE: Final = 0.65
_ODD_MARGIN: Final = 0.1
_SAMPLE_BYTES: Final = 200_000
_BOMS: Final = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
# Escape sequences by which ISO-2022-JP, which is 7-bit like ASCII, switches to Japanese.
_JIS_MARKS: Final = (b"\x1b$B", b"\x1b$@", b"\x1b$(")
# Control characters that no text file has.
_BINARY: Final = re.compile(r"[\x00-\x08\x0e-\x1a\x1c-\x1f]")
_ASCII: Final = frozenset(b"\t\n\r") | frozenset(range(0x20, 0x7F))
_APOSTROPHES: Final = "’‘·\u00ad"
# From here on, letters belong to scripts that do not mix with ASCII letters within a word.
_LATIN_END: Final = "\u0250"
_CJK_START: Final = "\u2000"


class NotText(Exception):
    """The bytes are not text in any encoding."""


@dataclass(frozen=True)
class Decoded:
    """Decoded text.

    ``guessed`` is the usual name of the encoding if the file does not state it. ``replaced`` counts
    byte sequences that are not valid UTF-8.
    """

    text: str
    guessed: str = ""
    replaced: int = 0


def decode(data: bytes) -> Decoded:
    """Return the text of ``data``. Raises `NotText`."""
    for bom, encoding in _BOMS:
        if data.startswith(bom):
            return Decoded(data.decode(encoding, "replace"))
    if b"\x00" in data:
        return _utf16(data)
    if any(mark in data for mark in _JIS_MARKS):
        try:
            return Decoded(data.decode("iso2022_jp_2"))
        except UnicodeDecodeError:
            pass
    try:
        return Decoded(data.decode("utf-8"))
    except UnicodeDecodeError:
        pass
    return _damaged_utf8(data) or _legacy(data)


def _utf16(data: bytes) -> Decoded:
    """Decode UTF-16 without a byte order mark: every other byte of its ASCII characters is NUL."""
    sample = data[:_SAMPLE_BYTES]
    for encoding, first in (("utf-16-le", 1), ("utf-16-be", 0)):
        pairs = zip(sample[first::2], sample[1 - first :: 2], strict=False)
        plain = sum(not high and low in _ASCII for high, low in pairs)
        # More than half of the characters, so that a binary file is not taken for Chinese.
        if len(data) % 2 == 0 and plain * 4 > len(sample):
            try:
                text = data.decode(encoding)
            except UnicodeDecodeError:
                continue
            if not _BINARY.search(text):
                return Decoded(text, guessed="UTF-16")
    raise NotText


def _damaged_utf8(data: bytes) -> Decoded | None:
    """Decode UTF-8 that was cut within a character or has stray bytes.

    Text in a legacy encoding hardly ever has valid multi-byte sequences, so they decide.
    """
    text = data.decode("utf-8", "replace")
    replaced = text.count("\ufffd") - data.count("\ufffd".encode())
    valid = sum(char > "\x7f" for char in text) - text.count("\ufffd")
    return Decoded(text, replaced=replaced) if valid >= replaced else None


def _legacy(data: bytes) -> Decoded:
    import chardet

    found = chardet.detect_all(
        data[:_SAMPLE_BYTES], ignore_threshold=True, include_encodings=(*_COMMON, *_RARE)
    )
    rare = {codecs.lookup(name).name for name in _RARE}
    candidates: list[tuple[float, float, str]] = []
    for one in found:
        name = codecs.lookup(one["encoding"] or _DEFAULT).name
        weight = _RARE_WEIGHT if name in rare else 1.0
        try:
            text = data.decode(name)
        except UnicodeDecodeError:
            continue
        candidates.append((odd_share(text[:_SAMPLE_BYTES]), one["confidence"] * weight, name))
    if not candidates:
        return Decoded(data.decode(_DEFAULT, "replace"), guessed=_usual_name(_DEFAULT))
    least = min(odd for odd, _, _ in candidates)
    plausible = {name: sure for odd, sure, name in candidates if odd <= least + _ODD_MARGIN}
    best = max(plausible, key=lambda name: plausible[name])
    if plausible.get(_DEFAULT, 0) >= _DEFAULT_SHARE * plausible[best]:
        best = _DEFAULT
    return Decoded(data.decode(best), guessed=_usual_name(best))


def odd_share(text: str) -> float:
    """Return the share of non-ASCII characters in places where no language has them.

    Capitals after small letters, signs within words, Cyrillic or Greek letters beside ASCII ones.
    """
    foreign = odd = 0
    for number, char in enumerate(text):
        if char <= "\x7f":
            continue
        foreign += 1
        before = text[number - 1] if number else " "
        after = text[number + 1] if number + 1 < len(text) else " "
        odd += _is_odd(char, before, after)
    return odd / foreign if foreign else 0.0


def _is_odd(char: str, before: str, after: str) -> bool:
    category = unicodedata.category(char)
    if category in {"Cc", "Cn", "Co"}:
        return True
    if category.startswith("M"):
        return False
    if not category.startswith("L"):
        return before.isalpha() and after.isalpha() and char not in _APOSTROPHES
    if category == "Lu" and before.islower():
        return True
    if char < _LATIN_END:
        within_capitals = before.isupper() and after.isupper()
        return category == "Ll" and within_capitals and char != "ß"
    beside_ascii = any(other.isascii() and other.isalpha() for other in (before, after))
    return char < _CJK_START and beside_ascii


def _usual_name(encoding: str) -> str:
    if encoding.startswith("cp125"):
        return f"Windows-{encoding[2:]}"
    names = {
        "cp932": "Shift_JIS",
        "cp949": "EUC-KR",
        "gb18030": "GB18030",
        "mac-roman": "Mac Roman",
    }
    return names.get(encoding, encoding.upper().replace("_", "-"))
