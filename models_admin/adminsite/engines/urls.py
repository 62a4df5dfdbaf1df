"""URLs of the pages of remote engines, within the admin site."""

from __future__ import annotations

from django.urls import URLPattern, path

from models_admin.adminsite.engines import views


def urls() -> list[URLPattern]:
    return [
        path("engines/", views.engines, name="engines"),
        path("engines/add/", views.edit, name="add_engine"),
        path("engines/<int:id>/", views.edit, name="engine"),
        path("engines/<int:id>/check/", views.check, name="check_engine"),
        path("engines/<int:id>/remove/", views.remove, name="remove_engine"),
        path("engines/<int:id>/models/<int:model>/offer/", views.offer, name="offer_engine_model"),
    ]
