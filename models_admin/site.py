"""The administration: Django's own, with our sign-in and a first page that shows the state."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib.admin import AdminSite
from django.contrib.auth.views import LogoutView, redirect_to_login
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import reverse
from django.utils.decorators import method_decorator
from django.utils.translation import gettext_lazy as _
from django.views.decorators.cache import never_cache

from models_admin import dashboard


class ChatAdminSite(AdminSite):
    site_title = _("Administration")
    site_header = _("Administration")
    index_title = _("Overview")
    index_template = "admin/dashboard.html"

    def index(  # type: ignore[override]
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        return super().index(request, {"dashboard": dashboard.build(), **(extra_context or {})})

    @method_decorator(never_cache)
    def login(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """The one sign-in page, which counts failed attempts; the admin's own does not."""
        index = reverse("admin:index", current_app=self.name)
        if self.has_permission(request):
            return redirect(index)
        if request.user.is_authenticated:
            raise PermissionDenied
        return redirect_to_login(request.GET.get("next") or index)

    @method_decorator(never_cache)
    def logout(  # type: ignore[override]
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        return LogoutView.as_view(next_page=settings.LOGIN_URL)(request)

    def password_change(  # type: ignore[override]
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        return redirect("account_change_password")

    def get_urls(self) -> list[Any]:
        from models_admin.live.urls import urls  # they are decorated by this site

        return [*urls(), *super().get_urls()]

    def get_app_list(self, request: HttpRequest, app_label: str | None = None) -> list[Any]:
        """Django's list, behind the pages of our own."""
        listed = super().get_app_list(request, app_label)
        if app_label is not None or not request.user.has_perm("models_admin.view_job"):
            return listed
        pages = [("catalogue", _("Catalogue")), ("jobs", _("Jobs")), ("hosts", _("Hosts"))]
        if request.user.has_perm("models_admin.add_job"):
            pages.append(("exchange", _("Import and export")))
        if request.user.has_perm("models_admin.add_modelname"):
            pages.append(("modelfile", _("Custom model")))
        own = {
            "name": _("Models and machines"),
            "app_label": "live",
            "app_url": reverse("admin:jobs"),
            "has_module_perms": True,
            "models": [
                {
                    "name": name,
                    "object_name": page,
                    "perms": {"view": True},
                    "admin_url": reverse(f"admin:{page}"),
                    "add_url": None,
                    "view_only": True,
                }
                for page, name in pages
            ],
        }
        return [own, *listed]


site = ChatAdminSite()
