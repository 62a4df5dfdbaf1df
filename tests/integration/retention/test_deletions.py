"""Retention periods, legal holds, and deletions that report what they removed."""

from __future__ import annotations

import json
from collections.abc import Callable
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.core.management import CommandError, call_command
from django.db.models import ProtectedError
from django.utils import timezone
from redis.asyncio import Redis

from chatsite.accounts.models import ApiKey, User
from chatsite.accounts.roles import LastAdministrator
from chatsite.conversations.attachments.models import Attachment
from chatsite.conversations.models import Conversation, Generation, GenerationState, Message
from chatsite.exchange.models import Origin
from chatsite.redis_client import connect_blocking
from chatsite.redis_keys import stream_key
from chatsite.retention import deletions, erase, holds, periods, purge, work
from chatsite.retention.errors import OnHold, ReasonMissing
from chatsite.retention.models import Deletion, GroupRetention, WorkState
from chatsite.retention.report import Report
from chatsite.search import find, index
from chatsite.search.models import Entry
from chatsite.sharing import work as sharing
from chatsite.sharing.models import Share
from tests.support.conversations import write

Site = Callable[..., None]


@pytest.fixture(autouse=True)
def _redis(redis: Redis) -> None:
    """Start the real Redis: streams and the notice of what to erase."""


@pytest.fixture(autouse=True)
def events(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, dict[str, Any]]]:
    """Collect audit events instead of writing them to the spool."""
    found: list[tuple[str, dict[str, Any]]] = []
    for module in (deletions, holds):
        monkeypatch.setattr(module, "record", lambda kind, **more: found.append((kind, more)))
    return found


def whole(user: User, *, days: float = 0, text: str = "zebra", **fields: Any) -> Conversation:
    """Write a conversation with everything that can belong to one."""
    id = write(user.username, [f"Answer {text}"], title=f"Title {text}")
    conversation = Conversation.objects.get(pk=id)
    index.put_title(conversation)
    for message in conversation.messages.all():
        index.put(message, user.pk)
    document = Attachment.objects.create(
        owner=user, name="a.txt", size=1234, text=text, ready=True, conversation=conversation
    )
    document.messages.set(conversation.messages.filter(role=Message.Role.USER))
    sharing.publish(user, conversation.pk)
    Origin.objects.create(owner=user, source="chatgpt", key=id, conversation=conversation)
    generation = Generation.objects.get(message__conversation=conversation)
    generation.params = {"stop": [text]}
    generation.error = {"code": "request_refused", "message": text, "reason": text}
    generation.save()
    with connect_blocking() as redis:
        redis.xadd(stream_key(str(generation.pk)), {"e": text})
    updated = timezone.now() - timedelta(days=days)
    Conversation.objects.filter(pk=id).update(updated_at=updated, **fields)
    conversation.refresh_from_db()
    return conversation


def test_a_purge_reports_all_that_it_removes_and_keeps_statistics(
    alice: User, site: Site, events: list[tuple[str, dict[str, Any]]]
) -> None:
    site(retention_days=30)
    whole(alice, days=31)
    kept = whole(alice, days=29, text="kept")
    generation = Generation.objects.exclude(message__conversation=kept).get()
    assert deletions.purge_expired() == 1
    report = Deletion.objects.get().report
    assert report == {
        "conversations": 1,
        "messages": 2,
        "attachments": 1,
        "attachment_bytes": 1234,
        "search_entries": 3,
        "shares": 1,
        "import_origins": 1,
        "streams": 1,
        "statistics_kept": 1,
    }
    kind, event = events[-1]
    assert kind == "retention.deleted"
    assert event["scope"] == "expired"
    assert event["messages"] == 2
    assert "zebra" not in json.dumps([event, report], default=str)
    assert Conversation.objects.get() == kept
    assert find.search(alice, "zebra")["results"] == []
    generation.refresh_from_db()
    assert (generation.owner, generation.message) == (alice, None)
    assert (generation.params, generation.syntax) == ({}, {})
    assert generation.error == {"code": "request_refused", "message": "", "permanent": True}
    with connect_blocking() as redis:
        assert not redis.exists(stream_key(str(generation.pk)))
    assert (Share.objects.count(), Attachment.objects.count()) == (1, 1)


def test_the_shortest_period_of_the_groups_wins(alice: User, bob: User, site: Site) -> None:
    site(retention_days=30)
    for name, days in (("Short", 7), ("Long", 90), ("None", 0)):
        group = Group.objects.create(name=name)
        GroupRetention.objects.create(group=group, days=days)
    alice.groups.set(Group.objects.all())
    assert (periods.days_for(alice), periods.days_for(bob)) == (7, 30)
    bob.groups.set([Group.objects.get(name="None")])
    assert periods.days_for(bob) == 30
    bob.groups.set([Group.objects.get(name="Long")])
    assert periods.days_for(bob) == 90
    for user in (alice, bob):
        for days in (8, 31, 91):
            write_aged(user, days)
    deletions.purge_expired()
    left = {user.username: Conversation.objects.of(user).count() for user in (alice, bob)}
    assert left == {"alice": 0, "bob": 2}


def write_aged(user: User, days: float) -> None:
    id = write(user.username, ["An answer"])
    updated = timezone.now() - timedelta(days=days)
    Conversation.objects.filter(pk=id).update(updated_at=updated)


def test_without_a_period_nothing_expires(alice: User, site: Site) -> None:
    site()
    write_aged(alice, 3000)
    assert deletions.purge_expired() == 0
    assert Conversation.objects.of(alice).count() == 1


@pytest.mark.parametrize(("keeps", "left"), [(True, 1), (False, 0)])
def test_pinned_chats_are_kept_as_configured(
    alice: User, site: Site, keeps: bool, left: int
) -> None:
    site(retention_days=1, retention_keeps_pinned=keeps)
    write_aged(alice, 2)
    Conversation.objects.update(pinned_at=timezone.now())
    deletions.purge_expired()
    assert Conversation.objects.count() == left


def test_an_open_answer_keeps_its_chat(alice: User, site: Site) -> None:
    site(retention_days=1)
    write_aged(alice, 2)
    Generation.objects.update(state=GenerationState.RUNNING)
    assert deletions.purge_expired() == 0


@pytest.mark.parametrize("by_group", [False, True])
def test_a_hold_keeps_all_until_it_is_lifted(
    alice: User, bob: User, site: Site, by_group: bool, events: list[tuple[str, dict[str, Any]]]
) -> None:
    site(retention_days=1)
    group = Group.objects.create(name="Legal")
    alice.groups.add(group)
    with pytest.raises(ReasonMissing):
        holds.place(" x", by="root", user=alice)
    if by_group:
        hold = holds.place("Case 42", by="root", group=group)
        with pytest.raises(ProtectedError):
            group.delete()
    else:
        hold = holds.place("Case 42", by="root", user=alice)
    assert events[-1][1]["reason"] == "Case 42"
    write_aged(alice, 2)
    write_aged(bob, 2)
    old = timezone.now() - timedelta(hours=2)
    gone = write("alice", ["Deleted"])
    Conversation.objects.filter(pk=gone).update(deleted_at=old)
    deletions.purge_expired()
    deletions.purge_deleted()
    assert Conversation.objects.filter(owner=alice).count() == 2
    assert Conversation.objects.filter(owner=bob).count() == 0
    # Own deletion hides chats from the user and keeps them.
    deletion = deletions.request_chats(alice, Deletion.Scope.CHATS)
    deletions.run(deletion.pk)
    deletion.refresh_from_db()
    assert deletion.report == {"kept_on_hold": 2}
    assert Conversation.objects.of(alice).count() == 0
    assert Conversation.objects.filter(owner=alice).count() == 2
    with pytest.raises(OnHold, match="Case 42"):
        deletions.request_account(alice, by="root")
    with pytest.raises(ProtectedError):
        alice.delete()
    alice.refresh_from_db()
    assert alice.is_active
    holds.lift(hold, "Case closed")
    assert [kind for kind, _ in events if "hold" in kind] == [
        "retention.hold_placed",
        "retention.hold_lifted",
    ]
    Conversation.objects.update(deleted_at=old)
    deletions.purge_deleted()
    assert not Conversation.objects.filter(owner=alice).exists()


def test_an_account_is_deleted_with_all_its_data(
    alice: User, bob: User, events: list[tuple[str, dict[str, Any]]]
) -> None:
    whole(alice)
    whole(bob)
    ApiKey.objects.create(owner=alice, prefix="sk-a", digest="d", scopes="chat")
    deletion = deletions.request_account(alice, by="root", reason="Left the company")
    alice.refresh_from_db()
    assert not alice.is_active
    deletions.run(deletion.pk)
    deletion.refresh_from_db()
    assert deletion.state == WorkState.DONE
    assert deletion.report["conversations"] == 1
    assert deletion.report["api_keys"] == 1
    assert deletion.report["accounts"] == 1
    assert not User.objects.filter(username="alice").exists()
    assert Conversation.objects.get().owner == bob
    statistics = Generation.objects.get(owner=None)
    assert statistics.model == "smollm2:135m"
    assert (statistics.params, statistics.message) == ({}, None)
    assert events[-1][1]["requested_by"] == "root"
    # Nothing happens when the task arrives twice.
    deletions.run(deletion.pk)


def test_the_only_administrator_stays(alice: User, bob: User) -> None:
    User.objects.filter(pk=alice.pk).update(is_superuser=True)
    alice.refresh_from_db()
    with pytest.raises(LastAdministrator):
        deletions.request_account(alice, by="alice")
    User.objects.filter(pk=bob.pk).update(is_superuser=True)
    deletions.request_account(alice, by="alice")


def test_a_killed_deletion_is_continued_with_its_report(
    alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The report is saved with each batch, so it is exact however often the worker dies."""
    monkeypatch.setattr(purge, "BATCH", 2)
    for number in range(5):
        whole(alice, text=f"word{number}")
    deletion = deletions.request_chats(alice, Deletion.Scope.CHATS)
    renew, calls = work.renew, []

    class Killed(BaseException):
        pass

    def dies(row: Any, **values: Any) -> None:
        calls.append(values)
        if len(calls) == 2:
            raise Killed
        renew(row, **values)

    monkeypatch.setattr(work, "renew", dies)
    with pytest.raises(Killed):
        deletions.run(deletion.pk)
    monkeypatch.setattr(work, "renew", renew)
    assert Conversation.objects.count() == 3
    deletions.run(deletion.pk)
    assert Conversation.objects.count() == 3, "another worker holds the lease"
    Deletion.objects.update(leased_until=timezone.now() - timedelta(seconds=1))
    assert work.waiting(Deletion) == [deletion.pk]
    deletions.run(deletion.pk)
    deletion.refresh_from_db()
    assert (deletion.state, deletion.report["conversations"]) == (WorkState.DONE, 5)
    assert deletion.report["messages"] == 10
    assert Entry.objects.count() == 0


def test_a_long_chat_is_purged_in_small_transactions(
    alice: User, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(purge, "MESSAGES", 4)
    id = write("alice", [f"Answer {number}" for number in range(9)])
    Conversation.objects.filter(pk=id).update(deleted_at=timezone.now() - timedelta(hours=2))
    sizes: list[int] = []
    take = purge.take

    def sized(report: Any, removed: Any, save: Any) -> None:
        sizes.append(removed.counts.get("messages", 0))
        take(report, removed, save)

    monkeypatch.setattr(purge, "take", sized)
    assert deletions.purge_deleted() == 1
    assert sum(sizes) == 18
    assert max(sizes) <= 4
    assert Deletion.objects.get().report["messages"] == 18


def test_a_restored_chat_is_kept(alice: User) -> None:
    id = write("alice", ["An answer"])
    gone = Conversation.objects.filter(deleted_at__lt=timezone.now())
    Conversation.objects.update(deleted_at=timezone.now() - timedelta(hours=2))
    ids = list(gone.values_list("pk", flat=True))
    Conversation.objects.update(deleted_at=None)
    report = Report()
    assert not purge.purge_batch(gone, ids, report, lambda report: None)
    assert str(Conversation.objects.get().pk) == id


def test_the_command_shows_and_applies(alice: User, site: Site) -> None:
    site(retention_days=3)
    write_aged(alice, 4)
    shown = StringIO()
    call_command("retention", "run", "--dry-run", "--json", stdout=shown)
    assert json.loads(shown.getvalue())["due"] == {"3": 1}
    assert Conversation.objects.count() == 1
    erase.soon()
    shown = StringIO()
    call_command("retention", "run", stdout=shown)
    assert "purged: 1" in shown.getvalue()
    assert not erase.run(), "nothing is left to erase"
    shown = StringIO()
    call_command("retention", "status", stdout=shown)
    assert "Expired chats: 0" in shown.getvalue()
    with pytest.raises(CommandError, match="no user"):
        call_command("retention", "delete-account", "carol", "--reason", "left")
    with pytest.raises(CommandError, match="reason"):
        call_command("retention", "delete-account", "alice", "--reason", "x")
    call_command("retention", "delete-account", "alice", "--reason", "left", stdout=shown)
    assert not User.objects.exists()
