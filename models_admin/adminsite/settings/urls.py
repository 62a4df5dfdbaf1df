from __future__ import annotations

from django.urls import URLPattern, path

from models_admin.adminsite.settings import views


def urls() -> list[URLPattern]:
    """Return the URL patterns of the settings."""
    return [
        path("settings/", views.settings, name="settings"),
        path("settings/logo/", views.change_logo, name="settings_logo"),
    ]
