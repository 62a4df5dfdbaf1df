"""All addresses of the site; those that users rely on are fixed (see ARCHITECTURE.md)."""

from django.urls import include, path
from django.views.i18n import JavaScriptCatalog

from chatsite.health import healthz
from chatsite.metrics import metrics
from models_admin.site import site

urlpatterns = [
    path("", include("chatsite.chat.urls")),
    path("", include("chatsite.search.urls")),
    path("", include("chatsite.exchange.urls")),
    path("", include("chatsite.sharing.urls")),
    path("", include("chatsite.accounts.urls")),
    path("v1/", include("chatsite.api.urls")),
    path("api/", include("chatsite.api.ollama_urls")),
    path("admin/", site.urls),
    path("healthz", healthz),
    path("metrics", metrics),
    path("i18n/", include("django.conf.urls.i18n")),
    path("jsi18n/", JavaScriptCatalog.as_view(packages=None), name="javascript-catalog"),
]
