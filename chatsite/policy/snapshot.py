"""The policy and the memberships that it needs, cached per process.

A decision reads the database at most once in `FRESH_SECONDS`: one query for the revision, and all
rows only if it has changed. A failing query raises `DatabaseError`: nothing is decided without
knowing the rules.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final, cast

from django.contrib.auth import get_user_model

from chatsite.policy import decide
from chatsite.policy.models import Default, Limit, Quota, Revision, Rule

# How old a decision's facts may be.
FRESH_SECONDS: Final = 2.0
# Changes that bypass the signals are noticed after this time.
_RELOAD_SECONDS: Final = 60.0
_MEMBERS_MAX: Final = 10_000
clock: Callable[[], float] = time.monotonic


@dataclass
class _Cache:
    policy: decide.Policy
    groups: frozenset[int]
    revision: int
    loaded: float
    checked: float
    # By user: when read, and the groups.
    members: dict[int, tuple[float, frozenset[int]]] = field(default_factory=dict)


_cache: _Cache | None = None


def current() -> decide.Policy:
    """Return the policy, at most `FRESH_SECONDS` old. May read the database."""
    return _current().policy


def subject(user: Any) -> decide.Subject:
    """Return the subject of a user or of a user's ID. May read the database."""
    cache = _current()
    id = user if isinstance(user, int) else cast(int, user.pk)
    if not cache.groups:
        return decide.Subject(id)
    now = clock()
    known = cache.members.get(id)
    if known is None or now - known[0] > FRESH_SECONDS:
        through = get_user_model().groups.through
        rows = through.objects.filter(user_id=id, group_id__in=cache.groups)
        known = now, frozenset(rows.values_list("group_id", flat=True))
        if len(cache.members) >= _MEMBERS_MAX:
            cache.members.clear()
        cache.members[id] = known
    return decide.Subject(id, known[1])


def forget() -> None:
    """Read everything again at the next decision of this process."""
    global _cache  # noqa: PLW0603
    _cache = None


def _current() -> _Cache:
    global _cache  # noqa: PLW0603
    cache, now = _cache, clock()
    if cache is not None and now - cache.checked <= FRESH_SECONDS:
        return cache
    revision = Revision.objects.filter(pk=1).values_list("number", flat=True).first() or 0
    if cache is None or cache.revision != revision or now - cache.loaded > _RELOAD_SECONDS:
        policy = load()
        cache = _cache = _Cache(policy, policy.groups, revision, now, now)
    cache.checked = now
    return cache


def load() -> decide.Policy:
    """Read the policy from the database, without the cache."""
    rules: dict[decide.Kind, list[decide.Rule]] = {"model": [], "assistant": [], "feature": []}
    for row in Rule.objects.all():
        data = row.as_data()
        rules[data.kind].append(data)
    defaults: Any = dict(Default.objects.values_list("kind", "allowed"))
    return decide.Policy(
        rules=rules,
        limits=[row.as_data() for row in Limit.objects.all()],
        quotas=[row.as_data() for row in Quota.objects.all()],
        defaults=defaults,
    )
