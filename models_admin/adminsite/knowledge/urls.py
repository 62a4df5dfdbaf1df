"""URLs of the knowledge page, within the admin site."""

from __future__ import annotations

from django.urls import URLPattern, path

from models_admin.adminsite.knowledge import views


def urls() -> list[URLPattern]:
    return [
        path("knowledge/", views.overview, name="knowledge"),
        path("knowledge/retry/", views.retry, name="retry_documents"),
    ]
