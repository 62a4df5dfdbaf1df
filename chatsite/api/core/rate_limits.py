"""OpenAI's rate limit headers: what is left of the caller's quotas.

Of several quotas of requests, and of tokens, the one with the least left is shown. What open
requests have reserved counts as used. A caller without quotas gets no such headers.
"""

from __future__ import annotations

import logging

from django.db import DatabaseError
from django.http import HttpResponseBase

from chatsite.accounts.models import User
from chatsite.api.core.database import in_database
from chatsite.policy import quotas

log = logging.getLogger(__name__)

_UNITS = ("requests", "tokens")


async def add_headers(response: HttpResponseBase, user: User) -> None:
    """Set the headers that apply; none if the database fails."""
    try:
        found = await in_database(lambda: headers(quotas.states(user)))
    except DatabaseError as error:
        log.warning("Answer gets no rate limit headers", extra={"error": error})
        return
    for name, value in found.items():
        response[name] = value


def headers(states: list[quotas.State]) -> dict[str, str]:
    found = {}
    for unit in _UNITS:
        state = quotas.tightest(states, unit)
        if state is not None:
            found[f"x-ratelimit-limit-{unit}"] = str(state.quota.amount)
            found[f"x-ratelimit-remaining-{unit}"] = str(state.left)
            found[f"x-ratelimit-reset-{unit}"] = duration(quotas.seconds_until(state.renews_at))
    return found


def duration(seconds: int) -> str:
    """Return a duration as OpenAI writes it: ``1h2m3s``, ``6m0s``, ``7s``."""
    hours, rest = divmod(seconds, 3600)
    minutes, rest = divmod(rest, 60)
    if hours:
        return f"{hours}h{minutes}m{rest}s"
    return f"{minutes}m{rest}s" if minutes else f"{rest}s"
