"""The admin site: Django's, with the project's sign-in, navigation and pages."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib.admin import AdminSite
from django.contrib.auth.views import LogoutView, redirect_to_login
from django.core.exceptions import PermissionDenied
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect
from django.urls import path, reverse
from django.utils.decorators import method_decorator
from django.utils.translation import gettext_lazy as _
from django.views.decorators.cache import never_cache

from models_admin.adminsite import navigation


class ChatAdminSite(AdminSite):
    site_title = _("Administration")
    site_header = _("Administration")
    index_title = _("Advanced")
    enable_nav_sidebar = False

    def index(  # type: ignore[override]
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Show the overview, or redirect to the first page that the user may open."""
        if not request.user.has_perm("models_admin.view_job"):
            first = navigation.first_address(request)
            if first is None:
                raise PermissionDenied
            return redirect(first)
        from models_admin.adminsite.overview.views import overview  # decorated by this site

        return overview(request)

    def advanced(self, request: HttpRequest) -> HttpResponse:
        """Show Django's index of all tables, for superusers."""
        if not request.user.is_superuser:
            raise PermissionDenied
        return super().index(request)

    @method_decorator(never_cache)
    def login(
        self, request: HttpRequest, extra_context: dict[str, Any] | None = None
    ) -> HttpResponse:
        """Redirect to the site's sign-in page, which counts failed attempts."""
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
        # Their views are decorated by this site.
        from models_admin.adminsite.audit.urls import urls as audit
        from models_admin.adminsite.engines.urls import urls as engines
        from models_admin.adminsite.knowledge.urls import urls as knowledge
        from models_admin.adminsite.live.urls import urls as live
        from models_admin.adminsite.overview.urls import urls as overview
        from models_admin.adminsite.people.urls import urls as people
        from models_admin.adminsite.policy.urls import urls as policy
        from models_admin.adminsite.privacy.urls import urls as privacy
        from models_admin.adminsite.settings.urls import urls as settings_pages
        from models_admin.adminsite.usage.urls import urls as usage

        sections = (
            *(
                overview,
                live,
                engines,
                knowledge,
                people,
                privacy,
                policy,
                usage,
                audit,
                settings_pages,
            ),
        )
        advanced = path("advanced/", self.admin_view(self.advanced), name="advanced")
        own = [one for urls in sections for one in urls()]
        return [*own, advanced, *super().get_urls()]


site = ChatAdminSite()
