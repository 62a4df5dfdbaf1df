"""Whatever is shared, moved and revoked: nobody gets a passage that they may not read."""

from __future__ import annotations

import contextlib
import uuid

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import Group
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.django import TestCase

from chatsite.accounts.models import User
from chatsite.documents.chunks import split
from chatsite.errors import ChatsiteError
from chatsite.knowledge import collections, index, ingest, schema, upload
from chatsite.knowledge.models import Collection, Document, DocumentState, DocumentText
from chatsite.knowledge.retrieve import Scope, retrieve

USERS = ("ann", "bob", "eve")
GROUPS = ("red", "blue")

Step = tuple[str, int, int, int]
STEPS = st.lists(
    st.tuples(
        st.sampled_from(["join", "leave", "share", "own", "add", "delete", "drop", "move"]),
        st.integers(0, 2),
        st.integers(0, 2),
        st.integers(0, 3),
    ),
    max_size=14,
)


def may_read(user: User, collection: Collection) -> bool:
    """Return the rights as the documentation says them, by other means than the query."""
    mine = {group.pk for group in user.groups.all()}
    if collection.owner_id == user.pk or collection.group_id in mine:
        return True
    return any(
        share.user_id == user.pk or share.group_id in mine for share in collection.shares.all()
    )


def add(collection: Collection, path: str) -> None:
    text = "The secret word is xylophone."
    made, new = Document.objects.get_or_create(
        collection=collection,
        path=path,
        defaults={"size": 1, "sha256": "0" * 64, "state": DocumentState.READY, "characters": 1},
    )
    if new:
        DocumentText.objects.create(document=made, text=text)
        index.put(made, split(text))


@pytest.mark.database
class RightsTest(TestCase):
    @settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
    @given(STEPS)
    def test_only_readable_passages_are_found(self, steps: list[Step]) -> None:
        patch = pytest.MonkeyPatch()
        patch.setattr(ingest, "wake", lambda *_: None)
        self.addCleanup(patch.undo)
        users = [User.objects.create_user(name) for name in USERS]
        groups = [Group.objects.create(name=name) for name in GROUPS]
        all_of = [Collection.objects.create(owner=one, name="c") for one in users]
        for step in steps:
            with contextlib.suppress(ChatsiteError):
                take(step, users, groups, all_of)
        for user in users:
            # Django takes the key of a deleted one away.
            keys: list[uuid.UUID | None] = [one.pk for one in all_of]
            scope = Scope(tuple(key for key in keys if key))
            found = async_to_sync(retrieve)(None, user, "xylophone", scope)  # type: ignore[arg-type]
            for one in found.found:
                document = one.passage.document
                assert document is not None
                assert may_read(user, document.collection)
            readable = [one for one in Document.objects.all() if may_read(user, one.collection)]
            assert bool(found.found) == bool(readable)
            for document in Document.objects.all():
                if may_read(user, document.collection):
                    assert upload.readable(user, document.pk) == document
                else:
                    with pytest.raises(ChatsiteError):
                        upload.readable(user, document.pk)


def take(step: Step, users: list[User], groups: list[Group], all_of: list[Collection]) -> None:
    kind, first, second, third = step
    user, other, group = users[first], users[second], groups[third % 2]
    collection = all_of[second]
    if kind == "join":
        user.groups.add(group)
    elif kind == "leave":
        user.groups.remove(group)
    elif kind == "share":
        wanted = [schema.Share("group", group.pk, may_write=third > 1)] if third % 2 else []
        wanted += [schema.Share("user", other.pk)] if third > 1 else []
        collections.set_shares(user, collection.pk, wanted)
    elif kind == "own":
        all_of.append(collections.create(user, schema.NewCollection("g", group=group.pk)))
    elif kind == "add":
        into = all_of[third % len(all_of)]
        if Collection.objects.filter(pk=into.pk).exists():
            add(into, f"{first}.md")
    elif kind == "delete":
        for document in Document.objects.filter(collection=collection):
            upload.remove(user, document.pk)
    elif kind == "drop":
        collections.delete(user, collection.pk)
    else:
        for document in Document.objects.filter(collection=collection):
            upload.move(user, document.pk, f"{third}/{document.path}")
