"""Collections: who has which rights, creation, changes and shares."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from typing import Any

from django.contrib.auth.models import Group
from django.db import transaction
from django.db.models import Count, Exists, F, OuterRef, Q, QuerySet, Sum
from django.utils import timezone

from chatsite.accounts.models import User
from chatsite.audit.record import record
from chatsite.knowledge import schema
from chatsite.knowledge.errors import (
    CollectionMissing,
    CollectionNameTaken,
    CollectionReadOnly,
    NotGroupMember,
    ShareMissing,
)
from chatsite.knowledge.models import Collection, Document, DocumentState, Share
from chatsite.policy import decisions
from chatsite.policy.features import Feature

_OPEN = [DocumentState.QUEUED, DocumentState.READING]


def readable(user: User, id: uuid.UUID) -> Collection:
    """Return a collection. Raises `CollectionMissing`."""
    found = Collection.objects.readable_by(user).filter(pk=id).first()
    if found is None:
        raise CollectionMissing
    return found


def by_name(user: User, text: str) -> Collection:
    """Return a readable collection by its ID or its name, ignoring case.

    Raises `CollectionMissing`, also if two have that name.
    """
    try:
        return readable(user, uuid.UUID(text))
    except ValueError:
        found = list(Collection.objects.readable_by(user).filter(name__iexact=text).distinct()[:2])
    if len(found) != 1:
        raise CollectionMissing
    return found[0]


def writable(user: User, id: uuid.UUID) -> Collection:
    """Return a collection to change documents of. Raises `CollectionReadOnly`."""
    found = readable(user, id)
    if not Collection.objects.writable_by(user).filter(pk=id).exists():
        raise CollectionReadOnly
    return found


def managed(user: User, id: uuid.UUID) -> Collection:
    """Return a collection to rename, share or delete. Raises `CollectionReadOnly`."""
    found = readable(user, id)
    if not Collection.objects.managed_by(user).filter(pk=id).exists():
        raise CollectionReadOnly
    return found


def create(user: User, asked: schema.NewCollection) -> Collection:
    """Create a collection of the user or of one of their groups."""
    decisions.require(user, Feature.KNOWLEDGE)
    group = None
    if asked.group is not None:
        group = user.groups.filter(pk=asked.group).first()
        if group is None:
            raise NotGroupMember
    owner = {"group": group} if group else {"owner": user}
    name = asked.name.strip()
    _require_free(name, None, **owner)
    made = Collection.objects.create(name=name, description=asked.description.strip(), **owner)
    record("collection.created", user=user, target=_target(made))
    return made


def change(user: User, id: uuid.UUID, asked: schema.CollectionChange) -> Collection:
    found = managed(user, id)
    if asked.name is not None:
        _require_free(asked.name.strip(), found.pk, owner=found.owner, group=found.group)
        found.name = asked.name.strip()
    if asked.description is not None:
        found.description = asked.description.strip()
    found.updated_at = timezone.now()
    found.save(update_fields=["name", "description", "updated_at"])
    return found


def delete(user: User, id: uuid.UUID) -> None:
    found = managed(user, id)
    count = found.documents.count()
    target = _target(found)
    found.delete()
    record("collection.deleted", user=user, target=target, documents=count)


def _target(collection: Collection) -> tuple[str, str, str]:
    return ("collection", str(collection.pk), collection.name)


def _require_free(name: str, but: uuid.UUID | None, **owner: User | Group | None) -> None:
    taken = Collection.objects.filter(name__iexact=name, **owner)
    if but is not None:
        taken = taken.exclude(pk=but)
    if taken.exists():
        raise CollectionNameTaken


def touch(collection: uuid.UUID) -> None:
    """Record that documents of a collection were added, changed or deleted."""
    Collection.objects.filter(pk=collection).update(
        updated_at=timezone.now(), vectors_version=F("vectors_version") + 1
    )


# Shares.


def shares(collection: Collection) -> list[schema.Share]:
    found = []
    for row in collection.shares.select_related("user", "group"):
        if row.user is not None:
            found.append(schema.Share("user", row.user.pk, _name(row.user), row.may_write))
        elif row.group is not None:
            found.append(schema.Share("group", row.group.pk, row.group.name, row.may_write))
    return found


def set_shares(user: User, id: uuid.UUID, wanted: Sequence[schema.Share]) -> Collection:
    """Make ``wanted`` the shares of a collection. Raises `ShareMissing`."""
    found = managed(user, id)
    users = {one.id: one for one in wanted if one.kind == "user"}
    groups = {one.id: one for one in wanted if one.kind == "group"}
    known_users = set(
        User.objects.filter(pk__in=users, is_active=True).values_list("pk", flat=True)
    )
    known_groups = set(Group.objects.filter(pk__in=groups).values_list("pk", flat=True))
    if known_users != set(users) or known_groups != set(groups):
        raise ShareMissing
    with transaction.atomic():
        found.shares.all().delete()
        Share.objects.bulk_create(
            [
                *(
                    Share(collection=found, user_id=pk, may_write=users[pk].may_write)
                    for pk in known_users
                ),
                *(
                    Share(collection=found, group_id=pk, may_write=groups[pk].may_write)
                    for pk in known_groups
                ),
            ]
        )
    touch(found.pk)
    record(
        "collection.shared",
        user=user,
        target=_target(found),
        users=len(users),
        groups=len(groups),
    )
    return found


def people(user: User, text: str, limit: int = 20) -> list[schema.Share]:
    """Return users and groups whose name contains ``text``, to share with."""
    text = text.strip()
    users = User.objects.filter(is_active=True).exclude(pk=user.pk)
    named = Q(username__icontains=text) | Q(first_name__icontains=text)
    named |= Q(last_name__icontains=text)
    groups = Group.objects.filter(name__icontains=text).order_by("name")[:limit]
    return [
        *(schema.Share("group", one.pk, one.name) for one in groups),
        *(
            schema.Share("user", one.pk, _name(one))
            for one in users.filter(named).order_by("username")[:limit]
        ),
    ][:limit]


def _name(user: User) -> str:
    full = user.get_full_name()
    return f"{full} ({user.get_username()})" if full else user.get_username()


# Lists.


def listed(user: User) -> list[schema.Collection]:
    """Return the collections that a user may read, by name."""
    rows = Collection.objects.readable_by(user).distinct()
    return serialize(user, rows.select_related("owner", "group").order_by("name", "pk"))


def described(user: User, collection: Collection) -> schema.Collection:
    """Return a collection with its figures, as ``user`` sees it."""
    rows = Collection.objects.filter(pk=collection.pk).select_related("owner", "group")
    return serialize(user, rows)[0]


def serialize(user: User | None, rows: QuerySet[Collection]) -> list[schema.Collection]:
    """Return collections with the rights of ``user``; all rights without one, for commands."""
    rows = rows.annotate(
        is_shared=Exists(Share.objects.filter(collection=OuterRef("pk"))),
    )
    found = list(rows)
    ids = [one.pk for one in found]
    writable_ids = managed_ids = set(ids)
    if user is not None:
        writable_ids = _ids(Collection.objects.writable_by(user), ids)
        managed_ids = _ids(Collection.objects.managed_by(user), ids)
    counts: dict[uuid.UUID, dict[str, Any]] = {
        row["collection"]: {**row}
        for row in Document.objects.filter(collection__in=ids)
        .values("collection")
        .annotate(
            documents=Count("pk"),
            bytes=Sum("size"),
            open=Count("pk", filter=Q(state__in=_OPEN)),
            failed=Count("pk", filter=Q(state=DocumentState.FAILED)),
        )
        .order_by()
    }
    return [
        schema.Collection(
            id=str(one.pk),
            name=one.name,
            description=one.description,
            owner=_owner(one),
            may_write=one.pk in writable_ids,
            may_manage=one.pk in managed_ids,
            shared=one.is_shared,  # annotated above
            documents=counts.get(one.pk, {}).get("documents", 0),
            bytes=counts.get(one.pk, {}).get("bytes") or 0,
            open=counts.get(one.pk, {}).get("open", 0),
            failed=counts.get(one.pk, {}).get("failed", 0),
            updated_at=one.updated_at.isoformat(),
        )
        for one in found
    ]


def _ids(rows: QuerySet[Collection], among: Iterable[uuid.UUID]) -> set[uuid.UUID]:
    return set(rows.filter(pk__in=list(among)).values_list("pk", flat=True))


def _owner(collection: Collection) -> schema.Owner:
    if collection.group is not None:
        return schema.Owner("group", collection.group.name)
    return schema.Owner("user", _name(collection.owner) if collection.owner else "")
