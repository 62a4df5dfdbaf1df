"""Roles: what a user may do in the administration.

A user has a role of their own (`User.role`) and the roles of their groups (`GroupProfile.role`).
The highest is the effective role. It is stored with the user (`User.effective_role`, from which
``is_staff`` and ``is_superuser`` follow), so that a permission costs no query, and is computed
again whenever a role or a membership changes. The permissions of a role are granted by
`accounts.backends.RoleBackend`; pages and APIs check them with `has_perm`.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator
from contextlib import contextmanager
from functools import cache
from typing import TYPE_CHECKING, Any, Final

from django.apps import apps
from django.contrib.auth import get_permission_codename
from django.db import models, transaction
from django.utils.translation import gettext_lazy as _

from chatsite.errors import ChatsiteError

if TYPE_CHECKING:
    from chatsite.accounts.models import User


class Role(models.TextChoices):
    """The roles from highest to lowest."""

    ADMINISTRATOR = "administrator", _("Administrator")
    MODEL_MANAGER = "model_manager", _("Model manager")
    AUDITOR = "auditor", _("Auditor")
    USER = "user", _("User")


# Users whose roles are computed together: databases limit the parameters of a query.
_BATCH: Final = 500
_RANK: Final = {role: -place for place, role in enumerate(Role)}

# Apps whose every permission a role has.
_APPS: Final[dict[str, tuple[str, ...]]] = {
    Role.MODEL_MANAGER: ("models_admin", "assistants"),
}
_PERMISSIONS: Final[dict[str, frozenset[str]]] = {
    Role.MODEL_MANAGER: frozenset({"chat.view_generation", "engines.view_engine"}),
    Role.AUDITOR: frozenset(
        {
            "accounts.view_user",
            "audit.view_event",
            "knowledge.view_collection",
            "policy.view_rule",
            "retention.read_conversation",
            "usage.view_report",
        }
    ),
}


class LastAdministrator(ChatsiteError):
    """The change would leave the site without an active administrator."""

    code = "last_administrator"
    status = 409
    message = _(
        "The site needs at least one active administrator. Give another user the role "
        "administrator first."
    )


def highest(roles: Iterable[str]) -> Role:
    """Return the highest of the roles; `Role.USER` if there are none."""
    return max((Role(role) for role in roles), key=_RANK.__getitem__, default=Role.USER)


@cache
def permissions_of(role: str) -> frozenset[str]:
    """Return the permissions (``app.codename``) of a role, from the declared models.

    Those of an administrator aren't listed: Django gives superusers all.
    """
    found = set(_PERMISSIONS.get(role, ()))
    for label in _APPS.get(role, ()):
        for model in apps.get_app_config(label).get_models():
            options: Any = model._meta
            names = [get_permission_codename(one, options) for one in options.default_permissions]
            names += [codename for codename, _name in options.permissions]
            found |= {f"{label}.{name}" for name in names}
    return frozenset(found)


def has_administrator() -> bool:
    """Return whether an active administrator exists."""
    return bool(_users().objects.filter(is_superuser=True, is_active=True).exists())


@contextmanager
def administrator_kept() -> Iterator[None]:
    """Run changes of users and groups in a transaction.

    Raises `LastAdministrator`, and undoes the changes, if they leave no active administrator. The
    lock makes concurrent changes wait for each other on PostgreSQL; SQLite transactions lock at
    their start anyway.
    """
    from django.contrib.contenttypes.models import ContentType

    kind = ContentType.objects.get_for_model(_users())
    with transaction.atomic():
        ContentType.objects.select_for_update().get(pk=kind.pk)
        had = has_administrator()
        yield
        if had and not has_administrator():
            raise LastAdministrator


def derive(user: User) -> bool:
    """Set the effective role and the flags of a user that is about to be saved.

    Return whether the user was an active administrator and is none any more.

    - What the instance did not change is taken from the database, so that a request that loaded
      the user before can't undo a demotion or a deactivation.
    - Libraries and commands that know only ``is_superuser`` set that flag: it is translated to the
      role. Staff without a role (of installations older than roles) stay staff until their role
      changes.
    """
    before: dict[str, Any] = {}
    if not user._state.adding:
        before = _users().objects.filter(pk=user.pk).values(*user.loaded).first() or {}
    changed = {
        name
        for name, value in user.loaded.items()
        if user._state.adding or getattr(user, name) != value
    }
    for name in before.keys() - changed:
        setattr(user, name, before[name])
    if "is_superuser" in changed and user.role == before.get("role", Role.USER):
        if user.is_superuser:
            user.role = Role.ADMINISTRATOR
        elif user.role == Role.ADMINISTRATOR:
            user.role = Role.USER
    found = highest([user.role, *_roles_of_groups([user.pk])[user.pk]])
    if found != Role.USER or before.get("effective_role", found) != found:
        user.is_staff, user.is_superuser = flags(found)
    user.effective_role = found
    was = before.get("is_superuser", False) and before.get("is_active", False)
    return bool(was and not (user.is_superuser and user.is_active))


def flags(role: str) -> tuple[bool, bool]:
    """Return ``is_staff`` and ``is_superuser`` of the effective role."""
    return role != Role.USER, role == Role.ADMINISTRATOR


def refresh(user_ids: Collection[Any]) -> dict[Any, tuple[Role, Role]]:
    """Compute the effective roles of users again, after a change of their groups.

    Return those that changed: ``{user id: (before, after)}``. Raises `LastAdministrator`.
    """
    changed: dict[Any, tuple[Role, Role]] = {}
    if not user_ids:
        return changed
    users = _users().objects
    ids = list(user_ids)
    with administrator_kept():
        for start in range(0, len(ids), _BATCH):
            batch = ids[start : start + _BATCH]
            of_groups = _roles_of_groups(batch)
            rows = users.filter(pk__in=batch).values_list("pk", "role", "effective_role")
            for pk, own, before in list(rows):
                after = highest([own, *of_groups[pk]])
                if after != before:
                    changed[pk] = (Role(before), after)
            for role in Role:
                rising = [pk for pk in batch if pk in changed and changed[pk][1] == role]
                is_staff, is_superuser = flags(role)
                users.filter(pk__in=rising).update(
                    effective_role=role, is_staff=is_staff, is_superuser=is_superuser
                )
    return changed


def _roles_of_groups(user_ids: Collection[Any]) -> defaultdict[Any, list[str]]:
    found: defaultdict[Any, list[str]] = defaultdict(list)
    ids = [id for id in user_ids if id is not None]
    if ids:
        rows = _users().groups.through._default_manager.filter(user_id__in=ids)
        for user_id, role in rows.exclude(group__profile=None).values_list(
            "user_id", "group__profile__role"
        ):
            found[user_id].append(role)
    return found


def _users() -> Any:
    from chatsite.accounts.models import User

    return User
