"""Sizes in bytes, formatted for users."""

from __future__ import annotations

from typing import Final

from django.template.defaultfilters import filesizeformat

_UNITS: Final = tuple(1 << (10 * power) for power in range(1, 6))


def file_size(count: int) -> str:
    """Format a number of bytes as Django's `filesizeformat`, with fewer digits.

    At most three before the point: ``1.0 GB``, not ``1021.6 MB``.
    """
    for unit in _UNITS:
        # 1000 to 1023 of the smaller unit round to 1.0 of this one.
        if unit * 1000 // 1024 <= count < unit:
            return filesizeformat(unit)
    return filesizeformat(count)
