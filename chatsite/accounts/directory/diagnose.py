"""Tests the connections to the configured directories, for `manage.py doctor`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal
from urllib.parse import urlsplit

import requests
from django.conf import settings
from django.urls import reverse

from chatsite.accounts.directory import oidc, outside
from chatsite.accounts.directory.person import DirectoryUnavailable

Line = tuple[Literal["OK", "WARN", "FAIL"], str, str]
_NAMED = ("token_endpoint", "jwks_uri", "userinfo_endpoint", "end_session_endpoint")


def diagnose() -> Iterator[Line]:
    """Yield level, finding and advice for each configured directory; nothing without one."""
    env = settings.ENV
    if env.oidc_issuer:
        yield from _oidc()
    if env.ldap_url:
        yield from _ldap()
    if env.scim_token:
        yield "OK", "SCIM 2.0 is enabled at /scim/v2/", ""


def _oidc() -> Iterator[Line]:
    env = settings.ENV
    url = oidc.discovery_url()
    try:
        with outside.ProviderSession() as session:
            response = session.get(url)
            response.raise_for_status()
            found: Any = response.json()
    except (requests.RequestException, ValueError) as error:
        yield (
            "FAIL",
            f"OpenID Connect: {url} can't be read: {error}",
            "Check CHATSITE_OIDC_ISSUER, CHATSITE_OIDC_CA_FILE and the network.",
        )
        return
    issuer = found.get("issuer") if isinstance(found, dict) else None
    if str(issuer).rstrip("/") != env.oidc_issuer.rstrip("/"):
        yield (
            "FAIL",
            f"OpenID Connect: the provider calls itself {issuer}, not {env.oidc_issuer}",
            f"Set CHATSITE_OIDC_ISSUER={issuer}",
        )
        return
    yield "OK", f"OpenID Connect: {env.oidc_issuer} responds", ""
    for name in _NAMED[:3]:
        if isinstance(found.get(name), str) and not outside.is_allowed(found[name]):
            host = urlsplit(found[name]).hostname
            needed = name != "userinfo_endpoint"
            yield (
                "FAIL" if needed else "WARN",
                f"OpenID Connect: {name} is on {host}, which is not allowed"
                + ("" if needed else ": claims are taken from the ID token only"),
                f"CHATSITE_OIDC_HOSTS={','.join([*env.oidc_hosts, str(host)])}",
            )
    if env.oidc_sign_out and not found.get("end_session_endpoint"):
        yield (
            "WARN",
            "OpenID Connect: the provider has no sign-out.",
            "Remove CHATSITE_OIDC_SIGN_OUT.",
        )
    missing = {*env.oidc_scopes} - {*found.get("scopes_supported", env.oidc_scopes)}
    if missing:
        yield (
            "WARN",
            f"OpenID Connect: the provider does not list the scopes {', '.join(sorted(missing))}.",
            "Check CHATSITE_OIDC_SCOPES.",
        )
    origin = (env.origins or env.effective_origins)[0]
    yield (
        "OK",
        f"OpenID Connect: redirect URI to register: {origin}{reverse('openid_connect_callback')}",
        "",
    )


def _ldap() -> Iterator[Line]:
    from chatsite.accounts.directory import ldap  # needs the extra

    env = settings.ENV
    servers = ", ".join(env.ldap_url)
    try:
        users, groups = ldap.counts()
    except DirectoryUnavailable as error:
        yield (
            "FAIL",
            f"LDAP: {servers} can't be used: {error.__cause__ or error}",
            "Check CHATSITE_LDAP_URL, the CA file, and the DN and password of the bind.",
        )
        return
    yield "OK", f"LDAP: {servers} responds, and the bind is accepted", ""
    if users:
        yield "OK", f"LDAP: {users} users are found", ""
    else:
        yield (
            "FAIL",
            f"LDAP: no user is found below {env.ldap_user_base}",
            "Check CHATSITE_LDAP_USER_BASE, CHATSITE_LDAP_USER_FILTER and the rights of the bind.",
        )
    if env.ldap_group_base:
        level: Literal["OK", "WARN"] = "OK" if groups else "WARN"
        advice = "" if groups else "Check CHATSITE_LDAP_GROUP_BASE and CHATSITE_LDAP_GROUP_FILTER."
        yield level, f"LDAP: {groups} groups are found", advice
