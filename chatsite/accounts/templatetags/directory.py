"""The tag of the sign-in page for sign-in with the directory."""

from __future__ import annotations

from typing import Any

from django import template
from django.conf import settings
from django.urls import reverse
from django.utils.http import urlencode

register = template.Library()


@register.simple_tag(takes_context=True)
def oidc_sign_in(context: Any) -> dict[str, str] | None:
    """Return ``name`` and ``url`` of sign-in with OpenID Connect; None if it is not configured."""
    if not settings.ENV.oidc_issuer:
        return None
    request = context.get("request")
    after = request.GET.get("next") or request.POST.get("next") if request else ""
    query = f"?{urlencode({'next': after})}" if after else ""
    return {"name": settings.ENV.oidc_name, "url": f"{reverse('openid_connect_login')}{query}"}
