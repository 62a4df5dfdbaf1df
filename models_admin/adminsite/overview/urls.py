from __future__ import annotations

from django.urls import URLPattern, path

from models_admin.adminsite.overview import views


def urls() -> list[URLPattern]:
    """Return the URL patterns of the overview; the page itself is the index of the site."""
    return [path("overview/now/", views.now, name="overview_now")]
