"""URLs of the usage section, within the admin site."""

from __future__ import annotations

from django.urls import URLPattern, path

from models_admin.adminsite.usage import feedback, views


def urls() -> list[URLPattern]:
    return [
        path("usage/", views.overview, name="usage"),
        path("usage/feedback/", feedback.overview, name="usage_feedback"),
        path("usage/feedback/<int:id>/", feedback.shared, name="usage_feedback_shared"),
        path("usage/<slug:by>/", views.table, name="usage_table"),
        path("usage/<slug:by>.csv", views.download, name="usage_csv"),
    ]
