"""Users and groups as SCIM clients see them, and what clients may say of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from django.conf import settings
from django.contrib.auth.models import Group
from django.db.models import Q, QuerySet
from django.urls import reverse

from chatsite.accounts.directory.groups import base_name
from chatsite.accounts.models import DirectoryIdentity, GroupProfile, User
from chatsite.accounts.scim.errors import ScimError

SOURCE: Final = DirectoryIdentity.Source.SCIM
USER: Final = "urn:ietf:params:scim:schemas:core:2.0:User"
GROUP: Final = "urn:ietf:params:scim:schemas:core:2.0:Group"
LIST: Final = "urn:ietf:params:scim:api:messages:2.0:ListResponse"
ERROR: Final = "urn:ietf:params:scim:api:messages:2.0:Error"
PATCH: Final = "urn:ietf:params:scim:api:messages:2.0:PatchOp"
# Begins the external ID of users and groups for which the client gave none, or that it deleted.
UNNAMED: Final = "#"
DELETED: Final = "#deleted:"
_GROUP_START: Final = f"{SOURCE}:"


def users() -> QuerySet[User]:
    """Return the users that SCIM sees: its own and other directories', or all if it may link.

    Administrators who are local are never among them, nor users that SCIM deleted.
    """
    seen = Q(identities__isnull=False)
    if settings.ENV.scim_link_accounts:
        seen |= Q(is_superuser=False)
    deleted = DirectoryIdentity.objects.filter(source=SOURCE, external_id__startswith=DELETED)
    found = User.objects.filter(seen).exclude(pk__in=deleted.values("user"))
    return found.distinct().prefetch_related("identities", "groups__profile").order_by("pk")


def groups() -> QuerySet[Group]:
    return Group.objects.filter(
        profile__source=GroupProfile.Source.DIRECTORY,
        profile__external_id__startswith=_GROUP_START,
    ).order_by("pk")


def identity_of(user: User) -> DirectoryIdentity | None:
    return next((one for one in user.identities.all() if one.source == SOURCE), None)


def external_id_of(user: User) -> str | None:
    identity = identity_of(user)
    if identity is None or identity.external_id.startswith(UNNAMED):
        return None
    return identity.external_id


def user_document(user: User) -> dict[str, Any]:
    identity = identity_of(user)
    # The directory's own name, which may have characters that usernames have not.
    name = identity.name if identity and identity.name else user.username
    full_name = user.get_full_name()
    return {
        "schemas": [USER],
        "id": str(user.pk),
        "externalId": external_id_of(user),
        "userName": name,
        "name": {
            "givenName": user.first_name,
            "familyName": user.last_name,
            "formatted": full_name,
        },
        "displayName": full_name or name,
        "active": user.is_active,
        "emails": [{"value": user.email, "type": "work", "primary": True}] if user.email else [],
        "groups": [
            {"value": str(group.pk), "display": base_name(group.name, SOURCE)}
            for group in user.groups.all()
            if group.profile.external_id.startswith(_GROUP_START)
        ],
        "meta": {
            "resourceType": "User",
            "created": user.date_joined.isoformat(),
            "lastModified": (identity.seen_at if identity else user.date_joined).isoformat(),
            "location": reverse("scim_user", args=[user.pk]),
        },
    }


def group_document(group: Group, *, with_members: bool = True) -> dict[str, Any]:
    external_id = group.profile.external_id.removeprefix(_GROUP_START)
    found: dict[str, Any] = {
        "schemas": [GROUP],
        "id": str(group.pk),
        "externalId": None if external_id.startswith(UNNAMED) else external_id,
        "displayName": base_name(group.name, SOURCE),
        "meta": {"resourceType": "Group", "location": reverse("scim_group", args=[group.pk])},
    }
    if with_members:
        found["members"] = [
            {"value": str(pk), "display": name, "type": "User"}
            for pk, name in group.user_set.order_by("pk").values_list("pk", "username")
        ]
    return found


@dataclass(frozen=True)
class UserFields:
    """What a client says of a user; ``active`` is None if it did not say."""

    user_name: str
    external_id: str
    email: str
    first_name: str
    last_name: str
    active: bool | None


def user_fields(document: Mapping[str, Any]) -> UserFields:
    """Return the fields of a document. Raises `ScimError` (invalidValue)."""
    found = {name.lower(): value for name, value in document.items()}
    user_name = _text(found.get("username"), "userName", 255)
    if not user_name:
        raise ScimError("userName is required.", kind="invalidValue")
    name = found.get("name") or {}
    if not isinstance(name, dict):
        raise ScimError("name must be an object.", kind="invalidValue")
    name = {key.lower(): value for key, value in name.items()}
    return UserFields(
        user_name=user_name,
        external_id=_text(found.get("externalid"), "externalId", 255),
        email=_email(found.get("emails")),
        first_name=_text(name.get("givenname"), "name.givenName", 150),
        last_name=_text(name.get("familyname"), "name.familyName", 150),
        active=_boolean(found.get("active")),
    )


def _email(value: Any) -> str:
    """Return the primary address, or the first."""
    elements = value if isinstance(value, list) else [value] if value else []
    found = [
        one if isinstance(one, dict) else {"value": one} for one in elements if one is not None
    ]
    ordered = sorted(found, key=lambda one: _boolean(one.get("primary")) is not True)
    return next(
        (text for one in ordered if (text := _text(one.get("value"), "emails.value", 254))), ""
    )


def _text(value: Any, name: str, most: int) -> str:
    if value is None:
        return ""
    if not isinstance(value, str | int) or isinstance(value, bool):
        raise ScimError(f"{name} must be a text.", kind="invalidValue")
    text = str(value).strip()
    if len(text) > most or not text.isprintable():
        raise ScimError(
            f"{name} must have at most {most} printable characters.", kind="invalidValue"
        )
    return text


def text_of(value: Any, name: str, most: int) -> str:
    """Return a text of a client. Raises `ScimError` (invalidValue)."""
    return _text(value, name, most)


def _boolean(value: Any) -> bool | None:
    """Return a boolean; Entra ID sends "True" and "False". Raises `ScimError` (invalidValue)."""
    if value is None or isinstance(value, bool):
        return value
    if isinstance(value, str) and value.lower() in {"true", "false"}:
        return value.lower() == "true"
    raise ScimError(f"{str(value)[:50]!r} must be true or false.", kind="invalidValue")
