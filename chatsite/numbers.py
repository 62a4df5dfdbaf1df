"""Whole numbers in untrusted text."""

from __future__ import annotations


def natural(text: str, most: int) -> int | None:
    """Return the number in ASCII digits; None if it is invalid or above ``most``.

    Checks the length first: Python refuses to convert more than 4,300 digits, and takes quadratic
    time below that.
    """
    if not (text.isascii() and text.isdecimal()):
        return None
    digits = text.lstrip("0") or "0"
    if len(digits) > len(str(most)):
        return None
    found = int(digits)
    return found if found <= most else None
