"""The notices above all pages: maintenance, and the announcement with who dismissed it."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime

from django.utils import timezone

from chatsite.site_settings.cache import current
from chatsite.site_settings.fields import SiteSettings
from chatsite.site_settings.models import DismissedBanner

_DIGEST_CHARS = 32


@dataclass(frozen=True)
class Announcement:
    """``digest`` names the text, so that a new text is shown again."""

    text: str
    digest: str


def announcement(values: SiteSettings, now: datetime) -> Announcement | None:
    """Return the announcement of this moment."""
    if not values.banner_text:
        return None
    if values.banner_from is not None and now < values.banner_from:
        return None
    if values.banner_until is not None and now >= values.banner_until:
        return None
    digest = hashlib.sha256(values.banner_text.encode()).hexdigest()[:_DIGEST_CHARS]
    return Announcement(values.banner_text, digest)


def notices_digest() -> str:
    """Return what changes whenever the notices above all pages do. No query."""
    values = current()
    found = announcement(values, timezone.now())
    shown = (values.maintenance, values.maintenance and values.maintenance_text, found)
    return hashlib.sha256(repr(shown).encode()).hexdigest()[:_DIGEST_CHARS]


def shown_to(user_id: int) -> Announcement | None:
    """Return the announcement that the user has not dismissed. One query while there is one."""
    found = announcement(current(), timezone.now())
    if found is None:
        return None
    dismissed = DismissedBanner.objects.filter(user_id=user_id, digest=found.digest).exists()
    return None if dismissed else found


def dismiss(user_id: int, digest: str) -> None:
    """Hide the announcement with that digest for the user."""
    DismissedBanner.objects.update_or_create(
        user_id=user_id, defaults={"digest": digest[:_DIGEST_CHARS]}
    )
