from __future__ import annotations

from django.urls import URLPattern, path

from models_admin.live import catalogue_views, views


def urls() -> list[URLPattern]:
    """Of the administration's own pages."""
    return [
        path("catalogue/", catalogue_views.catalogue, name="catalogue"),
        path("jobs/", views.jobs, name="jobs"),
        path("jobs/<uuid:id>/log/", views.log, name="job_log"),
        *(
            path(f"jobs/<uuid:id>/{action}/", views.change, {"action": action}, f"job_{action}")
            for action in ("pause", "resume", "cancel")
        ),
        path("hosts/", views.hosts, name="hosts"),
        *(
            path(f"hosts/{action}/", views.place, {"action": action}, f"host_{action}")
            for action in ("load", "unload")
        ),
    ]
