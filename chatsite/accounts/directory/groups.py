"""Groups of the directory: kept as groups of the site, with members that only the directory sets.

A group of the directory is a `Group` whose profile has the source "directory" and an external ID
that begins with the kind of directory (``ldap:…``). Local groups are never touched.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from django.contrib.auth.models import Group
from django.db import transaction
from django.http import HttpRequest

from chatsite.accounts import roles
from chatsite.accounts.directory.person import DirectoryGroup, role_of
from chatsite.accounts.models import GroupProfile, User
from chatsite.audit.record import record

# Groups of one user. More would be a wrong claim or filter.
GROUPS_MOST = 1000
_NAME_CHARS = 150
_ID_CHARS = 255

RoleMap = Sequence[tuple[str, str]]


def of_source(source: str) -> str:
    """Return how external IDs of a directory's groups begin."""
    return f"{source}:"


def set_memberships(
    user: User,
    source: str,
    groups: Iterable[DirectoryGroup],
    role_map: RoleMap,
    *,
    request: HttpRequest | None = None,
    via: str = "page",
) -> None:
    """Make ``groups`` the groups that ``user`` has from the directory ``source``.

    A membership that makes the last administrator is kept, and the audit log says so.
    """
    wanted = list(groups)[:GROUPS_MOST]
    with transaction.atomic():
        present = {one.pk: one for one in ensure(source, wanted, role_map)}
        own = user.groups.filter(
            profile__source=GroupProfile.Source.DIRECTORY,
            profile__external_id__startswith=of_source(source),
        )
        before = {one.pk: one for one in own}
        added = [one for pk, one in present.items() if pk not in before]
        removed = [one for pk, one in before.items() if pk not in present]
        if added:
            user.groups.add(*added)
        kept = [one for one in removed if not _leave(user, one)]
    removed = [one for one in removed if one not in kept]
    if added or removed or kept:
        record(
            "group.synced",
            request=request,
            user=user if request else None,
            via=via,
            target=("user", str(user.pk), user.get_username()),
            outcome="failed" if kept else "ok",
            source=source,
            added=[one.name for one in added],
            removed=[one.name for one in removed],
            kept_last_administrator=[one.name for one in kept],
        )


def _leave(user: User, group: Group) -> bool:
    """Remove a membership; False if that would leave no administrator."""
    try:
        with transaction.atomic():
            user.groups.remove(group)
    except roles.LastAdministrator:
        return False
    return True


def ensure(source: str, groups: Sequence[DirectoryGroup], role_map: RoleMap) -> list[Group]:
    """Return the site's groups for groups of the directory; create and rename as needed.

    If ``role_map`` is set, it alone decides the roles of the directory's groups. If it is empty,
    administrators set them.
    """
    ids = {one.external_id: _external_id(source, one) for one in groups}
    known = {
        profile.external_id: profile
        for profile in GroupProfile.objects.filter(
            source=GroupProfile.Source.DIRECTORY, external_id__in=ids.values()
        ).select_related("group")
    }
    found = []
    for one in groups:
        profile = known.get(ids[one.external_id])
        if profile is None:
            profile = _create(one, ids[one.external_id], source)
            known[profile.external_id] = profile
        elif base_name(profile.group.name, source) != one.name[:_NAME_CHARS]:
            profile.group.name = _free_name(one.name, source)
            profile.group.save(update_fields=["name"])
        role = role_of(one, role_map)
        if role_map and profile.role != role:
            try:
                with transaction.atomic():
                    profile.role = role
                    profile.save(update_fields=["role"])
            except roles.LastAdministrator:
                profile.refresh_from_db(fields=["role"])
        found.append(profile.group)
    return found


def _create(one: DirectoryGroup, external_id: str, source: str) -> GroupProfile:
    group = Group.objects.create(name=_free_name(one.name, source))
    profile, _new = GroupProfile.objects.update_or_create(
        group=group,
        defaults={"source": GroupProfile.Source.DIRECTORY, "external_id": external_id},
    )
    return profile


def _external_id(source: str, one: DirectoryGroup) -> str:
    return f"{of_source(source)}{one.external_id}"[:_ID_CHARS]


def _free_name(name: str, source: str) -> str:
    """Return ``name``, with the directory's kind if another group has that name.

    A local group of the same name is another group: members of the directory's do not join it.
    """
    name = name[:_NAME_CHARS] or source
    if not Group.objects.filter(name=name).exists():
        return name
    number = 1
    while True:
        mark = f" ({source})" if number == 1 else f" ({source} {number})"
        candidate = name[: _NAME_CHARS - len(mark)] + mark
        if not Group.objects.filter(name=candidate).exists():
            return candidate
        number += 1


def base_name(name: str, source: str) -> str:
    """Undo the mark of `_free_name`."""
    start, separator, rest = name.rpartition(f" ({source}")
    return start if separator and rest.endswith(")") else name
