"""Assistants: a model with instructions, parameters and an icon, chosen by name."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING

from django.conf import settings
from django.db import models
from django.db.models import Q
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

if TYPE_CHECKING:
    from chatsite.accounts.models import User


class AssistantQuerySet(models.QuerySet["Assistant"]):
    def of(self, user: User) -> AssistantQuerySet:
        """Return the assistants that the user created."""
        return self.filter(owner=user)

    def of_organization(self) -> AssistantQuerySet:
        """Return the assistants that administrators provide; they have no owner."""
        return self.filter(owner=None)

    def usable_by(self, user: User) -> AssistantQuerySet:
        """Return the assistants that the user may use.

        These are the user's own, and an administrator's for everyone or for a group of the user.
        """
        everybody = Q(owner=None) & (Q(group=None) | Q(group__in=user.groups.all()))
        return self.filter(Q(owner=user) | everybody, enabled=True)


class AssistantManager(models.Manager["Assistant"]):
    """Excludes deleted assistants, although they can still be restored."""

    def get_queryset(self) -> AssistantQuerySet:
        return AssistantQuerySet(self.model, using=self._db).filter(deleted_at=None)

    def of(self, user: User) -> AssistantQuerySet:
        return self.get_queryset().of(user)

    def of_organization(self) -> AssistantQuerySet:
        return self.get_queryset().of_organization()

    def usable_by(self, user: User) -> AssistantQuerySet:
        return self.get_queryset().usable_by(user)


class Assistant(models.Model):
    """A preset of a user, or of an administrator for everyone or for the users in ``group``.

    Administrators' presets have no owner. ``parameters`` have Ollama's names, like those of models.
    ``suggestions`` are prompts that begin a chat with it. A deleted one can be restored until it is
    purged (`retention/deletions.py`).
    """

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    owner = models.ForeignKey(
        settings.AUTH_USER_MODEL,
        on_delete=models.CASCADE,
        null=True,
        blank=True,
        related_name="assistants",
    )
    group = models.ForeignKey(
        "auth.Group",
        on_delete=models.CASCADE,
        null=True,
        blank=True,
        related_name="assistants",
        verbose_name=_("Group"),
        help_text=_("Leave empty for everyone."),
    )
    name = models.CharField(_("name"), max_length=80)
    icon = models.CharField(
        _("icon"), max_length=8, blank=True, help_text=_("One emoji or a letter.")
    )
    description = models.CharField(_("description"), max_length=200, blank=True)
    model = models.CharField(_("model"), max_length=200)
    system = models.TextField(_("instructions"), blank=True)
    parameters = models.JSONField(default=dict, blank=True, editable=False)
    suggestions = models.JSONField(default=list, blank=True, editable=False)
    enabled = models.BooleanField(_("available to users"), default=True)
    created_at = models.DateTimeField(default=timezone.now)
    updated_at = models.DateTimeField(_("updated at"), auto_now=True)
    deleted_at = models.DateTimeField(null=True, blank=True, editable=False)

    objects = AssistantManager()
    with_deleted = AssistantQuerySet.as_manager()

    class Meta:
        verbose_name = _("assistant")
        verbose_name_plural = _("assistants")
        ordering = ["name", "pk"]

    def __str__(self) -> str:
        return self.name
