"""Tags that every template has without `{% load %}`; see `TEMPLATES` in the settings."""

from __future__ import annotations

from typing import Any

from django import template
from django.templatetags.static import static
from django.urls import reverse

from chatsite.answers.gate import Maintenance
from chatsite.site_settings import banner, current

register = template.Library()


@register.simple_tag
def site_name() -> str:
    """Return the name of the site.

    This is a tag, not a context processor: Django renders some error pages without a request.
    """
    return current().site_name


@register.simple_tag
def site_logo() -> str:
    """Return the address of the site's logo: the uploaded one, or the product's."""
    digest = current().logo
    return reverse("logo", args=[digest]) if digest else static("icons/logo.svg")


@register.simple_tag
def site_greeting() -> str:
    """Return the heading of an empty chat that an administrator set; "" for the product's."""
    return current().greeting


@register.inclusion_tag("site_settings/notices.html", takes_context=True)
def site_notices(context: template.Context) -> dict[str, Any]:
    """Render maintenance mode, and the announcement that the user has not dismissed."""
    request = context["request"]
    values = current()
    user = getattr(request, "user", None)
    person = user.pk if user is not None and user.is_authenticated else None
    return {
        "digest": banner.notices_digest(),
        "maintenance": values.maintenance,
        "maintenance_text": values.maintenance_text or str(Maintenance.message),
        "announcement": banner.shown_to(person) if person else None,
        "csrf_token": context.get("csrf_token"),
        "request": request,
    }
