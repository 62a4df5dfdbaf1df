"""Retention periods, legal holds, deletions, exports of own data, administrators' reads."""

from __future__ import annotations

import uuid
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from django.conf import settings
from django.contrib.auth.models import Group
from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

if TYPE_CHECKING:
    from chatsite.accounts.models import User

DAYS_MAX: Final = 36_500
REASON_CHARS: Final = 500


class GroupRetention(models.Model):
    """The retention period of a group in days, 0 for none. The shortest of a user's groups wins."""

    group = models.OneToOneField(Group, on_delete=models.CASCADE, related_name="retention")
    days = models.PositiveIntegerField(_("days"))

    class Meta:
        verbose_name = _("retention period")
        verbose_name_plural = _("retention periods")

    def __str__(self) -> str:
        return f"{self.group}: {self.days}"


class LegalHold(models.Model):
    """Keeps the data of a user, or of the current members of a group, from deletion.

    It is deleted when it is lifted; the audit log has its history. `PROTECT` keeps its user and
    group.
    """

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.PROTECT,
        null=True,
        blank=True,
        related_name="legal_holds",
    )
    group = models.ForeignKey(
        Group, on_delete=models.PROTECT, null=True, blank=True, related_name="legal_holds"
    )
    reason = models.CharField(_("reason"), max_length=REASON_CHARS)
    created_by = models.CharField(max_length=150)
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        verbose_name = _("legal hold")
        verbose_name_plural = _("legal holds")
        ordering = ["-created_at", "-pk"]
        constraints = [
            models.CheckConstraint(
                condition=Q(user__isnull=False, group__isnull=True)
                | Q(user__isnull=True, group__isnull=False),
                name="legal_hold_of_one",
            )
        ]

    def __str__(self) -> str:
        return str(self.user or self.group)


class WorkState(models.TextChoices):
    QUEUED = "queued", _("queued")
    RUNNING = "running", _("running")
    DONE = "done", _("done")
    FAILED = "failed", _("failed")


class Work(models.Model):
    """Work in the background that survives its worker: state, lease and attempts."""

    LEASE = timedelta(seconds=60)
    ATTEMPTS_MAX = 5

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    state = models.CharField(max_length=8, choices=WorkState.choices, default=WorkState.QUEUED)
    attempts = models.PositiveSmallIntegerField(default=0)
    leased_until = models.DateTimeField(null=True, blank=True)
    error = models.JSONField(null=True, blank=True)
    created_at = models.DateTimeField(default=timezone.now)
    finished_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        abstract = True

    @property
    def open(self) -> bool:
        return self.state in {WorkState.QUEUED, WorkState.RUNNING}


class DeletionQuerySet(models.QuerySet["Deletion"]):
    def of(self, user: User) -> DeletionQuerySet:
        return self.filter(owner=user)


class Deletion(Work):
    """A deletion and the report of what it removed, without content.

    ``subject`` is the username and survives an account; ``requested_by`` who asked for it, empty
    for the retention period. ``report`` is `report.Report`.
    """

    class Scope(models.TextChoices):
        DELETED = "deleted", _("deleted chats")
        CHATS = "chats", _("all chats")
        ACCOUNT = "account", _("account")
        EXPIRED = "expired", _("expired chats")

    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="deletions"
    )
    owner_key = models.CharField(max_length=40)
    subject = models.CharField(max_length=150)
    scope = models.CharField(max_length=8, choices=Scope.choices)
    requested_by = models.CharField(max_length=150, blank=True)
    reason = models.CharField(max_length=REASON_CHARS, blank=True)
    report = models.JSONField(default=dict)

    objects = DeletionQuerySet.as_manager()

    class Meta:
        verbose_name = _("deletion")
        verbose_name_plural = _("deletions")
        ordering = ["-created_at", "-pk"]
        indexes = [
            models.Index(
                fields=["leased_until"],
                condition=Q(state__in=["queued", "running"]),
                name="deletion_open",
            )
        ]

    def __str__(self) -> str:
        return f"{self.subject}: {self.scope}"


class ExportQuerySet(models.QuerySet["Export"]):
    def of(self, user: User) -> ExportQuerySet:
        return self.filter(owner=user)


class Export(Work):
    """A ZIP file of everything about a user, made in the background; deleted when it expires.

    ``done`` of ``total`` conversations are written. ``size`` is in bytes.
    """

    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="exports"
    )
    language = models.CharField(max_length=10, blank=True)
    done = models.PositiveIntegerField(default=0)
    total = models.PositiveIntegerField(default=0)
    size = models.PositiveBigIntegerField(default=0)
    expires_at = models.DateTimeField(null=True, blank=True)

    objects = ExportQuerySet.as_manager()

    class Meta:
        verbose_name = _("data export")
        verbose_name_plural = _("data exports")
        ordering = ["-created_at", "-pk"]
        constraints = [
            models.UniqueConstraint(
                fields=["owner"],
                condition=Q(state__in=["queued", "running"]),
                name="export_one_open",
            )
        ]

    def __str__(self) -> str:
        return str(self.id)

    @property
    def percent(self) -> int:
        return round(100 * self.done / self.total) if self.total else 0


class AdminReadQuerySet(models.QuerySet["AdminRead"]):
    def of(self, user: User) -> AdminReadQuerySet:
        """Return the reads of the user's conversations."""
        return self.filter(owner=user)


class AdminRead(models.Model):
    """A read of a user's conversation by an administrator, shown to its owner.

    ``reader`` is the reader's name, which survives the account. ``messages`` is the number of
    messages that were shown.
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="admin_reads"
    )
    conversation = models.ForeignKey(
        "chat.Conversation", on_delete=models.SET_NULL, null=True, related_name="+"
    )
    reader = models.CharField(max_length=150)
    reader_user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+"
    )
    reason = models.CharField(_("reason"), max_length=REASON_CHARS)
    messages = models.PositiveIntegerField(default=0)
    created_at = models.DateTimeField(default=timezone.now)
    seen_at = models.DateTimeField(null=True, blank=True)

    objects = AdminReadQuerySet.as_manager()

    class Meta:
        verbose_name = _("administrator's read")
        verbose_name_plural = _("administrators' reads")
        ordering = ["-created_at", "-pk"]
        permissions = [
            ("read_conversation", "Can read a conversation of another user"),
            ("hold", "Can place and lift legal holds"),
            ("delete_account", "Can delete the account of another user"),
        ]

    def __str__(self) -> str:
        return f"{self.reader}: {self.created_at:%Y-%m-%d}"
