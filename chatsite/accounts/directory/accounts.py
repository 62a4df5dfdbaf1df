"""The account of a person of the directory: found, connected or created at sign-in."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

from django.db import IntegrityError, transaction
from django.http import HttpRequest
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from chatsite.accounts.directory import leavers
from chatsite.accounts.directory.groups import RoleMap, set_memberships
from chatsite.accounts.directory.person import Person, SignInRefused
from chatsite.accounts.models import DirectoryIdentity, User
from chatsite.audit.record import record
from chatsite.errors import worded

Source = DirectoryIdentity.Source

_USERNAME_CHARS = 150
_NOT_IN_USERNAMES = re.compile(r"[^\w.@+-]")
_ATTEMPTS = 3


@dataclass(frozen=True)
class Rules:
    """What a directory may do with accounts; see the settings of the same names."""

    create: bool
    link: bool
    role_map: RoleMap = ()


def admit(person: Person, rules: Rules, *, request: HttpRequest | None = None) -> User:
    """Return the account of ``person``, up to date with the directory. May be inactive.

    An account that the directory itself disabled is enabled, except by SCIM's own word. Raises
    `SignInRefused`.
    """
    for attempt in range(_ATTEMPTS):
        try:
            with transaction.atomic():
                user, identity, how = _resolve(person, rules)
            break
        except IntegrityError:  # another request created the account at the same time
            if attempt == _ATTEMPTS - 1:
                raise
    _update(user, person)
    if identity.disabled_at is not None and not user.is_active:
        leavers.enable(user, identity, request=request)
    DirectoryIdentity.objects.filter(pk=identity.pk).update(
        seen_at=timezone.now(), name=person.username[:255]
    )
    if how:
        record(
            f"user.{how}",
            request=request,
            user=user,
            via="page" if request else "system",
            target=("user", str(user.pk), user.get_username()),
            source=person.source,
        )
    if person.groups is not None:
        set_memberships(user, person.source, person.groups, rules.role_map, request=request)
    user.refresh_from_db()
    return user


def _resolve(person: Person, rules: Rules) -> tuple[User, DirectoryIdentity, str]:
    """Return the account, its identity, and "provisioned" or "linked" if that is new."""
    known = (
        DirectoryIdentity.objects.select_related("user")
        .filter(source=person.source, external_id=person.external_id)
        .first()
    )
    if known is not None:
        return known.user, known, ""
    user = _provisioned_by_scim(person) or _linked(person, rules)
    how = "linked"
    if user is None:
        if not rules.create:
            raise SignInRefused(_("You have no account here yet. Ask an administrator for one."))
        user = User(
            username=free_username(person),
            email=person.email,
            first_name=person.first_name[:150],
            last_name=person.last_name[:150],
        )
        user.set_unusable_password()
        user.save()
        how = "provisioned"
    else:
        # A previous holder of the account must not keep access to it.
        user.set_unusable_password()
        user.save(update_fields=["password"])
        leavers.end_access(user)
    identity = connect(user, person)
    return user, identity, how


def connect(user: User, person: Person) -> DirectoryIdentity:
    """Store that ``user`` is ``person``. An identity of the same directory is replaced."""
    identity, _new = DirectoryIdentity.objects.update_or_create(
        user=user,
        source=person.source,
        defaults={"external_id": person.external_id, "name": person.username[:255]},
    )
    return identity


def _provisioned_by_scim(person: Person) -> User | None:
    if person.source == Source.SCIM:
        return None
    found = DirectoryIdentity.objects.select_related("user").filter(
        source=Source.SCIM, external_id=person.external_id
    )
    identity = found.exclude(user__identities__source=person.source).first()
    return identity.user if identity else None


def _linked(person: Person, rules: Rules) -> User | None:
    """Return an existing account that the settings let this person take over.

    LDAP names users as the site does; other directories are matched by verified e-mail. An
    administrator's account is never linked: control of an e-mail address or a name in the directory
    would grant control of the site. Nor is an account that another user of the same directory has.
    """
    if not rules.link:
        return None
    others = User.objects.exclude(identities__source=person.source).filter(is_superuser=False)
    if person.source == Source.LDAP:
        return others.filter(username__iexact=person.username).first()
    if not person.email or not person.email_verified:
        return None
    found = list(others.filter(email__iexact=person.email)[:2])
    return found[0] if len(found) == 1 else None


def free_username(person: Person) -> str:
    """Return the username of a new account.

    The name of another person of a directory gets a number. Raises `SignInRefused` if a local
    account has the name.
    """
    name = clean_username(person.username) or clean_username(person.email.partition("@")[0])
    name = name or clean_username(person.external_id)
    candidate, number = name, 1
    while (holder := User.objects.filter(username__iexact=candidate).first()) is not None:
        if not holder.identities.filter(source=person.source).exists():
            raise SignInRefused(
                worded(
                    _(
                        "An account named %s exists here already. Ask an administrator to rename "
                        "it or to connect it."
                    ),
                    candidate,
                )
            )
        number += 1
        mark = f"-{number}"
        candidate = name[: _USERNAME_CHARS - len(mark)] + mark
    return candidate


def clean_username(text: str) -> str:
    """Return ``text`` with the characters of usernames only."""
    normal = unicodedata.normalize("NFKC", text).strip()
    return _NOT_IN_USERNAMES.sub("_", normal)[:_USERNAME_CHARS]


def _update(user: User, person: Person) -> None:
    """Take over name and e-mail address, which the directory owns."""
    values = {
        "first_name": person.first_name[:150],
        "last_name": person.last_name[:150],
        "email": person.email[:254],
    }
    changed = [name for name, value in values.items() if value and getattr(user, name) != value]
    for name in changed:
        setattr(user, name, values[name])
    if changed:
        user.save(update_fields=changed)
