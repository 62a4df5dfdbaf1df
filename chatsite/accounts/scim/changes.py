"""What SCIM clients change of users and groups."""

from __future__ import annotations

import uuid
from collections.abc import Collection, Mapping
from typing import Any

from django.conf import settings
from django.contrib.auth.models import Group
from django.db import transaction
from django.utils import timezone

from chatsite.accounts import lookup
from chatsite.accounts.directory import leavers
from chatsite.accounts.directory.accounts import clean_username
from chatsite.accounts.directory.groups import base_name, ensure
from chatsite.accounts.directory.person import DirectoryGroup
from chatsite.accounts.models import DirectoryIdentity, GroupProfile, User
from chatsite.accounts.scim import documents
from chatsite.accounts.scim.documents import DELETED, SOURCE, UNNAMED, UserFields
from chatsite.accounts.scim.errors import ScimError

_NAME_CHARS = 150


def create_user(fields: UserFields) -> User:
    """Create an account, or restore one that SCIM deleted. Raises `ScimError` (uniqueness)."""
    with transaction.atomic():
        username = clean_username(fields.user_name)
        user = User.objects.filter(username__iexact=username).first()
        deleted = DirectoryIdentity.objects.filter(
            user=user, source=SOURCE, external_id__startswith=DELETED
        )
        if user is None:
            if lookup.is_taken(username):
                raise _taken(fields.user_name)
            user = User(username=username)
            user.set_unusable_password()
            user.save()
        elif not deleted.exists():
            raise _taken(fields.user_name)
        return _write(user, fields)


def change_user(user: User, fields: UserFields) -> User:
    """Make the account what the client says. Raises `ScimError` or `LastAdministrator`."""
    with transaction.atomic():
        username = clean_username(fields.user_name)
        if username.lower() != user.username.lower():
            if User.objects.filter(username__iexact=username).exclude(pk=user.pk).exists():
                raise _taken(fields.user_name)
            user.username = username
            user.save(update_fields=["username"])
        return _write(user, fields)


def _write(user: User, fields: UserFields) -> User:
    external_id = fields.external_id or f"{UNNAMED}{user.pk}"
    others = DirectoryIdentity.objects.filter(source=SOURCE, external_id=external_id)
    if others.exclude(user=user).exists():
        raise ScimError(
            f"Another user has the externalId {external_id}.", status=409, kind="uniqueness"
        )
    identity, new = DirectoryIdentity.objects.update_or_create(
        user=user,
        source=SOURCE,
        defaults={
            "external_id": external_id,
            "name": fields.user_name,
            "seen_at": timezone.now(),
        },
    )
    if new and user.has_usable_password():
        # A local account that SCIM takes over signs in by the directory from now on.
        user.set_unusable_password()
        user.save(update_fields=["password"])
        leavers.end_access(user)
    user.first_name, user.last_name = fields.first_name, fields.last_name
    user.email = fields.email
    user.save(update_fields=["first_name", "last_name", "email"])
    if fields.active is False and user.is_active:
        leavers.disable(user, identity, reason="SCIM", via="scim")
    # An account that an administrator disabled stays so.
    if fields.active is not False and not user.is_active and identity.disabled_at is not None:
        leavers.enable(user, identity, via="scim")
    return documents.users().get(pk=user.pk)


def delete_user(user: User) -> None:
    """Disable the account and hide it from SCIM. What the user owns stays, under retention."""
    with transaction.atomic():
        identity, _new = DirectoryIdentity.objects.update_or_create(
            user=user, source=SOURCE, defaults={"external_id": f"{DELETED}{user.pk}"}
        )
        user.groups.remove(*user.groups.filter(pk__in=documents.groups().values("pk")))
        if user.is_active:
            leavers.disable(user, identity, reason="deleted by SCIM", via="scim")


def create_group(document: Mapping[str, Any]) -> Group:
    name, external_id = _group_fields(document)
    with transaction.atomic():
        _require_free(name)
        one = DirectoryGroup(external_id or f"{UNNAMED}{uuid.uuid4().hex}", name)
        if GroupProfile.objects.filter(external_id=f"{SOURCE}:{one.external_id}").exists():
            raise ScimError(
                f"Another group has the externalId {external_id}.", status=409, kind="uniqueness"
            )
        group = ensure(SOURCE, [one], settings.ENV.scim_roles)[0]
        group.user_set.set(_members(document))
    return documents.groups().get(pk=group.pk)


def change_group(group: Group, document: Mapping[str, Any]) -> Group:
    """Make the group what the client says. Raises `ScimError` or `LastAdministrator`."""
    name, external_id = _group_fields(document)
    with transaction.atomic():
        _require_free(name, besides=group)
        profile = group.profile
        if external_id:
            profile.external_id = f"{SOURCE}:{external_id}"
            profile.save(update_fields=["external_id"])
        one = DirectoryGroup(profile.external_id.removeprefix(f"{SOURCE}:"), name)
        group = ensure(SOURCE, [one], settings.ENV.scim_roles)[0]
        group.user_set.set(_members(document))
    return documents.groups().get(pk=group.pk)


def delete_group(group: Group) -> None:
    """Delete a group; its members stay. Raises `LastAdministrator`."""
    with transaction.atomic():
        group.delete()


def _group_fields(document: Mapping[str, Any]) -> tuple[str, str]:
    found = {name.lower(): value for name, value in document.items()}
    name = documents.text_of(found.get("displayname"), "displayName", _NAME_CHARS)
    if not name:
        raise ScimError("displayName is required.", kind="invalidValue")
    return name, documents.text_of(found.get("externalid"), "externalId", 240)


def _require_free(name: str, *, besides: Group | None = None) -> None:
    """Raise `ScimError` (uniqueness) if another group of SCIM has the name."""
    for group in documents.groups():
        if group != besides and base_name(group.name, SOURCE).casefold() == name.casefold():
            raise ScimError(f"Another group is named {name}.", status=409, kind="uniqueness")


def _members(document: Mapping[str, Any]) -> Collection[User]:
    """Return the members of a group document. Raises `ScimError` (invalidValue)."""
    given = next((value for name, value in document.items() if name.lower() == "members"), None)
    elements = given if isinstance(given, list) else []
    ids = set()
    for element in elements:
        value = str(element.get("value", "")) if isinstance(element, dict) else ""
        if not value.isascii() or not value.isdecimal() or len(value) > 18:
            raise _no_user(value)
        ids.add(int(value))
    found = list(documents.users().filter(pk__in=ids))
    if missing := ids - {user.pk for user in found}:
        raise _no_user(str(min(missing)))
    return found


def _no_user(value: str) -> ScimError:
    return ScimError(f"The member {value[:50]!r} is not a user of SCIM.", kind="invalidValue")


def _taken(name: str) -> ScimError:
    return ScimError(f"Another user has the userName {name}.", status=409, kind="uniqueness")
