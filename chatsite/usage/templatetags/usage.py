"""Filters of usage pages."""

from __future__ import annotations

from django import template
from django.utils.formats import number_format
from django.utils.translation import gettext as _

from chatsite.usage.columns import COLUMNS, Column, Value
from chatsite.usage.figures import Figures

register = template.Library()
_NONE = "–"
# Beyond that a change in percent says little.
_MANIFOLD = 10


@register.filter
def full(value: Value) -> str:
    """Format a number with separators."""
    return _NONE if value is None else number_format(value, force_grouping=True)


@register.filter
def share(value: float | None) -> str:
    """Format a share of 0 to 1 as percent."""
    if value is None:
        return _NONE
    digits = 1 if 0 < value < 0.1 else 0
    return f"{number_format(round(value * 100, digits), digits)}%"


@register.filter
def milliseconds(value: float | None) -> str:
    """Format a time: below a second in ms."""
    if value is None:
        return _NONE
    if value < 1000:
        return _("%s ms") % number_format(round(value))
    if value < 100_000:
        return _("%s s") % number_format(round(value / 1000, 1), 1)
    return _("%s min") % number_format(round(value / 60_000, 1), 1)


@register.filter
def speed(value: float | None) -> str:
    """Format tokens per second."""
    if value is None:
        return _NONE
    return number_format(round(value, 1 if value < 10 else 0), 1 if value < 10 else 0)


_FORMATS = {"count": full, "share": share, "milliseconds": milliseconds, "speed": speed}


@register.simple_tag
def cell(column: Column, figures: Figures) -> str:
    """Format the value of a column."""
    formatted: str = _FORMATS[column.kind](column.value(figures))
    return formatted


@register.simple_tag
def percentiles(figures: Figures | None) -> dict[str, Value]:
    """Return the percentiles of figures by the name of their column; empty without figures."""
    if figures is None:
        return {}
    return {column.name: column.value(figures) for column in COLUMNS if column.costly}


@register.simple_tag
def change(now: Value, before: Value) -> str:
    """Return the change against the previous period, such as ``+12%``; "" if it has none."""
    if now is None or not before:
        return ""
    if now > before * _MANIFOLD:
        return f"> {_MANIFOLD}×"
    return f"{(now - before) / before * 100:+.0f}%".replace("-", "−")
