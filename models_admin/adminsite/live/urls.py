from __future__ import annotations

from django.urls import URLPattern, path

from models_admin.adminsite.live import catalogue_views, exchange_views, modelfile_views, views


def urls() -> list[URLPattern]:
    """Return the URL patterns of the admin's own pages."""
    return [
        path("catalogue/", catalogue_views.catalogue, name="catalogue"),
        path("jobs/", views.jobs, name="jobs"),
        path("jobs/<uuid:id>/log/", views.log, name="job_log"),
        *(
            path(f"jobs/<uuid:id>/{action}/", views.change, {"action": action}, f"job_{action}")
            for action in ("pause", "resume", "retry", "cancel")
        ),
        path("jobs/<uuid:id>/remove/", views.remove, name="job_remove"),
        path("jobs/<uuid:id>/default/", views.make_default, name="job_default"),
        path("exchange/", exchange_views.exchange, name="exchange"),
        path("exchange/import/", exchange_views.import_file, name="import_file"),
        path("exchange/export/", exchange_views.export, name="export"),
        path("uploads/", exchange_views.begin_upload, name="begin_upload"),
        path("uploads/<uuid:id>/", exchange_views.upload, name="upload"),
        path("uploads/<uuid:id>/install/", exchange_views.install_upload, name="install_upload"),
        path("modelfile/", modelfile_views.edit, name="modelfile"),
        path("modelfile/download/", modelfile_views.download, name="modelfile_download"),
        path("hosts/", views.hosts, name="hosts"),
        *(
            path(f"hosts/{action}/", views.place, {"action": action}, f"host_{action}")
            for action in ("load", "unload")
        ),
    ]
