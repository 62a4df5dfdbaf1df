"""URLs of the audit section, within the admin site."""

from __future__ import annotations

from django.urls import URLPattern, path

from models_admin.adminsite.audit import views


def urls() -> list[URLPattern]:
    return [
        path("audit/", views.overview, name="audit"),
        path("audit/export/", views.export, name="audit_export"),
        path("audit/verify/", views.verify, name="audit_verify"),
        path("audit/<int:sequence>/", views.event, name="audit_event"),
    ]
