from __future__ import annotations

from django.urls import URLPattern, path

from models_admin.adminsite.privacy import reads, retention


def urls() -> list[URLPattern]:
    """Return the URL patterns of retention, legal holds, deletions and reads."""
    return [
        path("privacy/retention/", retention.page, name="retention"),
        path("privacy/retention/group/", retention.change_group, name="retention_group"),
        path("privacy/retention/run/", retention.run, name="retention_run"),
        path("privacy/holds/", retention.holds_page, name="holds"),
        path("privacy/holds/place/", retention.place_hold, name="place_hold"),
        path("privacy/holds/<int:id>/lift/", retention.lift_hold, name="lift_hold"),
        path("privacy/deletions/", retention.deletions_page, name="deletions"),
        path("privacy/deletions/account/", retention.delete_account, name="delete_account"),
        path("privacy/reads/", reads.page, name="reads"),
        path("privacy/reads/begin/", reads.begin, name="begin_read"),
        path("privacy/reads/<uuid:id>/", reads.read, name="read_conversation"),
    ]
