"""Tags of `admin/shell.html`."""

from __future__ import annotations

from typing import Any

from django import template
from django.utils.formats import number_format

from models_admin.adminsite import navigation

register = template.Library()


@register.inclusion_tag("admin/navigation.html", takes_context=True)
def admin_navigation(context: template.Context) -> dict[str, Any]:
    """Render the navigation of the administration for the user of the request."""
    return {"entries": navigation.entries(context["request"])}


@register.inclusion_tag("admin/meter.html")
def meter(used: float, total: float, label: str, warn: float = 0.85) -> dict[str, Any]:
    """Render a bar of ``used`` of ``total``; from the share ``warn`` on it is marked."""
    part = min(max(used / total, 0.0), 1.0) if total else 0.0
    tone = "bad" if part >= (1 + warn) / 2 else "warn" if part >= warn else ""
    return {"percent": round(part * 100), "label": label, "tone": tone}


@register.filter
def seconds(value: float | None) -> str:
    """Return a duration in seconds with two significant digits; a dash for None."""
    if value is None:
        return "–"
    digits = 0 if value >= 10 else 1 if value >= 1 else 2
    return f"{number_format(round(value, digits), digits)} s"


@register.filter
def rate(value: float) -> str:
    """Return a number per second with one decimal below 100."""
    return str(number_format(value, 0 if value >= 100 else 1))


@register.filter
def minus(value: int, other: int) -> int:
    return value - other


@register.filter
def percentage(share: float) -> str:
    return f"{number_format(round(share * 100))} %"
