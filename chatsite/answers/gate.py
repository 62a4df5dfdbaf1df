"""Whether the site takes a new request of a user now: maintenance mode and terms of use.

Both doors ask before they save anything: `chat.submit` and `api.core.requests`.
"""

from __future__ import annotations

from typing import Final

from django.utils.translation import gettext_lazy as _

from chatsite.accounts.models import User
from chatsite.conversations.models import Generation
from chatsite.errors import ChatsiteError
from chatsite.site_settings import current, terms

# Seconds after which clients try again during maintenance.
RETRY_SECONDS: Final = 60


class Maintenance(ChatsiteError):
    """The site is in maintenance mode; administrators are admitted."""

    code = "maintenance"
    status = 503
    permanent = False
    message = _("The site is under maintenance and takes no new requests. Try again later.")


class TermsNotAccepted(ChatsiteError):
    """The user has not accepted the current terms of use."""

    code = "terms_not_accepted"
    status = 403
    message = _(
        "Accept the current terms of use first: sign in to the site in a browser, where they are "
        "shown."
    )


def require_open(user: User) -> None:
    """Raise `Maintenance` or `TermsNotAccepted` if new requests of ``user`` are refused.

    Requests that were accepted before are not asked again. Call it from a thread: it may query the
    database, if there are terms of use.
    """
    values = current()
    if values.maintenance and not user.is_superuser:
        raise Maintenance(values.maintenance_text or None, retry_after=RETRY_SECONDS)
    require_terms(user)


def require_terms(user: User) -> None:
    """Raise `TermsNotAccepted` unless the user has accepted the current terms."""
    if not terms.accepted(user.pk):
        raise TermsNotAccepted


def open_answers() -> int:
    """Return how many answers are queued or running."""
    return Generation.objects.open().count()
