"""Deletions of chats and accounts: asked for, done in the background, reported."""

from __future__ import annotations

import logging
from datetime import timedelta
from typing import Any, Final
from uuid import UUID

from django.db import transaction
from django.db.models import QuerySet
from django.http import HttpRequest
from django.utils import timezone

from chatsite.accounts.directory import leavers
from chatsite.accounts.models import User
from chatsite.accounts.roles import LastAdministrator
from chatsite.answers.submit import stop_answers_of
from chatsite.audit.record import record
from chatsite.conversations.assistants.models import Assistant
from chatsite.conversations.models import Conversation, ConversationQuerySet, Generation
from chatsite.errors import ChatsiteError
from chatsite.retention import holds, periods, purge, work
from chatsite.retention.errors import OnHold
from chatsite.retention.models import Deletion, WorkState
from chatsite.retention.report import Report

log = logging.getLogger(__name__)

TASK: Final = "chatsite.retention.delete"
# A deletion of a chat can be undone for this long.
UNDO: Final = timedelta(hours=1)


def request_chats(
    user: User, scope: Deletion.Scope, *, request: HttpRequest | None = None
) -> Deletion:
    """Delete the user's chats now: all, or those deleted before that could still be restored.

    They are hidden at once and purged in the background, unless a legal hold keeps them.
    """
    if scope == Deletion.Scope.CHATS:
        stop_answers_of([user.pk])
        Conversation.objects.of(user).update(deleted_at=timezone.now())
    return _enqueue(user, scope, by=user.get_username(), request=request)


def request_account(
    user: User, *, by: str, reason: str = "", request: HttpRequest | None = None
) -> Deletion:
    """Deactivate an account now and delete it with all its data in the background.

    Raises `OnHold` with the reason, or `LastAdministrator`.
    """
    holds.check(user)
    others = User.objects.filter(is_superuser=True, is_active=True).exclude(pk=user.pk)
    if user.is_superuser and not others.exists():
        raise LastAdministrator
    with transaction.atomic():
        User.objects.filter(pk=user.pk).update(is_active=False)
        deletion = _enqueue(user, Deletion.Scope.ACCOUNT, by=by, reason=reason, request=request)
        leavers.end_access(user)
    return deletion


def _enqueue(
    user: User,
    scope: Deletion.Scope,
    *,
    by: str,
    reason: str = "",
    request: HttpRequest | None = None,
) -> Deletion:
    deletion = Deletion.objects.create(
        owner=user,
        owner_key=str(user.pk),
        subject=user.get_username(),
        scope=scope,
        requested_by=by,
        reason=reason,
    )
    record(
        "retention.deletion_requested",
        request=request,
        target=("user", str(user.pk), user.get_username()),
        scope=str(scope),
        reason=reason,
    )
    work.wake_after_commit(TASK, deletion.pk)
    return deletion


def run(id: UUID) -> None:
    """Attempt a deletion; continue where an earlier attempt died."""
    deletion = work.claim(Deletion, id)
    if deletion is None:
        return
    try:
        _run(deletion)
    except work.LeaseLost:
        log.info("Deletion is continued by another worker", extra={"deletion": id})
    except ChatsiteError as error:
        work.fail(deletion, error)
        _announce(deletion, Report.of(deletion.report), outcome="failed")


def _run(deletion: Deletion) -> None:
    report = Report.of(deletion.report)

    def save(report: Report) -> None:
        work.renew(deletion, report=report.as_json())

    owner = deletion.owner
    if owner is not None:
        kept = list(holds.holds_of(owner)[:1])
        if kept and deletion.scope == Deletion.Scope.ACCOUNT:
            raise OnHold(reason=kept[0].reason)
        if kept:
            report.add(kept_on_hold=_conversations(deletion, owner).count())
        else:
            purge.purge(_conversations(deletion, owner), report, save)
        if deletion.scope == Deletion.Scope.ACCOUNT:
            _delete_account(owner, report, save)
    purge.finish(deletion.owner_key, report)
    work.finish(deletion, report=report.as_json())
    _announce(deletion, report)


def _conversations(deletion: Deletion, owner: User) -> ConversationQuerySet:
    own = Conversation.objects.of(owner) | Conversation.objects.deleted_by(owner)
    if deletion.scope == Deletion.Scope.ACCOUNT:
        return own
    # What was deleted after the request can still be restored.
    return own.filter(deleted_at__lte=deletion.created_at)


def _delete_account(owner: User, report: Report, save: purge.Save) -> None:
    from chatsite.retention import exporting  # it enqueues by this module's task names

    leavers.end_access(owner)
    exporting.remove_files(owner)
    generations = Generation.objects.of(owner)
    streams = [str(pk) for pk in generations.values_list("pk", flat=True)[:10_000]]
    with transaction.atomic():
        kept = generations.clear_content()
        removed = Report()
        removed.add(statistics_kept=kept)
        removed.add_rows(owner.delete()[1])
        report.add(**removed.counts)
        save(report)
    report.add(streams=purge.drop_streams(streams))


def purge_deleted() -> int:
    """Purge chats and assistants whose deletion can't be undone any more; return the chats."""
    before = timezone.now() - UNDO
    count = _purge_by_owner(
        Conversation.objects.filter(deleted_at__lt=before).exclude(owner__in=holds.held_users()),
        Deletion.Scope.DELETED,
    )
    gone = Assistant.with_deleted.filter(deleted_at__lt=before)
    gone.exclude(owner__in=holds.held_users()).delete()
    return count


def purge_expired() -> int:
    """Purge chats whose retention period has ended; return their number."""
    return sum(_purge_by_owner(found, Deletion.Scope.EXPIRED) for _days, found in periods.expired())


def _purge_by_owner(found: ConversationQuerySet, scope: Deletion.Scope) -> int:
    count = 0
    owners: QuerySet[User] = User.objects.filter(pk__in=found.values("owner"))
    for owner in owners.iterator():
        deletion = Deletion(
            owner=owner,
            owner_key=str(owner.pk),
            subject=owner.get_username(),
            scope=scope,
            state=WorkState.DONE,
        )
        report = Report()

        def save(report: Report, deletion: Deletion = deletion) -> None:
            deletion.report, deletion.finished_at = report.as_json(), timezone.now()
            deletion.save()

        purge.purge(found.owned_by(owner), report, save)
        if report.counts:
            purge.finish(str(owner.pk), report)
            save(report)
            _announce(deletion, report)
        count += report.counts.get("conversations", 0)
    return count


def _announce(deletion: Deletion, report: Report, outcome: str = "ok") -> None:
    details: dict[str, Any] = {"scope": str(deletion.scope), "reason": deletion.reason}
    record(
        "retention.deleted",
        via="system",
        target=("user", deletion.owner_key, deletion.subject),
        outcome="ok" if outcome == "ok" else "failed",
        requested_by=deletion.requested_by,
        **details | report.as_json(),
    )
