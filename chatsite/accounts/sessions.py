"""Browser sessions of users: recorded, listed, ended, and the sockets of ended ones closed.

Django stores the sessions; `UserSession` adds from where and when each is used. No request writes
it: `seen` updates it every few minutes.

A socket checks its session when it opens and at each command, but one that only receives would
stay open after a sign-out. So the end of a session is announced to the channel-layer group of
its user. The announcement may be lost: the check at each command is the protection.
"""

from __future__ import annotations

import asyncio
import hashlib
import logging
import re
import secrets
import threading
import time
from collections import OrderedDict
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from asgiref.sync import async_to_sync
from channels.layers import get_channel_layer
from django.contrib.auth import HASH_SESSION_KEY
from django.contrib.sessions.models import Session
from django.db import transaction
from django.http import HttpRequest
from django.utils import timezone
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from chatsite.accounts.models import User, UserSession
from chatsite.audit.record import record
from chatsite.errors import worded

logger = logging.getLogger(__name__)

# Seconds that a Redis that does not answer may delay a sign-out.
WAIT_SECONDS = 2.0
# How late `UserSession.last_seen_at` may be.
SEEN_SECONDS: Final = 300.0
_SEEN_MAX: Final = 10_000
_ADDRESS_CHARS: Final = 45
_AGENT_CHARS: Final = 300

# When each session was last noted, by its key, in seconds of the monotonic clock.
noted: OrderedDict[str, float] = OrderedDict()
_noted_lock = threading.Lock()


def start(request: HttpRequest, user: User) -> None:
    """Record the session that ``user`` has just started; forget their sessions that are gone."""
    key = request.session.session_key
    if not key:
        return
    stored = set(active(user).values_list("session_key", flat=True))
    user.browser_sessions.exclude(session_key__in=stored).exclude(session_key=key).delete()
    UserSession.objects.update_or_create(
        session_key=key,
        defaults={
            "user": user,
            "address": (request.META.get("REMOTE_ADDR") or "")[:_ADDRESS_CHARS],
            "agent": request.META.get("HTTP_USER_AGENT", "")[:_AGENT_CHARS],
            "last_seen_at": timezone.now(),
        },
    )
    User.objects.filter(pk=user.pk).update(last_seen_at=timezone.now())


def active(user: User) -> Any:
    """Return the `UserSession` rows of sessions that still exist, last seen first."""
    existing = Session.objects.filter(expire_date__gt=timezone.now())
    return user.browser_sessions.filter(session_key__in=existing.values("session_key"))


def seen(session_key: str, address: str = "") -> None:
    """Note that a session is in use. Costs a look-up in a dict; queries every `SEEN_SECONDS`."""
    now = time.monotonic()
    with _noted_lock:
        if now - noted.get(session_key, -SEEN_SECONDS) < SEEN_SECONDS:
            return
        noted[session_key] = now
        noted.move_to_end(session_key)
        if len(noted) > _SEEN_MAX:
            noted.popitem(last=False)
    values = {"last_seen_at": timezone.now()}
    if address:
        values["address"] = address[:_ADDRESS_CHARS]  # type: ignore[assignment]
    UserSession.objects.filter(session_key=session_key).update(**values)
    User.objects.filter(browser_sessions__session_key=session_key).update(
        last_seen_at=values["last_seen_at"]
    )


def end_one(session: UserSession, *, request: HttpRequest | None = None) -> None:
    """End one session and close its sockets."""
    user = session.user
    with transaction.atomic():
        Session.objects.filter(session_key=session.session_key).delete()
        session.delete()
        transaction.on_commit(partial(end, user.pk, session.session_key), robust=True)
    record("session.ended", request=request, target=_target(user), sessions=1)


def end_all(
    user: User, *, keep: HttpRequest | None = None, by: User | None = None, via: str = "page"
) -> None:
    """End all sessions of ``user`` and close their sockets, except the session of ``keep``.

    Sessions are bound to the user's stamp: a new one ends them, recorded or not.
    """
    kept = keep.session.session_key if keep is not None else None
    count = user.browser_sessions.exclude(session_key=kept or "").count()
    with transaction.atomic():
        user.bind_sessions(secrets.token_hex(32))
        user.kept_session = kept or ""
        if keep is not None:
            keep.session[HASH_SESSION_KEY] = user.get_session_auth_hash()
            keep.session.save()
        user.save(update_fields=["session_stamp"])  # deletes the others, see signals.py
    record(
        "session.ended",
        request=keep,
        user=by,
        via=via,
        target=_target(user),
        sessions=count,
        all=True,
    )


def delete_all(user: User, *, keep: str = "") -> None:
    """Delete the recorded sessions of ``user`` except ``keep``, and close their sockets."""
    rows = user.browser_sessions.exclude(session_key=keep)
    keys = list(rows.values_list("session_key", flat=True))
    Session.objects.filter(session_key__in=keys).delete()
    rows.delete()
    transaction.on_commit(partial(end, user.pk), robust=True)


def _target(user: User) -> tuple[str, str, str]:
    return "user", str(user.pk), user.get_username()


def group_of(user_id: Any) -> str:
    """Return the group that each of the user's sockets joins."""
    return f"user.{user_id}"


def session_hash(session_key: str) -> str:
    """Return the session's name outside the database, which does not reveal its key."""
    return hashlib.sha256(session_key.encode()).hexdigest()


def end(user_id: Any, session_key: str | None = None) -> None:
    """Announce the end of a session, or of all if ``session_key`` is None.

    Sends ``{"type": "session.ended", "session": hash or None}``. Never raises: a sign-out works
    without Redis.
    """
    message = {
        "type": "session.ended",
        "session": session_hash(session_key) if session_key else None,
    }
    try:
        async_to_sync(_send)(group_of(user_id), message)
    except Exception:
        logger.warning("Sockets can't be closed", exc_info=True, extra={"user": user_id})


async def _send(group: str, message: dict[str, Any]) -> None:
    layer = get_channel_layer()
    if layer is not None:
        async with asyncio.timeout(WAIT_SECONDS):
            await layer.group_send(group, message)


@dataclass(frozen=True)
class Agent:
    """What a User-Agent header says. Clients may send anything: it is for recognition only."""

    browser: str
    system: str

    @property
    def words(self) -> str | Promise:
        if self.browser and self.system:
            return worded(
                _("%(browser)s on %(system)s"), {"browser": self.browser, "system": self.system}
            )
        return self.browser or self.system or _("Unknown browser")


# The first match counts: most browsers name others too.
_BROWSERS: Final = [
    ("Edge", r"Edg(?:e|A|iOS)?/"),
    ("Opera", r"OPR/|Opera"),
    ("Samsung Internet", r"SamsungBrowser/"),
    ("Firefox", r"Firefox/|FxiOS/"),
    ("Chrome", r"Chrome/|CriOS/|Chromium/"),
    ("Safari", r"Version/\S+ .*Safari/"),
]
_SYSTEMS: Final = [
    ("iPadOS", r"iPad"),
    ("iOS", r"iPhone"),
    ("Android", r"Android"),
    ("Windows", r"Windows"),
    ("ChromeOS", r"CrOS"),
    ("macOS", r"Macintosh|Mac OS X"),
    ("Linux", r"Linux|X11"),
]


def described(agent: str) -> Agent:
    """Return the browser and the operating system that a User-Agent header names."""

    def first(known: list[tuple[str, str]]) -> str:
        return next((name for name, pattern in known if re.search(pattern, agent)), "")

    return Agent(first(_BROWSERS), first(_SYSTEMS))
