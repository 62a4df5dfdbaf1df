"""URLs of the policy section, within the admin site."""

from __future__ import annotations

from django.urls import URLPattern, path

from models_admin.adminsite.policy import preview, views


def urls() -> list[URLPattern]:
    found = [
        path("policy/", views.rules, name="policy"),
        path("policy/defaults/", views.defaults, name="policy_defaults"),
        path("policy/limits/", views.limits, name="policy_limits"),
        path("policy/quotas/", views.quotas, name="policy_quotas"),
        path("policy/preview/", preview.page, name="policy_preview"),
    ]
    for kind in views.KINDS.values():
        base = f"policy/{kind.name}s/"
        found += [
            path(f"{base}add/", views.edit, {"kind": kind.name}, name=f"policy_add_{kind.name}"),
            path(f"{base}<int:id>/", views.edit, {"kind": kind.name}, name=f"policy_{kind.name}"),
            path(
                f"{base}<int:id>/delete/",
                views.delete,
                {"kind": kind.name},
                name=f"policy_delete_{kind.name}",
            ),
        ]
    return found
