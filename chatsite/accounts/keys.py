"""Making, checking and revoking API keys, and who is behind a request of a program."""

from __future__ import annotations

import asyncio
import hashlib
import secrets
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from weakref import WeakKeyDictionary

from asgiref.sync import sync_to_async
from django.conf import settings
from django.utils import timezone

from chatsite.accounts.models import ApiKey, Scope, User
from chatsite.errors import InvalidKey, KeyLacksScope, KeyMissing

_START = "cs-"
_PREFIX_CHARS = 9
_USE_SAVED_EVERY = timedelta(minutes=1)
# How long the open streams of a key may outlive its revocation.
_CHECK_SECONDS = 2.0

ALL_SCOPES = tuple(Scope.values)


@dataclass(eq=False)
class Caller:
    """Who asks: a person, and the key that proves it; without a key, anonymous requests have
    the rights of the person whom `CHATSITE_API_ANONYMOUS` names. ``ended`` becomes True while
    `watched` when the key is revoked or the person deactivated."""

    user: User
    key: ApiKey | None = None
    ended: bool = False


def create(
    owner: User, *, name: str = "", scopes: Collection[str] = ALL_SCOPES, days: int | None = None
) -> tuple[ApiKey, str]:
    """Returns the saved key and its text, which nobody can read again."""
    text = _START + secrets.token_urlsafe(32)
    key = ApiKey.objects.create(
        owner=owner,
        name=name,
        prefix=text[:_PREFIX_CHARS],
        digest=_digest(text),
        scopes=" ".join(scope for scope in ALL_SCOPES if scope in scopes),
        expires_at=timezone.now() + timedelta(days=days) if days else None,
    )
    return key, text


def revoke(key: ApiKey) -> None:
    """Ends the key and, within seconds, its open streams. A second time changes nothing."""
    ApiKey.objects.filter(pk=key.pk, revoked_at=None).update(revoked_at=timezone.now())


def caller(text: str | None, scope: str) -> Caller:
    """Who may use ``scope`` with the key ``text``, or without one (None).

    Raises `KeyMissing`, `InvalidKey` or `KeyLacksScope`.
    """
    if text is None:
        return Caller(_anonymous())
    try:
        found = ApiKey.objects.usable().select_related("owner").get(digest=_digest(text))
    except ApiKey.DoesNotExist:
        raise InvalidKey from None
    if scope not in found.scopes.split():
        raise KeyLacksScope(scope=scope)
    now = timezone.now()
    if found.last_used_at is None or now - found.last_used_at > _USE_SAVED_EVERY:
        ApiKey.objects.filter(pk=found.pk).update(last_used_at=now)
    return Caller(found.owner, found)


def _anonymous() -> User:
    name = settings.ENV.api_anonymous
    user = User.objects.filter(username=name, is_active=True).first() if name else None
    if user is None:
        raise KeyMissing
    return user


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()


class _Watch:
    """Asks every `_CHECK_SECONDS`, in one query for all open requests of this process, which
    callers may go on."""

    def __init__(self) -> None:
        self.callers: set[Caller] = set()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name="watch-keys")

    async def _run(self) -> None:
        while self.callers:
            await asyncio.sleep(_CHECK_SECONDS)
            watched = list(self.callers)
            keys, people = await sync_to_async(_still_usable)(watched)
            for one in watched:
                one.ended = one.user.pk not in people if one.key is None else one.key.pk not in keys


def _still_usable(callers: list[Caller]) -> tuple[set[int], set[int]]:
    keys = {one.key.pk for one in callers if one.key}
    people = {one.user.pk for one in callers if one.key is None}
    return (
        set(ApiKey.objects.usable().filter(pk__in=keys).values_list("pk", flat=True)),
        set(User.objects.filter(pk__in=people, is_active=True).values_list("pk", flat=True)),
    )


_watches: WeakKeyDictionary[asyncio.AbstractEventLoop, _Watch] = WeakKeyDictionary()


@asynccontextmanager
async def watched(caller: Caller) -> AsyncIterator[None]:
    """Keeps ``caller.ended`` true to the database, at most `_CHECK_SECONDS` late."""
    watch = _watches.setdefault(asyncio.get_running_loop(), _Watch())
    watch.callers.add(caller)
    watch.start()
    try:
        yield
    finally:
        watch.callers.discard(caller)
