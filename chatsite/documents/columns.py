"""Reading order of a page whose lines are stored across its columns.

Most files store a column after the other, and their order is kept. Some, from typesetting by rows,
store the first line of each column, then the second ones: their text is read as nonsense. Such
pages are recognized by lines that change sides all the time, with a clear gutter between them.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from statistics import median
from typing import Final, NamedTuple

# Points. A gutter is wider than the space between words.
_GUTTER: Final = 8.0
# The gutter is in the middle part of the text.
_MARGIN: Final = 0.2
# Prose has long lines that fill their column, and columns wider than the gutter; the cells of a
# table of two columns mostly don't.
_FILLED: Final = 0.6
_GUTTERS_LEAST: Final = 1.5
_LINES_LEAST: Final = 6
# A gutter may be crossed by titles and by wide tables or figures: this share of the rows.
_CROSSED: Final = 0.3


class Box(NamedTuple):
    """The place of a run of text, in points from the lower left corner."""

    left: float
    bottom: float
    right: float
    top: float

    def turned(self, quarters: int) -> Box:
        """Return the box as it is on the page whose text is upright.

        ``quarters``: by how many quarters the text is turned counterclockwise.
        """
        left, bottom, right, top = self
        if quarters == 1:
            return Box(bottom, -right, top, -left)
        if quarters == 2:
            return Box(-right, -top, -left, -bottom)
        if quarters == 3:
            return Box(-top, left, -bottom, right)
        return self


def rows(boxes: Sequence[Box]) -> list[list[Box]]:
    """Return boxes by row, in their order: one that is level with its predecessor continues it."""
    found: list[list[Box]] = []
    for box in boxes:
        if found and _are_level(found[-1][-1], box):
            found[-1].append(box)
        else:
            found.append([box])
    return found


def order(boxes: Sequence[Box]) -> list[list[int]] | None:
    """Return groups of indices of ``boxes`` in reading order; None to keep the order as it is."""
    if len(boxes) < 2 * _LINES_LEAST:
        return None
    gutter = _gutter(boxes)
    if gutter is None:
        return None
    sides = [_side(box, gutter) for box in boxes]
    left = [at for at, side in enumerate(sides) if side < 0]
    right = [at for at, side in enumerate(sides) if side > 0]
    if min(len(left), len(right)) < _LINES_LEAST:
        return None
    changes = sum(a * b < 0 for a, b in pairwise(sides))
    if changes < min(len(left), len(right)):
        return None
    if not all(_is_prose([boxes[at] for at in side], gutter) for side in (left, right)):
        return None
    groups: list[list[int]] = []
    for band in _bands(boxes, sides):
        for wanted in (0, -1, 1):
            part = [at for at in band if sides[at] == wanted]
            part.sort(key=lambda at: (-round(boxes[at].bottom), boxes[at].left))
            if part:
                groups.append(part)
    return groups


def _are_level(one: Box, other: Box) -> bool:
    height = min(one.top - one.bottom, other.top - other.bottom)
    return min(one.top, other.top) - max(one.bottom, other.bottom) > height / 2


def _gutter(boxes: Sequence[Box]) -> tuple[float, float] | None:
    """Return left and right end of the widest gap between columns, or None."""
    first, last = min(box.left for box in boxes), max(box.right for box in boxes)
    width = int(last - first) + 1
    if not 0 < width < 20_000:
        return None
    # How many boxes cover each point, from the changes at their ends.
    changes = [0] * (width + 2)
    for box in boxes:
        changes[int(box.left - first)] += 1
        changes[min(width, int(box.right - first) + 1)] -= 1
    covered, most = 0, _CROSSED * len(boxes) / 2
    best = (0, 0)
    begun: int | None = None
    for at in range(width + 1):
        covered += changes[at]
        inside = _MARGIN * width < at < (1 - _MARGIN) * width
        if inside and covered <= most:
            begun = at if begun is None else begun
            best = max(best, (at - begun, begun))
        else:
            begun = None
    length, start = best
    return (first + start, first + start + length) if length >= _GUTTER else None


def _side(box: Box, gutter: tuple[float, float]) -> int:
    """Return -1 for the left column, 1 for the right one, 0 for a box over both."""
    middle = (gutter[0] + gutter[1]) / 2
    if box.right <= middle:
        return -1
    return 1 if box.left >= middle else 0


def _is_prose(boxes: Sequence[Box], gutter: tuple[float, float]) -> bool:
    width = max(box.right for box in boxes) - min(box.left for box in boxes)
    usual = median(box.right - box.left for box in boxes)
    return usual >= _FILLED * width and width >= _GUTTERS_LEAST * (gutter[1] - gutter[0])


def _bands(boxes: Sequence[Box], sides: Sequence[int]) -> list[list[int]]:
    """Return the boxes between those over both columns, from the top; each begins with such."""
    bands: list[list[int]] = [[]]
    for at in sorted(range(len(boxes)), key=lambda at: -boxes[at].bottom):
        if sides[at] == 0 and any(sides[one] for one in bands[-1]):
            bands.append([])
        bands[-1].append(at)
    return bands
