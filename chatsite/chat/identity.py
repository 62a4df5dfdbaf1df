"""Who is on a socket: asked anew for each command, since a sign-out must end what it began."""

from __future__ import annotations

from typing import Any

from asgiref.sync import sync_to_async
from django.contrib.auth import get_user
from django.contrib.sessions.backends.db import SessionStore
from django.http import HttpRequest
from django.utils.translation import get_language_from_request

from chatsite.accounts.models import User


@sync_to_async
def session_user(session_key: str | None) -> User | None:
    """The active person whose session this is now, or None."""
    if not session_key:
        return None
    request = HttpRequest()
    request.session = SessionStore(session_key=session_key)
    user = get_user(request)
    return user if isinstance(user, User) and user.is_active else None


def language(scope: dict[str, Any]) -> str:
    """The language that Django would choose for a page asked for with the same headers."""
    request = HttpRequest()
    request.COOKIES = scope.get("cookies", {})
    headers = dict(scope.get("headers", ()))
    request.META["HTTP_ACCEPT_LANGUAGE"] = headers.get(b"accept-language", b"").decode("latin1")
    return get_language_from_request(request)
