"""Acceptance of the terms of use."""

from __future__ import annotations

from typing import Final

from django.http import HttpRequest
from django.utils import timezone

from chatsite.audit.record import record
from chatsite.site_settings.cache import current
from chatsite.site_settings.models import TermsAcceptance

# Users of a process that have accepted a version. It is never withdrawn, except with the account.
_accepted: Final[set[tuple[int, str]]] = set()
_REMEMBERED: Final = 100_000


def forget() -> None:
    """Ask the database again who has accepted."""
    _accepted.clear()


def required() -> str:
    """Return the version that users must accept; "" if there are no terms."""
    values = current()
    return values.terms_version if values.terms_text else ""


def accepted(user_id: int) -> bool:
    """Return whether the user has accepted the current version, if there is one.

    Queries the database until the user has.
    """
    version = required()
    if not version or (user_id, version) in _accepted:
        return True
    if not TermsAcceptance.objects.filter(user_id=user_id, version=version).exists():
        return False
    if len(_accepted) >= _REMEMBERED:
        _accepted.clear()
    _accepted.add((user_id, version))
    return True


def accept(request: HttpRequest, version: str) -> bool:
    """Store that the user of the request accepts ``version``; False if it is not the current one.

    A new version may have been published while the user read the former one.
    """
    if not version or version != required():
        return False
    _row, new = TermsAcceptance.objects.get_or_create(
        user_id=request.user.pk or 0, version=version, defaults={"accepted_at": timezone.now()}
    )
    if new:
        record("terms.accepted", request=request, target=("terms", version, version))
    return True
