"""Usage statistics without content: sums and histograms per hour and per day.

They have no foreign keys. Users, groups and API keys are kept as IDs in text, and their names in
`Label`, so that statistics survive the deletion of all of them.
"""

from __future__ import annotations

import uuid

from django.db import models
from django.utils import timezone
from django.utils.translation import gettext_lazy as _


class Scope(models.TextChoices):
    """What a cell sums up: everybody, one group, or one user.

    Cells of groups overlap, since a user may be in several groups, so sums over all users come from
    cells of their own.
    """

    ALL = "all", _("all users")
    GROUP = "group", _("group")
    USER = "user", _("user")


class Cell(models.Model):
    """What a set of requests in one period used.

    ``id`` is a digest of the dimensions (`rollup.cell_id`). ``who`` is the ID of the group or user,
    "" for all. ``door`` is a value of `Door`. ``key`` is the ID of the API key, in cells of users
    only. ``detail`` has histograms by metric and errors by code (`figures.Figures`).
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    scope = models.CharField(max_length=5, choices=Scope.choices)
    who = models.CharField(max_length=40, blank=True)
    model = models.CharField(max_length=200)
    door = models.CharField(max_length=8)
    key = models.CharField(max_length=40, blank=True)
    done = models.PositiveIntegerField(default=0)
    failed = models.PositiveIntegerField(default=0)
    cancelled = models.PositiveIntegerField(default=0)
    interrupted = models.PositiveIntegerField(default=0)
    cache_hits = models.PositiveIntegerField(default=0)
    prompt_tokens = models.PositiveBigIntegerField(default=0)
    cached_tokens = models.PositiveBigIntegerField(default=0)
    completion_tokens = models.PositiveBigIntegerField(default=0)
    detail = models.JSONField(default=dict)

    class Meta:
        abstract = True

    def __str__(self) -> str:
        return f"{self.scope} {self.who} {self.model} {self.door}"


class HourCell(Cell):
    """An hour, which begins at ``start``. Deleted after `rollup.HOURS_KEPT`."""

    start = models.DateTimeField()

    class Meta:
        default_permissions = ()
        indexes = [models.Index(fields=["scope", "start", "who"], name="usage_hour")]


class DayCell(Cell):
    """A day in the time zone of the organization.

    ``groups`` are the IDs of the user's groups on that day, sorted and separated by spaces, in
    cells of users only.
    """

    day = models.DateField()
    groups = models.TextField(blank=True)

    class Meta:
        default_permissions = ()
        permissions = [("view_report", "Can view usage reports")]
        indexes = [
            models.Index(fields=["scope", "day", "who"], name="usage_day"),
            models.Index(fields=["scope", "who", "day"], name="usage_of_one"),
        ]


class LabelKind(models.TextChoices):
    USER = "user", _("user")
    GROUP = "group", _("group")
    KEY = "key", _("API key")


class Label(models.Model):
    """The last known name of a user, group or API key that appears in statistics."""

    kind = models.CharField(max_length=5, choices=LabelKind.choices)
    key = models.CharField(max_length=40)
    name = models.CharField(max_length=200)

    class Meta:
        default_permissions = ()
        constraints = [models.UniqueConstraint(fields=["kind", "key"], name="usage_label_once")]

    def __str__(self) -> str:
        return self.name


class RollUp(models.Model):
    """The one row that serializes roll-ups, and when the last one was completed."""

    completed_at = models.DateTimeField(default=timezone.now)

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return self.completed_at.isoformat()
