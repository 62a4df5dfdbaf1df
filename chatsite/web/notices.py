"""Terms of use, the announcement and the logo: their pages and the middleware of the terms."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from django.contrib.auth.decorators import login_required
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.http import url_has_allowed_host_and_scheme, urlencode
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from chatsite.answers.gate import TermsNotAccepted
from chatsite.json_api import answered
from chatsite.site_settings import banner, current, terms
from chatsite.site_settings.models import Logo

# Below it are sign-in, second factors and one's own account, which work without acceptance. The
# APIs ask themselves.
_OPEN: Final = (
    *("accounts/", "setup/", "i18n/", "jsi18n/", "static/", "logo/", "v1/", "api/"),
    *("healthz", "metrics", "manifest.json"),
)


class TermsMiddleware:
    """Leads signed-in users to the terms of use until they have accepted the current version."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponseBase]) -> None:
        self.get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponseBase:
        if terms.required() and not request.path_info.lstrip("/").startswith(_OPEN):
            user = request.user
            if user.is_authenticated and not terms.accepted(user.pk):
                return _lead(request)
        return self.get_response(request)


def _lead(request: HttpRequest) -> HttpResponse:
    if request.method in {"GET", "HEAD"} and request.accepts("text/html"):
        query = urlencode({"next": request.get_full_path()})
        return redirect(f"{reverse('terms')}?{query}")
    error = TermsNotAccepted()
    return answered({"error": error.as_dict()}, status=error.status)


@never_cache
@login_required
@require_http_methods(["GET", "POST"])
def terms_page(request: HttpRequest) -> HttpResponse:
    """Show the terms of use; POST accepts the ``version`` that was shown."""
    values = current()
    version = terms.required()
    after = _safe(request, request.POST.get("next") or request.GET.get("next", ""))
    newer = False
    if request.method == "POST":
        if not version or terms.accept(request, request.POST.get("version", "")):
            return redirect(after)
        newer = True
    shown = {
        "text": values.terms_text,
        "version": version,
        "accepted": bool(version) and terms.accepted(request.user.pk or 0),
        "newer": newer,
        "next": after,
    }
    return render(request, "site_settings/terms.html", shown, status=409 if newer else 200)


@never_cache
@login_required
@require_safe
def notices(request: HttpRequest) -> HttpResponse:
    """Return the notices above a page as HTML, for a page that is open when they change."""
    return render(request, "site_settings/notices_of_page.html")


@login_required
@require_POST
def dismiss(request: HttpRequest) -> HttpResponse:
    """Hide the announcement for this user until its text changes."""
    banner.dismiss(request.user.pk or 0, request.POST.get("digest", ""))
    if request.headers.get("X-Requested-With") == "fetch":
        return HttpResponse(status=204)
    return redirect(_safe(request, request.POST.get("next", "")))


@require_safe
def logo(request: HttpRequest, digest: str) -> HttpResponse:
    """Return the logo. Its address has the digest of its content, so it is cached forever."""
    found = Logo.objects.filter(digest=digest).first()
    if found is None:
        raise Http404
    response = HttpResponse(bytes(found.content), content_type=found.media_type)
    response["Cache-Control"] = "public, max-age=31536000, immutable"
    response["Content-Security-Policy"] = "default-src 'none'; sandbox"
    return response


def _safe(request: HttpRequest, address: str) -> str:
    """Return ``address`` if it is on this site, else the chat page."""
    allowed = url_has_allowed_host_and_scheme(
        address, {request.get_host()}, require_https=request.is_secure()
    )
    return address if allowed else reverse("chat")
