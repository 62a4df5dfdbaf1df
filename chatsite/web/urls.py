"""All URLs of the site; those that users rely on are fixed (see ARCHITECTURE.md)."""

from django.urls import include, path
from django.views.i18n import JavaScriptCatalog

from chatsite.api.core import http
from chatsite.api.ollama import common
from chatsite.web import notices
from chatsite.web.health import healthz, part
from chatsite.web.manifest import manifest
from chatsite.web.metrics import metrics
from models_admin.adminsite.site import site

handler404 = "chatsite.web.missing.page_not_found"
handler500 = "chatsite.web.error_pages.server_error"

urlpatterns = [
    path("", include("chatsite.chat.urls")),
    path("", include("chatsite.search.urls")),
    path("knowledge/", include("chatsite.knowledge.urls")),
    path("", include("chatsite.exchange.urls")),
    path("", include("chatsite.sharing.urls")),
    path("", include("chatsite.retention.urls")),
    path("", include("chatsite.feedback.urls")),
    path("", include("chatsite.usage.urls")),
    path("", include("chatsite.accounts.urls")),
    path("v1", http.nothing),
    path("v1/", include("chatsite.api.openai.urls")),
    path("api", common.nothing),
    path("api/", include("chatsite.api.ollama.urls")),
    path("admin/", site.urls),
    path("accounts/terms/", notices.terms_page, name="terms"),
    path("accounts/notices/", notices.notices, name="site_notices"),
    path("accounts/announcement/dismiss/", notices.dismiss, name="dismiss_announcement"),
    path("logo/<slug:digest>", notices.logo, name="logo"),
    path("manifest.json", manifest, name="manifest"),
    path("healthz", healthz),
    path("healthz/<str:name>", part, name="health_part"),
    path("metrics", metrics),
    path("i18n/", include("django.conf.urls.i18n")),
    path("jsi18n/", JavaScriptCatalog.as_view(packages=None), name="javascript-catalog"),
]
