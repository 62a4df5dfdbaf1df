"""Collections: rights, uploads, reading by workers, and synchronization of folders."""

from __future__ import annotations

import hashlib
import uuid
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from django.conf import settings
from django.contrib.auth.models import Group
from django.core.management import CommandError, call_command
from django.test import override_settings
from django.utils import timezone

from chatsite.accounts.models import User
from chatsite.documents import extract
from chatsite.documents.errors import FileTooLarge
from chatsite.documents.formats import Document as Read
from chatsite.errors import BadRequest
from chatsite.knowledge import collections, ingest, schema, sync, upload
from chatsite.knowledge.errors import (
    BadPath,
    CollectionFull,
    CollectionMissing,
    CollectionNameTaken,
    CollectionReadOnly,
    DocumentMissing,
    FolderIntoItself,
    NotGroupMember,
    PathTaken,
    SyncIncomplete,
    TooManyDocuments,
    UploadIncomplete,
)
from chatsite.knowledge.index import put_vectors, words
from chatsite.knowledge.index.words import Ids
from chatsite.knowledge.models import (
    Collection,
    Document,
    DocumentState,
    EmbeddingIndex,
    Passage,
    PassageVectors,
)

pytestmark = [pytest.mark.django_db, pytest.mark.database]


@pytest.fixture(autouse=True)
def no_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tests read documents themselves."""
    monkeypatch.setattr(ingest, "wake", lambda *_: None)


@pytest.fixture
def ann() -> User:
    return User.objects.create_user("ann")


@pytest.fixture
def rules(ann: User) -> Collection:
    return collections.create(ann, schema.NewCollection("Rules"))


def put(user: User, into: Collection, path: str, data: bytes) -> Document:
    """Upload a file in two pieces, as the page does."""
    digest = hashlib.sha256(data).hexdigest()
    begun = upload.begin(user, into.pk, schema.NewDocument(path, len(data), digest))
    id, half = uuid.UUID(begun.id), max(1, len(data) // 2)
    for number, part in enumerate((data[:half], data[half:])):
        if part:
            upload.add_piece(user, id, begun.version, number, part)
    return upload.finish(user, id, begun.version)


def test_an_uploaded_document_is_read_and_indexed(ann: User, rules: Collection) -> None:
    made = put(ann, rules, "a/b/text.md", b"# Title\n\nThe text of it.")
    assert (made.state, made.version, made.size) == (DocumentState.QUEUED, 1, 24)
    assert ingest.run_all(5) == 1
    made.refresh_from_db()
    assert (made.state, made.kind, made.error) == (DocumentState.READY, "text", None)
    assert [one.text for one in Passage.objects.filter(document=made)] == [
        "# Title\n\nThe text of it."
    ]
    assert upload.content(made) == b"# Title\n\nThe text of it."
    assert ingest.run_all(5) == 0


def test_equal_content_is_not_read_again(ann: User, rules: Collection) -> None:
    made = put(ann, rules, "a.md", b"Same.")
    ingest.run_all(1)
    same = schema.NewDocument("a.md", 5, hashlib.sha256(b"Same.").hexdigest())
    assert upload.begin(ann, rules.pk, same).unchanged
    made.refresh_from_db()
    assert made.state == DocumentState.READY


def test_earlier_content_serves_until_the_new_one_is_read(ann: User, rules: Collection) -> None:
    made = put(ann, rules, "a.md", b"First content.")
    ingest.run_all(1)
    put(ann, rules, "a.md", b"Second content.")
    assert Passage.objects.get(document=made).text == "First content."
    ingest.run_all(1)
    assert Passage.objects.get(document=made).text == "Second content."
    made.refresh_from_db()
    assert (made.version, made.pieces.count()) == (2, 2)


def test_a_file_that_can_not_be_read_says_why(ann: User, rules: Collection) -> None:
    made = put(ann, rules, "a.bin", bytes(range(256)) * 10)
    ingest.run_all(1)
    made.refresh_from_db()
    assert made.state == DocumentState.FAILED
    assert made.error is not None
    assert made.error["code"] == "document_type"
    again = schema.NewDocument("a.bin", 2560, made.sha256)
    assert not upload.begin(ann, rules.pk, again).unchanged
    upload.retry(ann, made.pk)
    made.refresh_from_db()
    assert made.state == DocumentState.QUEUED


def test_a_document_of_a_dead_worker_is_read_again(ann: User, rules: Collection) -> None:
    made = put(ann, rules, "a.md", b"Text.")
    first = ingest.claim()
    assert first is not None
    assert ingest.claim() is None
    Document.objects.update(leased_until=timezone.now() - timedelta(seconds=1))
    second = ingest.claim()
    assert second is not None
    assert second.attempt == 2
    # The first worker was only slow: what it stores is refused.
    ingest.run(first)
    made.refresh_from_db()
    assert made.state == DocumentState.READING
    ingest.run(second)
    made.refresh_from_db()
    assert made.state == DocumentState.READY
    assert Passage.objects.filter(document=made).count() == 1


def test_a_failure_of_the_server_is_tried_again_later(
    ann: User, rules: Collection, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = put(ann, rules, "a.md", b"Text.")

    def broken(*_: Any, **__: Any) -> Read:
        raise OSError("no processes")

    monkeypatch.setattr(extract, "read", broken)
    with pytest.raises(OSError, match="no processes"):
        ingest.run_all(1)
    made.refresh_from_db()
    assert made.state == DocumentState.QUEUED
    assert made.not_before is not None
    assert made.not_before > timezone.now()
    assert ingest.claim() is None


def test_a_document_deleted_while_it_is_read_stays_deleted(ann: User, rules: Collection) -> None:
    made = put(ann, rules, "a.md", b"Text.")
    held = ingest.claim()
    assert held is not None
    upload.remove(ann, made.pk)
    ingest.run(held)
    assert not Passage.objects.exists()
    with pytest.raises(DocumentMissing):
        upload.readable(ann, made.pk)


def test_folders_exist_by_the_paths_of_their_documents(ann: User, rules: Collection) -> None:
    for path in ("a/1.md", "a/b/2.md", "c.md"):
        put(ann, rules, path, path.encode())
    folders, found, following = upload.listed(ann, rules.pk)
    assert [(one.path, one.documents) for one in folders] == [("a", 2)]
    assert ([one.path for one in found], following) == (["c.md"], None)
    folders, found, _ = upload.listed(ann, rules.pk, "a/")
    assert [one.path for one in folders] == ["a/b"]
    assert [one.name for one in found] == ["1.md"]
    assert upload.remove_folder(ann, rules.pk, "a") == 2
    assert [one.path for one in Document.objects.all()] == ["c.md"]


def test_a_document_moves_with_its_passages(ann: User, rules: Collection) -> None:
    made = put(ann, rules, "old.md", b"Text.")
    put(ann, rules, "other.md", b"Other.")
    ingest.run_all(2)
    upload.move(ann, made.pk, "new/name.md")
    assert Passage.objects.filter(document__path="new/name.md").count() == 1
    with pytest.raises(PathTaken):
        upload.move(ann, made.pk, "other.md")


def test_a_renamed_document_is_found_by_its_new_name_and_keeps_its_vectors(
    ann: User, rules: Collection
) -> None:
    made = put(ann, rules, "zebra.md", b"Text.")
    ingest.run_all(1)
    index = EmbeddingIndex.objects.create(model="m", digest="d", dimensions=2)
    put_vectors(index, np.ones((1, 2)), document=made.pk)

    def found(word: str) -> int:
        return len(words.find(word, Ids(collections=(rules.pk,)), 10))

    upload.move(ann, made.pk, "giraffe.md")
    assert ingest.index_names(10) == 1
    assert (found("zebra"), found("giraffe")) == (0, 1)
    assert PassageVectors.objects.filter(document=made).count() == 1
    assert ingest.index_names(10) == 0


def test_a_folder_moves_with_everything_in_it(ann: User, rules: Collection) -> None:
    bob = User.objects.create_user("bob")
    for path in ("old/a.md", "old/deep/b.md", "older/c.md", "new/deep/d.md"):
        put(ann, rules, path, b"Text.")
    ingest.run_all(4)
    with pytest.raises(CollectionMissing):
        upload.move_folder(bob, rules.pk, "old", "new")
    assert upload.move_folder(ann, rules.pk, "old", "new/from 2025") == 2
    assert sorted(rules.documents.values_list("path", flat=True)) == [
        *("new/deep/d.md", "new/from 2025/a.md", "new/from 2025/deep/b.md", "older/c.md")
    ]
    assert ingest.index_names(10) == 2
    hits = words.find("2025", Ids(collections=(rules.pk,)), 10)
    assert len(hits) == 2


def test_a_folder_that_can_not_move_stays_whole(ann: User, rules: Collection) -> None:
    for path in ("old/a.md", "old/b.md", "new/b.md"):
        put(ann, rules, path, b"Text.")
    before = sorted(rules.documents.values_list("path", flat=True))
    for path, error in (
        ("new", PathTaken),
        ("old/deeper", FolderIntoItself),
        ("..", BadPath),
        ("x" * 498, BadPath),
    ):
        with pytest.raises(error):
            upload.move_folder(ann, rules.pk, "old", path)
    assert sorted(rules.documents.values_list("path", flat=True)) == before


@pytest.mark.parametrize("path", ["", "/", "..", "a/../b", "x" * 600])
def test_bad_paths_are_refused(ann: User, rules: Collection, path: str) -> None:
    with pytest.raises(BadPath):
        upload.begin(ann, rules.pk, schema.NewDocument(path, 1))


def test_paths_are_cleaned() -> None:
    assert upload.clean_path("\\a//b/ c .md\u202e") == "a/b/c .md"
    assert upload.clean_path("./a") == "a"


def limited(limits: dict[str, int]) -> Any:
    return override_settings(ENV=settings.ENV.model_copy(update=limits))


def test_limits_are_said_before_the_upload(ann: User, rules: Collection) -> None:
    large = schema.NewDocument("a", 2_000_000)
    with limited({"document_mb": 1}), pytest.raises(FileTooLarge):
        upload.begin(ann, rules.pk, large)
    with limited({"knowledge_mb": 1}), pytest.raises(CollectionFull):
        upload.begin(ann, rules.pk, large)
    put(ann, rules, "a", b"a")
    with limited({"collection_documents": 1}):
        with pytest.raises(TooManyDocuments):
            upload.begin(ann, rules.pk, schema.NewDocument("b", 1))
        upload.begin(ann, rules.pk, schema.NewDocument("a", 1))


def test_pieces_must_fit_the_upload(ann: User, rules: Collection) -> None:
    begun = upload.begin(ann, rules.pk, schema.NewDocument("a", 10))
    id = uuid.UUID(begun.id)
    with pytest.raises(UploadIncomplete):
        upload.finish(ann, id, begun.version)
    for version, number, data in ((2, 0, b"x"), (1, 1, b"x"), (1, 0, b"")):
        with pytest.raises(BadRequest):
            upload.add_piece(ann, id, version, number, data)


def test_rights_act_at_once(ann: User, rules: Collection) -> None:
    bob, staff = User.objects.create_user("bob"), Group.objects.create(name="staff")
    made = put(ann, rules, "a.md", b"Text.")
    with pytest.raises(CollectionMissing):
        collections.readable(bob, rules.pk)
    with pytest.raises(DocumentMissing):
        upload.readable(bob, made.pk)
    bob.groups.add(staff)
    collections.set_shares(ann, rules.pk, [schema.Share("group", staff.pk)])
    assert upload.readable(bob, made.pk) == made
    with pytest.raises(CollectionReadOnly):
        upload.remove(bob, made.pk)
    collections.set_shares(ann, rules.pk, [schema.Share("group", staff.pk, may_write=True)])
    upload.begin(bob, rules.pk, schema.NewDocument("b.md", 1))
    for work in (collections.delete, collections.managed):
        with pytest.raises(CollectionReadOnly):
            work(bob, rules.pk)
    bob.groups.remove(staff)
    with pytest.raises(DocumentMissing):
        upload.readable(bob, made.pk)


def test_a_collection_of_a_group_belongs_to_its_members(ann: User) -> None:
    staff = Group.objects.create(name="staff")
    with pytest.raises(NotGroupMember):
        collections.create(ann, schema.NewCollection("Ours", group=staff.pk))
    ann.groups.add(staff)
    made = collections.create(ann, schema.NewCollection("Ours", group=staff.pk))
    assert collections.managed(ann, made.pk) == made
    [row] = collections.listed(ann)
    assert (row.owner, row.may_manage, row.documents) == (schema.Owner("group", "staff"), True, 0)
    ann.groups.remove(staff)
    assert collections.listed(ann) == []


def test_names_are_unique_for_their_owner(ann: User, rules: Collection) -> None:
    with pytest.raises(CollectionNameTaken):
        collections.create(ann, schema.NewCollection("rules"))
    other = collections.create(ann, schema.NewCollection("Other"))
    with pytest.raises(CollectionNameTaken):
        collections.change(ann, other.pk, schema.CollectionChange(name="Rules"))
    collections.change(ann, rules.pk, schema.CollectionChange(name="RULES"))


def entry(path: str, data: bytes) -> schema.ManifestEntry:
    return schema.ManifestEntry(path, hashlib.sha256(data).hexdigest(), len(data))


def test_a_sync_deletes_only_when_all_is_uploaded(ann: User, rules: Collection) -> None:
    for path in ("same", "changed", "gone"):
        put(ann, rules, path, path.encode())
    manifest = [entry("same", b"same"), entry("changed", b"new"), entry("added", b"added")]
    plan = sync.plan(ann, rules.pk, manifest)
    assert (plan.added, plan.modified, plan.deleted) == (["added"], ["changed"], ["gone"])
    assert plan.unchanged == 1
    with pytest.raises(SyncIncomplete):
        sync.finish(ann, uuid.UUID(plan.id))
    put(ann, rules, "added", b"added")
    put(ann, rules, "changed", b"new")
    assert sync.finish(ann, uuid.UUID(plan.id)) == 1
    assert {one.path for one in rules.documents.all()} == {"same", "changed", "added"}
    assert sync.plan(ann, rules.pk, manifest).unchanged == 3


def test_the_command_synchronizes_a_folder(
    ann: User, rules: Collection, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.md").write_text("About trains.")
    (tmp_path / ".hidden").write_text("no")
    call_command("knowledge", "sync", "Rules", str(tmp_path))
    assert "1 added, 0 replaced, 0 deleted, 0 unchanged" in capsys.readouterr().out
    ingest.run_all(5)
    call_command("knowledge", "search", "trains", "--user", "ann")
    assert "1. sub/a.md" in capsys.readouterr().out
    (tmp_path / "sub" / "a.md").unlink()
    call_command("knowledge", "sync", "Rules", str(tmp_path))
    assert not Document.objects.exists()
    with pytest.raises(CommandError, match="no collection"):
        call_command("knowledge", "list", "Absent")
