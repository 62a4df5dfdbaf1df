"""Sign-in with OpenID Connect, over allauth's provider of the same name.

allauth does the authorization code flow with state and PKCE. Added here: a nonce, the signature and
the claims of the ID token, what the claims mean for the account (`person_of`), and bounds of all
requests (`outside`). The account is found or created by `accounts.admit`, not by allauth's sign-up,
and identities are stored in `DirectoryIdentity`, without the claims.
"""

from __future__ import annotations

import hmac
import logging
import secrets
import threading
import time
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import urlencode

import jwt
import requests
from allauth.core.exceptions import ImmediateHttpResponse
from allauth.socialaccount.adapter import DefaultSocialAccountAdapter
from allauth.socialaccount.models import SocialApp, SocialLogin
from allauth.socialaccount.providers.base import ProviderException
from allauth.socialaccount.providers.openid_connect.provider import OpenIDConnectProvider
from allauth.socialaccount.providers.openid_connect.views import OpenIDConnectOAuth2Adapter
from django.conf import settings
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.utils.translation import gettext_lazy as _

from chatsite.accounts.directory import accounts
from chatsite.accounts.directory.outside import ProviderSession, is_allowed
from chatsite.accounts.directory.person import (
    DirectoryGroup,
    DirectoryUnavailable,
    Person,
    SignInRefused,
)
from chatsite.accounts.models import DirectoryIdentity
from chatsite.audit.record import record
from chatsite.errors import ChatsiteError

logger = logging.getLogger(__name__)

PROVIDER_ID: Final = "oidc"
# Of the session: the ID token, which the provider's sign-out asks for.
ID_TOKEN_KEY: Final = "oidc_id_token"  # noqa: S105
_ALGORITHMS: Final = frozenset(
    {
        *("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
        *("ES256", "ES384", "ES512", "EdDSA"),
    }
)
_CACHE_SECONDS: Final = 600.0
# After an unknown key ID the keys are read again, at most this often.
_KEYS_AGAIN_SECONDS: Final = 10.0
_CLOCK_SKEW_SECONDS: Final = 60
_GROUP_CHARS: Final = 200


class BadToken(ProviderException):  # type: ignore[misc]  # untyped library
    """The provider's answer is not valid; the text is for the log."""


class _Cached:
    """A document of the provider, kept for some minutes so that a sign-in needs few requests."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._entries: dict[str, tuple[float, dict[str, Any]]] = {}

    def get(self, url: str, *, most_seconds: float = _CACHE_SECONDS) -> dict[str, Any]:
        """Return the JSON object at ``url``. Raises `DirectoryUnavailable`."""
        with self._lock:
            entry = self._entries.get(url)
        if entry is not None and time.monotonic() - entry[0] < most_seconds:
            return entry[1]
        found = _get_json(url)
        with self._lock:
            self._entries[url] = (time.monotonic(), found)
        return found

    def clear(self) -> None:
        with self._lock:
            self._entries.clear()


_documents = _Cached()


def forget_documents() -> None:
    """Read the provider's documents again at the next use."""
    _documents.clear()


def _get_json(url: str) -> dict[str, Any]:
    try:
        with ProviderSession() as session:
            response = session.get(url)
            response.raise_for_status()
            found = response.json()
    except (requests.RequestException, ValueError) as error:
        raise unavailable(error) from error
    if not isinstance(found, dict):
        raise unavailable(ValueError(f"{url} is not a JSON object"))
    return found


def unavailable(error: Exception) -> DirectoryUnavailable:
    logger.warning("OpenID Connect provider can't be used", extra={"error": error})
    return DirectoryUnavailable()


def discovery_url() -> str:
    return f"{settings.ENV.oidc_issuer.rstrip('/')}/.well-known/openid-configuration"


def configuration() -> dict[str, Any]:
    """Return the provider's discovery document. Raises `DirectoryUnavailable`."""
    found = _documents.get(discovery_url())
    if str(found.get("issuer", "")).rstrip("/") != settings.ENV.oidc_issuer.rstrip("/"):
        forget_documents()
        raise unavailable(
            ValueError(
                f"the provider calls itself {found.get('issuer')!r}, not CHATSITE_OIDC_ISSUER"
            )
        )
    for name in ("authorization_endpoint", "token_endpoint", "jwks_uri"):
        if not isinstance(found.get(name), str):
            raise unavailable(ValueError(f"the discovery document has no {name}"))
    return found


class Adapter(OpenIDConnectOAuth2Adapter):  # type: ignore[misc]
    """allauth's adapter with our rules for documents, tokens and claims."""

    @property
    def openid_config(self) -> dict[str, Any]:
        return configuration()

    def complete_login(
        self, request: HttpRequest, app: SocialApp, token: Any, **kwargs: Any
    ) -> SocialLogin:
        """Return the login with the claims of ID token and user information together.

        The signed ID token wins where both have a claim. Raises `BadToken`.
        """
        raw = kwargs["response"].get("id_token")
        if not isinstance(raw, str):
            raise BadToken("the token response has no ID token")
        claims = verified_claims(raw)
        info = self._user_info(token.token, claims)
        data = {"id_token": claims, "userinfo": {**info, **claims}, "raw": raw}
        return self.get_provider().sociallogin_from_response(request, data)

    def _user_info(self, access_token: str, claims: Mapping[str, Any]) -> dict[str, Any]:
        """Return the user information; empty if the provider has none on an allowed host."""
        url = self.openid_config.get("userinfo_endpoint")
        if not isinstance(url, str):
            return {}
        if not is_allowed(url):
            logger.info("User information is not on an allowed host", extra={"url": url})
            return {}
        with ProviderSession() as session:
            response = session.get(url, headers={"Authorization": f"Bearer {access_token}"})
            response.raise_for_status()
            found = response.json()
        # OpenID Connect Core 5.3.2: a different subject is a token substitution.
        if not isinstance(found, dict) or found.get("sub") != claims["sub"]:
            raise BadToken("the user information is about another user than the ID token")
        return found


class Provider(OpenIDConnectProvider):  # type: ignore[misc]
    """The provider of the settings, as allauth sees it."""

    oauth2_adapter_class = Adapter

    def begin(self, request: HttpRequest, next_url: str | None) -> HttpResponse:
        """Redirect to the provider with state, nonce and PKCE. Raises `DirectoryUnavailable`."""
        nonce = secrets.token_urlsafe(24)
        response: HttpResponse = self.redirect(
            request,
            process="login",
            next_url=next_url,
            auth_params={"nonce": nonce},
            nonce=nonce,
        )
        return response


def verified_claims(raw: str) -> dict[str, Any]:
    """Return the claims of an ID token whose signature and standard claims are valid.

    Raises `BadToken` or `DirectoryUnavailable`.
    """
    config = configuration()
    try:
        header = jwt.get_unverified_header(raw)
        key = _key(config["jwks_uri"], header)
        claims: dict[str, Any] = jwt.decode(
            raw,
            key=key,
            algorithms=sorted(_ALGORITHMS),
            audience=settings.ENV.oidc_client_id,
            issuer=config["issuer"],
            leeway=_CLOCK_SKEW_SECONDS,
            options={"require": ["exp", "iat", "iss", "aud", "sub"]},
        )
    except (jwt.PyJWTError, ValueError, TypeError, KeyError) as error:
        raise BadToken(f"the ID token is not valid: {error}") from error
    party = claims.get("azp")
    if party is not None and party != settings.ENV.oidc_client_id:
        raise BadToken("the ID token was issued to another client")
    return claims


def _key(url: str, header: Mapping[str, Any]) -> Any:
    """Return the signing key that the header names; keys are read again if it is unknown."""
    if header.get("alg") not in _ALGORITHMS:
        raise BadToken(f"the ID token is signed by {header.get('alg')!r}")
    for seconds in (_CACHE_SECONDS, _KEYS_AGAIN_SECONDS):
        keys = jwt.PyJWKSet.from_dict(_documents.get(url, most_seconds=seconds)).keys
        usable = [key for key in keys if key.public_key_use in {None, "sig"}]
        if "kid" not in header and len(usable) == 1:
            return usable[0]
        for key in usable:
            if key.key_id == header.get("kid"):
                return key
    raise BadToken(f"the provider has no key {header.get('kid')!r}")


def claim(claims: Mapping[str, Any], name: str) -> Any:
    """Return the value of a claim; dots lead into objects unless the whole name is a claim."""
    if name in claims:
        return claims[name]
    value: Any = claims
    for part in name.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return None
        value = value[part]
    return value


def values(value: Any) -> list[str]:
    """Return the texts of a claim that is a list, a text, a number or missing."""
    if isinstance(value, (list, tuple)):
        return [text for one in value for text in values(one)]
    if isinstance(value, bool):
        return ["true" if value else "false"]
    if isinstance(value, (str, int)):
        return [str(value)] if str(value) else []
    return []


def person_of(claims: Mapping[str, Any]) -> Person:
    """Return the user that verified claims describe. Raises `SignInRefused`."""
    env = settings.ENV
    external_id = next(iter(values(claim(claims, env.oidc_id_claim))), "")
    if not external_id:
        logger.warning("Claim that identifies users is missing", extra={"claim": env.oidc_id_claim})
        raise SignInRefused
    email = next(iter(values(claims.get("email"))), "")
    return Person(
        source=DirectoryIdentity.Source.OIDC,
        external_id=external_id[:255],
        username=next(iter(values(claim(claims, env.oidc_username_claim))), "") or email,
        email=email,
        # Some providers send a text.
        email_verified=values(claims.get("email_verified")) in (["true"], ["True"]),
        first_name=next(iter(values(claims.get("given_name"))), ""),
        last_name=next(iter(values(claims.get("family_name"))), ""),
        groups=groups_of(claims),
    )


def groups_of(claims: Mapping[str, Any]) -> tuple[DirectoryGroup, ...] | None:
    """Return the groups; None if the provider left them out because there are too many."""
    name = settings.ENV.oidc_groups_claim
    found = claim(claims, name)
    left_out = claims.get("_claim_names")
    if found is None and (
        (isinstance(left_out, Mapping) and name in left_out) or claims.get("hasgroups")
    ):
        logger.warning(
            "The provider left the groups out of the token; memberships are unchanged",
            extra={"claim": name},
        )
        return None
    # Keycloak writes groups as paths.
    names = dict.fromkeys(text.strip().removeprefix("/") for text in values(found))
    return tuple(DirectoryGroup(text[:_GROUP_CHARS], text[:_GROUP_CHARS]) for text in names if text)


def may_sign_in(claims: Mapping[str, Any]) -> bool:
    rules = settings.ENV.oidc_allowed
    return not rules or any(
        text in {wanted, f"/{wanted}"}
        for name, wanted in rules
        for text in values(claim(claims, name))
    )


class SocialAdapter(DefaultSocialAccountAdapter):  # type: ignore[misc]
    """Lets allauth use the provider of the settings, and our accounts."""

    def get_requests_session(self) -> ProviderSession:
        return ProviderSession()

    def list_apps(
        self, request: HttpRequest, provider: str | None = None, client_id: str | None = None
    ) -> list[SocialApp]:
        """Return the app of the settings; allauth would query a table of apps too."""
        app = application()
        if app is None or provider not in {None, app.provider, app.provider_id}:
            return []
        return [app] if client_id in {None, app.client_id} else []

    def is_open_for_signup(self, request: HttpRequest, sociallogin: SocialLogin) -> bool:
        return False

    def pre_social_login(self, request: HttpRequest, sociallogin: SocialLogin) -> None:
        """Find or create the account before allauth signs in."""
        data = sociallogin.account.extra_data
        claims, nonce = data["userinfo"], sociallogin.state.get("nonce")
        # Neither is needed from here on, and allauth may store them in the session.
        sociallogin.account.extra_data = {}
        try:
            given = str(data["id_token"].get("nonce", ""))
            if not nonce or not hmac.compare_digest(given.encode(), str(nonce).encode()):
                raise BadToken("the nonce of the ID token is not the one that was sent")
            person = person_of(claims)
            if not may_sign_in(claims):
                raise SignInRefused
            sociallogin.user = accounts.admit(person, rules(), request=request)
        except (ChatsiteError, BadToken) as error:
            raise ImmediateHttpResponse(failure_page(request, error)) from error
        if settings.ENV.oidc_sign_out:
            sociallogin.state["id_token"] = data["raw"]

    def on_authentication_error(
        self,
        request: HttpRequest,
        provider: Any,
        error: Any = None,
        exception: Exception | None = None,
        extra_context: dict[str, Any] | None = None,
    ) -> None:
        shown: Exception
        if isinstance(exception, requests.RequestException):
            shown = unavailable(exception)
        elif request.GET.get("error") == "access_denied":
            shown = Cancelled()
        else:
            shown = BadToken(exception or request.GET.get("error") or "unknown or expired state")
        raise ImmediateHttpResponse(failure_page(request, shown))


class Cancelled(ChatsiteError):
    code = "sign_in_cancelled"
    status = 403
    message = _("The sign-in was cancelled.")


def failure_page(request: HttpRequest, error: Exception) -> HttpResponse:
    """Record a failed sign-in and return a page that says why, and what to do."""
    refused = isinstance(error, SignInRefused)
    record(
        "auth.login_failed",
        request=request,
        outcome="denied" if refused else "failed",
        method="oidc",
        reason=getattr(error, "code", "bad_token"),
    )
    if isinstance(error, ChatsiteError):
        status, text = error.status, str(error)
    else:
        logger.warning("Sign-in with the provider failed", extra={"error": error})
        status = 400
        text = str(_("The provider's answer was not valid. Try to sign in again."))
    return render(
        request,
        "accounts/directory_failed.html",
        {"reason": text, "refused": refused, "provider": settings.ENV.oidc_name},
        status=status,
    )


def rules() -> accounts.Rules:
    env = settings.ENV
    return accounts.Rules(
        create=env.oidc_create_accounts, link=env.oidc_link_accounts, role_map=env.oidc_roles
    )


def application() -> SocialApp | None:
    """Return the settings as allauth's app, unsaved; None if there is no provider."""
    env = settings.ENV
    if not env.oidc_issuer:
        return None
    return SocialApp(
        provider=Provider.id,
        provider_id=PROVIDER_ID,
        name=env.oidc_name,
        client_id=env.oidc_client_id,
        secret=env.oidc_client_secret,
        settings={
            "server_url": env.oidc_issuer,
            "scope": list(env.oidc_scopes),
            "oauth_pkce_enabled": True,
        },
    )


def end_session_url(request: HttpRequest, id_token: str, after: str) -> str | None:
    """Return the provider's address to sign out (RP-Initiated Logout 1.0); None if it has none."""
    try:
        endpoint = configuration().get("end_session_endpoint")
    except DirectoryUnavailable:
        return None
    if not isinstance(endpoint, str) or not endpoint.startswith(("https://", "http://")):
        return None
    query = {
        "id_token_hint": id_token,
        "client_id": settings.ENV.oidc_client_id,
        "post_logout_redirect_uri": request.build_absolute_uri(after),
    }
    return f"{endpoint}{'&' if '?' in endpoint else '?'}{urlencode(query)}"
