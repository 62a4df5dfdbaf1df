"""Creating, checking and revoking API keys, and the caller of an API request."""

from __future__ import annotations

import asyncio
import hashlib
import logging
import secrets
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import timedelta
from weakref import WeakKeyDictionary

from asgiref.sync import sync_to_async
from django.conf import settings
from django.db import DatabaseError
from django.utils import timezone

from chatsite.accounts.models import ApiKey, Scope, User
from chatsite.errors import InvalidKey, KeyLacksScope, KeyMissing
from chatsite.policy import decisions, quotas
from chatsite.policy.features import Feature

log = logging.getLogger(__name__)

_START = "cs-"
_PREFIX_CHARS = 9
_USE_SAVED_EVERY = timedelta(minutes=1)
# How long open streams of a key may outlive its revocation.
CHECK_SECONDS = 2.0

ALL_SCOPES = tuple(Scope.values)
# The default scopes of a key: none that changes the server.
DEFAULT_SCOPES = tuple(scope for scope in ALL_SCOPES if scope not in {Scope.MANAGE, Scope.SCIM})


@dataclass(eq=False)
class Caller:
    """The user and the key of an API request.

    Without a key the user is the one named by `CHATSITE_API_ANONYMOUS`. While `watched`,
    ``ended`` becomes True when the key is revoked or the user deactivated. ``door`` is the API,
    a value of `conversations.models.Via`. ``has_quotas``: quotas apply to the user.
    """

    user: User
    key: ApiKey | None = None
    ended: bool = False
    has_quotas: bool = False
    door: str = "api"


def create(
    owner: User,
    *,
    name: str = "",
    scopes: Collection[str] = DEFAULT_SCOPES,
    days: int | None = None,
) -> tuple[ApiKey, str]:
    """Return the saved key and its text, which is not stored. Raises `NotAllowed`."""
    decisions.require(owner, Feature.API)
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
    """Revoke the key; its open streams end within seconds. Idempotent."""
    ApiKey.objects.filter(pk=key.pk, revoked_at=None).update(revoked_at=timezone.now())


def caller(text: str | None, scope: str) -> Caller:
    """Return the caller that may use ``scope`` with the key ``text``, or without one (None).

    Raises `KeyMissing`, `InvalidKey`, `KeyLacksScope` or `NotAllowed`.
    """
    found = _caller(text, scope)
    decisions.require(found.user, Feature.API)
    found.has_quotas = quotas.apply_to(found.user)
    return found


def _caller(text: str | None, scope: str) -> Caller:
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
        User.objects.filter(pk=found.owner_id).update(last_seen_at=now)
    return Caller(found.owner, found)


def _anonymous() -> User:
    """Return the user of requests without a key: never an administrator. Raises `KeyMissing`."""
    name = settings.ENV.api_anonymous
    plain = User.objects.filter(is_active=True, is_staff=False, is_superuser=False)
    user = plain.filter(username=name).first() if name else None
    if user is None:
        raise KeyMissing
    return user


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()


class _Watch:
    """Checks the callers of all open requests, in one query each `CHECK_SECONDS`."""

    def __init__(self) -> None:
        self.callers: set[Caller] = set()
        self._task: asyncio.Task[None] | None = None

    def start(self) -> None:
        if self._task is None or self._task.done():
            self._task = asyncio.create_task(self._run(), name="watch-keys")

    async def _run(self) -> None:
        while self.callers:
            await asyncio.sleep(CHECK_SECONDS)
            watched = list(self.callers)
            try:
                keys, people = await sync_to_async(still_usable)(watched)
            except DatabaseError as error:
                # Open requests continue: they are checked again once the database answers.
                log.warning("Revoked keys can't be looked up", extra={"error": error})
                continue
            for one in watched:
                one.ended = one.user.pk not in people if one.key is None else one.key.pk not in keys


def still_usable(callers: list[Caller]) -> tuple[set[int], set[int]]:
    keys = {one.key.pk for one in callers if one.key}
    people = {one.user.pk for one in callers if one.key is None}
    return (
        set(ApiKey.objects.usable().filter(pk__in=keys).values_list("pk", flat=True)),
        set(User.objects.filter(pk__in=people, is_active=True).values_list("pk", flat=True)),
    )


_watches: WeakKeyDictionary[asyncio.AbstractEventLoop, _Watch] = WeakKeyDictionary()


@asynccontextmanager
async def watched(caller: Caller) -> AsyncIterator[None]:
    """Keep ``caller.ended`` up to date with the database, at most `CHECK_SECONDS` late."""
    watch = _watches.setdefault(asyncio.get_running_loop(), _Watch())
    watch.callers.add(caller)
    watch.start()
    try:
        yield
    finally:
        watch.callers.discard(caller)
