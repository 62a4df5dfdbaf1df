"""Assistants: a model with instructions, parameters and a face, made once and chosen by name."""

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
        """Those that the person made."""
        return self.filter(owner=user)

    def for_person(self, user: User) -> AssistantQuerySet:
        """Those that the person may use: their own, and an administrator's for everybody or for
        a group of theirs."""
        everybody = Q(owner=None) & (Q(group=None) | Q(group__in=user.groups.all()))
        return self.filter(Q(owner=user) | everybody, enabled=True)


class Assistant(models.Model):
    """Without an owner it is an administrator's, for everybody or for the people of ``group``.
    ``parameters`` have Ollama's names, as a model's own. ``suggestions`` are texts that begin a
    chat with it."""

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
        verbose_name=_("for the group"),
        help_text=_("Empty: for everybody."),
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
    enabled = models.BooleanField(_("offered to people"), default=True)
    created_at = models.DateTimeField(default=timezone.now)
    updated_at = models.DateTimeField(auto_now=True)

    objects = AssistantQuerySet.as_manager()

    class Meta:
        verbose_name = _("assistant")
        verbose_name_plural = _("assistants")
        ordering = ["name", "pk"]

    def __str__(self) -> str:
        return self.name
