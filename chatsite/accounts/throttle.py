"""Limits on failed sign-ins that stop an attacker but not the user whose name is tried.

Failures are counted per name and address, and per address, so an attacker at another address
uses a separate count. A browser that signed in before has a device cookie (OWASP, "Slow Down
Online Guessing Attacks with Device Cookies"): its attempts are counted for that cookie only, so
an attacker who shares the user's address does not lock it out either.

Codes of second factors are short, so wrong ones of all unknown devices together are limited too.
Only a client that knows the password can try them.
"""

from __future__ import annotations

import secrets
from typing import Any

from django.conf import settings
from django.core import signing
from django.http import HttpRequest, HttpResponse
from django.utils.crypto import salted_hmac

_SALT = "chatsite.accounts.device"
_COOKIE_SECONDS = 365 * 24 * 3600
# Users of one browser that the cookie remembers; the oldest is dropped first.
_NAMES_MAX = 10

# An action of `ACCOUNT_RATE_LIMITS` and the key under which an attempt counts.
Limit = tuple[str, str]


def password_limit(request: HttpRequest, name: str, address: str) -> Limit:
    """Return the limit of attempts at the password of ``name``."""
    return _limit(request, "password_failed", name, address)


def code_limits(request: HttpRequest, name: str, address: str) -> list[Limit]:
    """Return the limits of attempts at a code of ``name``."""
    action, key = _limit(request, "code_failed", name, address)
    limits = [(action, key)]
    if action == "code_failed":
        limits.append(("code_failed_anywhere", name.lower()))
    return limits


def _limit(request: HttpRequest, action: str, name: str, address: str) -> Limit:
    device = _device(request)
    if device is not None and _digest(name) in device["names"]:
        return f"{action}_on_known_device", f"{device['id']}|{name.lower()}"
    return action, f"{name.lower()}|{address}"


def remember_device(request: HttpRequest, response: HttpResponse, name: str) -> None:
    """Set the cookie that identifies later attempts of ``name`` from this browser."""
    device = _device(request) or {"id": secrets.token_urlsafe(16), "names": []}
    names = [_digest(name), *(other for other in device["names"] if other != _digest(name))]
    response.set_cookie(
        settings.DEVICE_COOKIE_NAME,
        signing.dumps({"id": device["id"], "names": names[:_NAMES_MAX]}, salt=_SALT),
        max_age=_COOKIE_SECONDS,
        secure=settings.SESSION_COOKIE_SECURE,
        path=settings.SESSION_COOKIE_PATH,
        httponly=True,
        samesite="Lax",
    )


def _device(request: HttpRequest) -> dict[str, Any] | None:
    cookie = request.COOKIES.get(settings.DEVICE_COOKIE_NAME, "")
    try:
        device: dict[str, Any] = signing.loads(cookie, salt=_SALT, max_age=_COOKIE_SECONDS)
    except signing.BadSignature:
        return None
    return device


def _digest(name: str) -> str:
    """Return a keyed hash: the cookie must not reveal who uses this browser."""
    return salted_hmac(_SALT, name.lower()).hexdigest()[:32]
