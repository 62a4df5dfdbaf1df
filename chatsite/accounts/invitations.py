"""Invitations: links by which people create their accounts, with a role and groups."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta
from typing import Final

from django.contrib.auth.models import Group
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import QuerySet
from django.urls import reverse
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from chatsite.accounts import links, lookup, mail
from chatsite.accounts.models import Invitation, User
from chatsite.accounts.roles import Role
from chatsite.audit.record import record
from chatsite.site_settings import current

DAYS: Final = 7
DAYS_MAX: Final = 90


def create(
    *,
    by: User | None,
    email: str = "",
    username: str = "",
    first_name: str = "",
    last_name: str = "",
    role: str = Role.USER,
    groups: Iterable[Group] = (),
    days: int = DAYS,
    via: str = "page",
) -> tuple[Invitation, str]:
    """Save an invitation; return it with its URL, which is not stored.

    Raises `ValidationError` for values that can't become an account. Only administrators may give a
    role: callers check that.
    """
    text, digest = links.new_token()
    invitation = Invitation(
        digest=digest,
        email=email.strip(),
        username=username.strip(),
        first_name=first_name.strip(),
        last_name=last_name.strip(),
        role=role,
        created_by=by,
        expires_at=timezone.now() + timedelta(days=days),
    )
    invitation.clean_fields()
    _check(invitation, days)
    groups = list(groups)
    with transaction.atomic():
        invitation.save()
        invitation.groups.set(groups)
    record(
        "invitation.created",
        user=by,
        via=via,
        target=_target(invitation),
        role=role,
        groups=[group.name for group in groups],
        days=days,
    )
    return invitation, links.absolute(reverse("invitation", args=[text]))


def _check(invitation: Invitation, days: int) -> None:
    if not 1 <= days <= DAYS_MAX:
        raise ValidationError(_("Choose 1 to %(most)s days."), params={"most": DAYS_MAX})
    if current().local_passwords != "allowed" and invitation.role != Role.ADMINISTRATOR:
        raise ValidationError(
            _("Passwords of this site are for administrators only, see the settings of sign-in.")
        )
    if invitation.username:
        User._meta.get_field("username").run_validators(invitation.username)
        if lookup.is_taken(invitation.username):
            raise ValidationError({"username": _("That username is already taken.")})
    if invitation.email and lookup.is_taken(invitation.email):
        raise ValidationError({"email": _("Another account has this email address.")})


def send(invitation: Invitation, url: str) -> str:
    """Mail the invitation; return what failed, or an empty text."""
    if not mail.configured():
        return str(_("No mail server is configured."))
    if not invitation.email:
        return str(_("The invitation has no email address."))
    written = mail.written(invitation.email, "invitation", invitation=invitation, url=url)
    try:
        mail.send(written)
    except mail.Failures as error:
        return str(error) or type(error).__name__
    return ""


def pending() -> QuerySet[Invitation]:
    """Return the invitations that can still be accepted, newest first."""
    return Invitation.objects.usable().select_related("created_by").prefetch_related("groups")


def find(text: str) -> Invitation | None:
    found: Invitation | None = Invitation.objects.usable().filter(digest=links.digest(text)).first()
    return found


def revoke(invitation: Invitation, *, by: User | None, via: str = "page") -> bool:
    """Revoke the invitation. Returns False if it was used or revoked already."""
    rows = Invitation.objects.filter(pk=invitation.pk, used_at=None, revoked_at=None)
    if not rows.update(revoked_at=timezone.now()):
        return False
    record("invitation.revoked", user=by, via=via, target=_target(invitation))
    return True


def accept(invitation: Invitation, user: User) -> bool:
    """Save the new ``user`` with the invitation's role and groups.

    Returns False if the invitation can't be used any more. Raises `IntegrityError` if the name was
    just taken; the invitation stays usable then.
    """
    with transaction.atomic():
        if not links.use(invitation):
            return False
        user.role = invitation.role
        user.save()
        user.groups.set(invitation.groups.all())
        Invitation.objects.filter(pk=invitation.pk).update(accepted_by=user)
    record("invitation.accepted", user=user, target=_target(invitation), role=invitation.role)
    return True


def _target(invitation: Invitation) -> tuple[str, str, str]:
    return "invitation", str(invitation.pk), str(invitation)
