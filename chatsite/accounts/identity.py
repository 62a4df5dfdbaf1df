"""The user of a socket, checked again for each command, so that a sign-out takes effect."""

from __future__ import annotations

from typing import Any

from asgiref.sync import sync_to_async
from django.contrib.auth import get_user
from django.contrib.sessions.backends.db import SessionStore
from django.http import HttpRequest
from django.utils.translation import get_language_from_request

from chatsite.accounts import second_factor, sessions
from chatsite.accounts.models import User
from chatsite.database import renew_connection


@sync_to_async
def session_user(session_key: str | None) -> User | None:
    """Return the active user of this session, or None.

    Also None if the user must set up a second factor first: the page then leads there.
    """
    if not session_key:
        return None
    renew_connection()
    request = HttpRequest()
    request.session = SessionStore(session_key=session_key)
    user = get_user(request)
    if not isinstance(user, User) or not user.is_active:
        return None
    if second_factor.must_set_up(user, request.session):
        return None
    sessions.seen(session_key)
    return user


def language(scope: dict[str, Any]) -> str:
    """Return the language that Django would choose for a page request with these headers."""
    request = HttpRequest()
    request.COOKIES = scope.get("cookies", {})
    headers = dict(scope.get("headers", ()))
    request.META["HTTP_ACCEPT_LANGUAGE"] = headers.get(b"accept-language", b"").decode("latin1")
    return get_language_from_request(request)
