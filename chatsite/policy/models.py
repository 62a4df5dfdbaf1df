"""Rules, limits and quotas in the database, and the consumption that quotas count."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.contrib.auth.models import Group
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from chatsite.policy import decide


class Audience(models.Model):
    """Whom a row is for: a user, a group, or with neither all users."""

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.CASCADE,
        null=True,
        blank=True,
        related_name="+",
        verbose_name=_("user"),
    )
    group = models.ForeignKey(
        Group,
        on_delete=models.CASCADE,
        null=True,
        blank=True,
        related_name="+",
        verbose_name=_("group"),
    )
    note = models.CharField(_("note"), max_length=200, blank=True)
    created_at = models.DateTimeField(_("created at"), default=timezone.now, editable=False)

    class Meta:
        abstract = True

    @property
    def audience(self) -> decide.Audience:
        return decide.Audience(self.user_id, self.group_id)


def _one_audience(name: str) -> models.CheckConstraint:
    return models.CheckConstraint(condition=Q(user=None) | Q(group=None), name=name)


class Rule(Audience):
    """Allows or denies a model, assistant or feature to its audience."""

    class Effect(models.TextChoices):
        ALLOW = "allow", _("Allow")
        DENY = "deny", _("Deny")

    class Kind(models.TextChoices):
        MODEL = "model", _("Model")
        ASSISTANT = "assistant", _("Assistant")
        FEATURE = "feature", _("Feature")

    effect = models.CharField(_("effect"), max_length=8, choices=Effect.choices)
    kind = models.CharField(_("kind"), max_length=12, choices=Kind.choices)
    target = models.CharField(_("target"), max_length=200)

    class Meta:
        verbose_name = _("rule")
        verbose_name_plural = _("rules")
        ordering = ["kind", "target", "pk"]
        constraints = [_one_audience("rule_one_audience")]

    def __str__(self) -> str:
        return f"{self.effect} {self.kind} {self.target}"

    def as_data(self) -> decide.Rule:
        effect: Any = self.effect
        kind: Any = self.kind
        return decide.Rule(self.pk, effect, kind, self.target, self.audience)


class Default(models.Model):
    """What is decided for a kind of target where no rule matches; allowed without a row."""

    kind = models.CharField(max_length=12, choices=Rule.Kind.choices, primary_key=True)
    allowed = models.BooleanField(_("allowed"), default=True)

    class Meta:
        verbose_name = _("default")
        verbose_name_plural = _("defaults")

    def __str__(self) -> str:
        return f"{self.kind}: {'allow' if self.allowed else 'deny'}"


class Limit(Audience):
    """Limits of an audience; an empty field sets none. See `decide.Limits`."""

    class Priority(models.IntegerChoices):
        HIGH = 1, _("High")
        NORMAL = 0, _("Normal")
        LOW = -1, _("Low")

    longest_context = models.PositiveIntegerField(
        _("longest context"),
        null=True,
        blank=True,
        validators=[MinValueValidator(64), MaxValueValidator(10_000_000)],
        help_text=_("Tokens of the prompt and its answer together."),
    )
    longest_answer = models.PositiveIntegerField(
        _("longest answer"),
        null=True,
        blank=True,
        validators=[MinValueValidator(1), MaxValueValidator(10_000_000)],
        help_text=_("Tokens after which an answer is cut."),
    )
    share_weight = models.FloatField(
        _("share weight"),
        null=True,
        blank=True,
        validators=[MinValueValidator(0.1), MaxValueValidator(10)],
        help_text=_("The share of the queue relative to other users, who have 1."),
    )
    priority = models.SmallIntegerField(
        _("priority"),
        null=True,
        blank=True,
        choices=Priority.choices,
        help_text=_("Requests of a higher priority are served before all others."),
    )
    open_requests = models.PositiveIntegerField(
        _("open requests"),
        null=True,
        blank=True,
        validators=[MinValueValidator(1), MaxValueValidator(10_000)],
        help_text=_("Queued and running requests of a user at the same time."),
    )

    class Meta:
        verbose_name = _("limit")
        verbose_name_plural = _("limits")
        ordering = ["pk"]
        constraints = [_one_audience("limit_one_audience")]

    def __str__(self) -> str:
        return f"limit {self.pk}"

    def as_data(self) -> decide.LimitRow:
        values = {name: getattr(self, name) for name in decide.LIMIT_FIELDS}
        return decide.LimitRow(self.pk, decide.Limits(**values), self.audience)


class Quota(Audience):
    """An amount of tokens or requests per calendar period.

    ``shared``: all users of the audience consume one amount together; else each has the amount.
    """

    class Unit(models.TextChoices):
        TOKENS = "tokens", _("tokens")
        REQUESTS = "requests", _("requests")

    class Period(models.TextChoices):
        HOUR = "hour", _("hour")
        DAY = "day", _("day")
        MONTH = "month", _("month")

    unit = models.CharField(_("unit"), max_length=8, choices=Unit.choices)
    period = models.CharField(_("period"), max_length=8, choices=Period.choices)
    amount = models.PositiveBigIntegerField(
        _("amount"), validators=[MinValueValidator(1), MaxValueValidator(10**15)]
    )
    shared = models.BooleanField(
        _("shared"),
        default=False,
        help_text=_("All users of the group share one amount; otherwise each has it."),
    )

    class Meta:
        verbose_name = _("quota")
        verbose_name_plural = _("quotas")
        ordering = ["pk"]
        constraints = [_one_audience("quota_one_audience")]

    def __str__(self) -> str:
        return f"{self.amount} {self.unit} per {self.period}"

    def as_data(self) -> decide.Quota:
        unit: Any = self.unit
        period: Any = self.period
        return decide.Quota(self.pk, unit, period, self.amount, self.audience, self.shared)


class Consumption(models.Model):
    """What one pot of a quota has consumed in the window that begins at ``start``.

    ``pot`` is a user's ID, or 0 for a shared pot. ``reserved`` is held by open requests and becomes
    ``used`` when they end, as far as they used it.
    """

    quota = models.ForeignKey(Quota, on_delete=models.CASCADE, related_name="+")
    pot = models.BigIntegerField()
    start = models.DateTimeField()
    used = models.BigIntegerField(default=0)
    reserved = models.BigIntegerField(default=0)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["quota", "pot", "start"], name="consumption_once")
        ]
        indexes = [models.Index(fields=["start"], name="consumption_by_start")]

    def __str__(self) -> str:
        return f"{self.quota_id}/{self.pot}: {self.used} used, {self.reserved} reserved"


class Reservation(models.Model):
    """What an open generation holds of a consumption; deleted when it is settled.

    No foreign key to the generation: one that was deleted must still be settled. ``budget``: the
    tokens that the request may take, prompt and answer together.
    """

    generation = models.UUIDField(db_index=True)
    consumption = models.ForeignKey(Consumption, on_delete=models.CASCADE, related_name="+")
    amount = models.BigIntegerField()
    budget = models.BigIntegerField(null=True)
    created_at = models.DateTimeField(default=timezone.now, db_index=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["generation", "consumption"], name="reservation_once")
        ]

    def __str__(self) -> str:
        return f"{self.generation}: {self.amount}"


class Revision(models.Model):
    """One row that is incremented by each change, so that processes notice it."""

    number = models.PositiveBigIntegerField(default=0)

    def __str__(self) -> str:
        return str(self.number)
