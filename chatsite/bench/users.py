"""Users for the time of a measurement."""

from __future__ import annotations

import secrets
import time
from collections.abc import Collection
from contextlib import suppress
from typing import Final

from django.conf import settings
from django.contrib.auth import BACKEND_SESSION_KEY, HASH_SESSION_KEY, SESSION_KEY
from django.contrib.sessions.backends.db import SessionStore
from django.db import IntegrityError, transaction

from chatsite.accounts import keys
from chatsite.accounts.models import User
from chatsite.answers.submit import stop_answers_of
from chatsite.errors import StreamsUnavailable

_TRIALS: Final = 10
_PAUSE_SECONDS: Final = 0.5


def create(label: str = "user") -> User:
    user = User(username=f"bench-{label}-{secrets.token_hex(4)}")
    user.set_unusable_password()
    user.save()
    return user


def with_key(label: str = "user") -> tuple[User, str]:
    """Create a user and an API key."""
    user = create(label)
    return user, keys.create(user, name="bench", days=1)[1]


def cookie_of(user: User) -> str:
    """Return the `Cookie` header of a new session."""
    session = SessionStore()
    session[SESSION_KEY] = str(user.pk)
    session[BACKEND_SESSION_KEY] = settings.AUTHENTICATION_BACKENDS[0]
    session[HASH_SESSION_KEY] = user.get_session_auth_hash()
    session.save()
    return f"{settings.SESSION_COOKIE_NAME}={session.session_key}"


def remove(users: Collection[User]) -> None:
    """Stop the answers of ``users`` and delete them with their data. Called from a thread.

    An answer that is just being saved refers to its owner again, so a deletion is repeated.
    """
    ids = [user.pk for user in users]
    with suppress(StreamsUnavailable):
        stop_answers_of(ids)
    for trial in range(_TRIALS):
        try:
            with transaction.atomic():
                User.objects.filter(pk__in=ids).delete()
        except IntegrityError:
            if trial == _TRIALS - 1:
                raise
            time.sleep(_PAUSE_SECONDS)
        else:
            return
