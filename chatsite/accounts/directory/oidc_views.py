"""Pages of sign-in with OpenID Connect."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import requests
from allauth.account.utils import get_next_redirect_url
from allauth.socialaccount.providers.oauth2.client import OAuth2Error
from allauth.socialaccount.providers.oauth2.views import OAuth2CallbackView
from django.conf import settings
from django.contrib.messages import get_messages
from django.http import Http404, HttpRequest, HttpResponse, HttpResponseBase, HttpResponseRedirect
from django.shortcuts import redirect, render
from django.urls import reverse
from django.utils.cache import add_never_cache_headers
from django.utils.http import urlencode
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_GET

from chatsite.accounts.directory import oidc
from chatsite.errors import ChatsiteError

View = Callable[..., HttpResponseBase]


def _caught(view: View) -> View:
    """Show an error of the provider as a page; 404 if no provider is configured."""

    @wraps(view)
    def wrapper(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        if not settings.ENV.oidc_issuer:
            raise Http404
        try:
            return view(request, *args, **kwargs)
        except (ChatsiteError, oidc.BadToken) as error:
            return oidc.failure_page(request, error)
        except (requests.RequestException, OAuth2Error) as error:
            return oidc.failure_page(request, oidc.unavailable(error))

    return wrapper


@never_cache
@require_GET
@_caught
def login(request: HttpRequest, provider_id: str = oidc.PROVIDER_ID) -> HttpResponseBase:
    """Redirect to the provider. A signed-in user stays signed in.

    It is a link, not a form: the content security policy would have to list all hosts that a
    provider redirects to. Starting a sign-in by someone else's link only signs the user in as
    themselves.
    """
    after = get_next_redirect_url(request)
    if request.user.is_authenticated:
        return redirect(after or settings.LOGIN_REDIRECT_URL)
    provider = oidc.SocialAdapter(request).get_provider(request, oidc.PROVIDER_ID)
    response: HttpResponse = provider.begin(request, after)
    return response


@never_cache
@require_GET
@_caught
def callback(request: HttpRequest, provider_id: str = oidc.PROVIDER_ID) -> HttpResponseBase:
    """Complete the sign-in with what the provider sent the browser back with."""
    view = OAuth2CallbackView.adapter_view(oidc.Adapter(request, oidc.PROVIDER_ID))
    try:
        response: HttpResponseBase = view(request)
    except (KeyError, TypeError, ValueError) as error:
        raise oidc.BadToken(f"the provider's answer is malformed: {error!r}") from error
    return response


def straight_to_provider(view: View) -> View:
    """Redirect the sign-in page to the provider if `CHATSITE_OIDC_DIRECT` is set.

    Not with ``?local``, nor while the page has something to say: after a sign-out, the user would
    be signed in again at once.
    """

    @wraps(view)
    def wrapper(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        direct = settings.ENV.oidc_issuer and settings.ENV.oidc_direct
        plain = request.method == "GET" and "local" not in request.GET
        if (
            direct
            and plain
            and not request.user.is_authenticated
            and not len(get_messages(request))
        ):
            query = request.GET.urlencode()
            return redirect(f"{reverse('openid_connect_login')}{'?' if query else ''}{query}")
        return view(request, *args, **kwargs)

    return wrapper


def at_provider_too(view: View) -> View:
    """Let the sign-out continue at the provider, if `CHATSITE_OIDC_SIGN_OUT` is set.

    The page that does it is a response of its own: the content security policy forbids a form to
    be redirected to another host.
    """

    @wraps(view)
    def wrapper(request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponseBase:
        id_token = request.session.get(oidc.ID_TOKEN_KEY)
        response = view(request, *args, **kwargs)
        ended = isinstance(response, HttpResponseRedirect) and not request.user.is_authenticated
        if not (ended and settings.ENV.oidc_issuer):
            return response
        local = f"{reverse('account_login')}?{urlencode({'local': 1})}"
        after = local if settings.ENV.oidc_direct else reverse("account_login")
        target = oidc.end_session_url(request, id_token, after) if id_token else None
        if target is None:
            return redirect(local) if settings.ENV.oidc_direct else response
        page = render(
            request,
            "accounts/signing_out.html",
            {"target": target, "provider": settings.ENV.oidc_name},
        )
        add_never_cache_headers(page)
        return page

    return wrapper
