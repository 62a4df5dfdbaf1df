"""Changes of users and groups, by administrators, the command line and directories.

Each function records an audit event, and raises a `ChatsiteError` whose message says what to do;
nothing is changed then. None leaves the site without an administrator (`roles.LastAdministrator`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass
from typing import Any, Final, TypeVar

from django.contrib.auth.models import Group
from django.core.exceptions import ValidationError
from django.db import transaction
from django.db.models import Model, ProtectedError, Q
from django.db.models.deletion import Collector
from django.http import HttpRequest
from django.utils.translation import gettext_lazy as _

from chatsite.accounts import keys, lookup, sessions
from chatsite.accounts.models import ApiKey, GroupProfile, User
from chatsite.accounts.roles import Role, administrator_kept
from chatsite.audit.record import record
from chatsite.errors import ChatsiteError

_NAMES_MOST: Final = 20
T = TypeVar("T")


class OwnAccount(ChatsiteError):
    code = "own_account"
    status = 409
    message = _("You can't deactivate or delete your own account. Ask another administrator.")


class DirectoryGroup(ChatsiteError):
    """The members of the group are set by the directory."""

    code = "directory_group"
    status = 409
    message = _("The members of this group come from the directory. Change them there.")
    detailed = _("The members of “%(group)s” come from the directory. Change them there.")


class GroupNameTaken(ChatsiteError):
    code = "group_name_taken"
    status = 409
    message = _("Another group has this name.")


class BadGroupName(ChatsiteError):
    code = "bad_group_name"
    status = 400
    message = _("Enter a name of 1 to 150 characters.")


class Protected(ChatsiteError):
    """Other records, such as legal holds, keep the object from deletion."""

    code = "protected"
    status = 409
    message = _("A legal hold protects it from deletion. Lift the hold first.")
    detailed = _("A legal hold protects %(name)s from deletion. Lift the hold first.")


@dataclass(frozen=True)
class Actor:
    """Who makes a change, for the audit log. Without a user it is the command line's."""

    user: User | None = None
    request: HttpRequest | None = None
    via: str = "page"

    def record(self, kind: str, target: User | Group, **details: Any) -> None:
        name = target.get_username() if isinstance(target, User) else target.name
        what = "user" if isinstance(target, User) else "group"
        record(
            kind,
            request=self.request,
            user=self.user,
            via=self.via,
            target=(what, str(target.pk), name),
            **details,
        )


def create(
    actor: Actor,
    *,
    username: str,
    email: str = "",
    first_name: str = "",
    last_name: str = "",
    role: str = Role.USER,
    groups: Collection[Group] = (),
    password: str | None = None,
) -> User:
    """Save and return a new user. Without a password they need a link to choose one.

    Raises `ValidationError` with the errors by field.
    """
    user = User(
        username=username.strip(),
        email=email.strip(),
        first_name=first_name.strip(),
        last_name=last_name.strip(),
        role=role,
    )
    user.set_password(password)
    with transaction.atomic():
        _validate(user)
        user.save()
        require_local(groups)
        user.groups.set(groups)
    actor.record("user.created", user, role=user.role, groups=[group.name for group in groups])
    return user


def rename(actor: Actor, user: User, **fields: str) -> bool:
    """Change ``username``, ``email``, ``first_name`` or ``last_name``. Return whether any changed.

    Raises `ValidationError` with the errors by field.
    """
    changed = [name for name, value in fields.items() if getattr(user, name) != value.strip()]
    if not changed:
        return False
    before = user.get_username()
    for name in changed:
        setattr(user, name, fields[name].strip())
    _validate(user)
    user.save(update_fields=changed)
    details = {"before": before} if before != user.get_username() else {}
    actor.record("user.changed", user, fields=changed, **details)
    return True


def _validate(user: User) -> None:
    """Raise `ValidationError` with the errors by field."""
    errors: dict[str, list[Any]] = {}
    try:
        user.full_clean(exclude=["password"])
    except ValidationError as error:
        errors = dict(error.error_dict)
    # A name that differs in case only violates a constraint, which belongs to no field.
    unique = [one for one in errors.get("username", ()) if one.code == "unique"]
    if unique or errors.pop("__all__", []):
        others = [one for one in errors.get("username", ()) if one not in unique]
        errors["username"] = [*others, ValidationError(_("That username is already taken."))]
    if user.email and lookup.is_taken(user.email, besides=user):
        errors.setdefault("email", []).append(
            ValidationError(_("Another account has this email address."))
        )
    if errors:
        raise ValidationError(errors)


def set_role(actor: Actor, users: Iterable[User], role: str) -> int:
    """Give users a role of their own. Return how many had another. Raises `LastAdministrator`."""
    changed = [user for user in users if user.role != role]
    before = {user.pk: user.role for user in changed}
    with administrator_kept():
        for user in changed:
            user.role = role
            user.save(update_fields=["role"])
    for user in changed:
        actor.record(
            "user.role_changed",
            user,
            before=before[user.pk],
            after=role,
            effective=user.effective_role,
        )
    return len(changed)


def deactivate(actor: Actor, users: Iterable[User], reason: str = "") -> int:
    """Deactivate users and end their sessions; their keys stop working. Return how many.

    Raises `LastAdministrator` or `OwnAccount`.
    """
    changed = [user for user in users if user.is_active]
    with transaction.atomic():
        with administrator_kept():
            for user in changed:
                user.is_active = False
                user.save(update_fields=["is_active"])
        refuse_own(actor, changed)
    for user in changed:
        actor.record("user.deactivated", user, reason=reason)
    return len(changed)


def activate(actor: Actor, users: Iterable[User]) -> int:
    changed = [user for user in users if not user.is_active]
    with transaction.atomic():
        for user in changed:
            user.is_active = True
            user.save(update_fields=["is_active"])
    for user in changed:
        actor.record("user.activated", user)
    return len(changed)


def refuse_own(actor: Actor, users: Collection[User]) -> None:
    """Raise `OwnAccount` if the actor is one of the users."""
    if actor.user is not None and actor.user.pk in {user.pk for user in users}:
        raise OwnAccount


def revoke_keys(actor: Actor, users: Iterable[User]) -> int:
    """Revoke all keys of users; their open streams end within seconds. Return how many."""
    found = ApiKey.objects.filter(owner__in=list(users), revoked_at=None).select_related("owner")
    return sum(revoke_key(actor, key) for key in found)


def revoke_key(actor: Actor, key: ApiKey) -> bool:
    """Revoke a key. Return False if it was revoked already."""
    if key.revoked_at is not None:
        return False
    keys.revoke(key)
    actor.record("key.revoked", key.owner, key=key.prefix, name=key.name)
    return True


def end_sessions(actor: Actor, users: Iterable[User]) -> int:
    """End all sessions of users and close their sockets. Return the number of users."""
    count = 0
    for user in users:
        sessions.end_all(user, by=actor.user, via=actor.via)
        count += 1
    return count


def will_delete(users: Collection[User]) -> list[tuple[str, int]]:
    """Return what a deletion of users removes: names of kinds in the plural, and counts.

    Raises `Protected` if one of them must be kept.
    """
    counts: Counter[type[Model]] = Counter()
    collector = Collector(using="default")
    try:
        collector.collect(list(users))
    except ProtectedError as error:
        raise Protected from error
    for model, instances in collector.data.items():
        counts[model] += len(instances)
    for query in collector.fast_deletes:
        counts[query.model] += query.count()
    named = [
        (str(model._meta.verbose_name_plural), count)
        for model, count in counts.items()
        if count and not model._meta.auto_created
    ]
    return sorted(named, key=lambda one: (-one[1], one[0]))


def together(changes: Callable[[], T]) -> T:
    """Run several changes as one. Raises `LastAdministrator` if all of them together need it."""
    with administrator_kept():
        return changes()


# Groups.


def create_group(actor: Actor, name: str, *, role: str = Role.USER) -> Group:
    """Raises `BadGroupName` or `GroupNameTaken`."""
    group = Group(name=_group_name(name))
    with transaction.atomic():
        group.save()
        if role != Role.USER:
            profile = profile_of(group)
            profile.role = role
            profile.save()
    actor.record("group.created", group, role=role)
    return group


def profile_of(group: Group) -> GroupProfile:
    return GroupProfile.objects.get_or_create(group=group)[0]


def change_group(
    actor: Actor,
    group: Group,
    *,
    name: str | None = None,
    role: str | None = None,
    mfa_required: bool | None = None,
) -> bool:
    """Change a group. None leaves a value. Return whether anything changed.

    Raises `BadGroupName`, `GroupNameTaken` or `LastAdministrator`.
    """
    profile = profile_of(group)
    details: dict[str, Any] = {}
    with administrator_kept():
        if name is not None and name.strip() != group.name:
            details["renamed_from"] = group.name
            group.name = _group_name(name, but=group)
            group.save()
        if role is not None and role != profile.role:
            details |= {"role_before": profile.role, "role": role}
            profile.role = role
        if mfa_required is not None and mfa_required != profile.mfa_required:
            details["mfa_required"] = mfa_required
            profile.mfa_required = mfa_required
        if details:
            profile.save()
    if details:
        actor.record("group.changed", group, **details)
    return bool(details)


def delete_group(actor: Actor, group: Group) -> None:
    """Delete a group; its members stay users. Raises `LastAdministrator` or `Protected`."""
    members = group.user_set.count()
    deleted = Group(pk=group.pk, name=group.name)
    try:
        with administrator_kept():
            group.delete()
    except ProtectedError as error:
        raise Protected(name=deleted.name) from error
    actor.record("group.deleted", deleted, members=members)


def add_members(actor: Actor, group: Group, users: Iterable[User]) -> int:
    """Add users to a local group. Return how many were no members. Raises `DirectoryGroup`."""
    require_local([group])
    members = set(group.user_set.values_list("pk", flat=True))
    new = [user for user in users if user.pk not in members]
    if new:
        group.user_set.add(*new)
        actor.record("group.members_added", group, count=len(new), users=_names(new))
    return len(new)


def remove_members(actor: Actor, group: Group, users: Iterable[User]) -> int:
    """Remove users from a local group. Return how many were members.

    Raises `DirectoryGroup` or `LastAdministrator`.
    """
    require_local([group])
    wanted = [user.pk for user in users]
    gone = list(group.user_set.filter(pk__in=wanted))
    if gone:
        with administrator_kept():
            group.user_set.remove(*gone)
        actor.record("group.members_removed", group, count=len(gone), users=_names(gone))
    return len(gone)


def set_local_groups(actor: Actor, user: User, groups: Collection[Group]) -> bool:
    """Set the local groups of a user; those of the directory stay. Return whether any changed.

    Raises `DirectoryGroup` or `LastAdministrator`.
    """
    require_local(groups)
    before = set(local_groups().filter(user=user))
    after = set(groups)
    if before == after:
        return False
    with administrator_kept():
        user.groups.add(*(after - before))
        user.groups.remove(*(before - after))
    actor.record(
        "user.groups_changed",
        user,
        added=sorted(group.name for group in after - before),
        removed=sorted(group.name for group in before - after),
        effective=user.effective_role,
    )
    return True


def local_groups() -> Any:
    """Return the groups whose members administrators set."""
    return Group.objects.filter(Q(profile=None) | Q(profile__source=GroupProfile.Source.LOCAL))


def require_local(groups: Collection[Group]) -> None:
    foreign = GroupProfile.objects.filter(
        group__in=list(groups), source=GroupProfile.Source.DIRECTORY
    )
    first = foreign.select_related("group").first()
    if first is not None:
        raise DirectoryGroup(group=first.group.name)


def _group_name(name: str, but: Group | None = None) -> str:
    clean = " ".join(name.split())
    if not 1 <= len(clean) <= 150:
        raise BadGroupName
    others = Group.objects.filter(name__iexact=clean)
    if but is not None:
        others = others.exclude(pk=but.pk)
    if others.exists():
        raise GroupNameTaken
    return clean


def _names(users: Collection[User]) -> list[str]:
    return [user.get_username() for user in users][:_NAMES_MOST]
