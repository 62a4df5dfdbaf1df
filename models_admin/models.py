"""Installed models: versions by content digest, and the names that point to them."""

from __future__ import annotations

from pathlib import Path

from django.conf import settings
from django.db import models
from django.db.models.functions import Lower
from django.utils import timezone
from django.utils.translation import gettext_lazy as _


class ModelVersion(models.Model):
    """One GGUF file in the store, named by its SHA-256 (64 hex digits).

    ``quarantined`` holds the reason why it may not be loaded, empty when it may.
    """

    digest = models.CharField(primary_key=True, max_length=64)
    size = models.BigIntegerField(_("size in bytes"))
    source = models.CharField(_("source"), max_length=500, blank=True)
    quarantined = models.TextField(_("quarantined because"), blank=True)
    created_at = models.DateTimeField(default=timezone.now)

    class Meta:
        verbose_name = _("model version")
        verbose_name_plural = _("model versions")

    def __str__(self) -> str:
        return self.digest[:12]

    @property
    def path(self) -> Path:
        """The name on disk is made here, from the digest alone."""
        return Path(settings.DATA_DIR) / "models" / f"sha256-{self.digest}"


class ModelName(models.Model):
    """``name:tag`` as people see it. Lookup ignores case, as Ollama's does."""

    name = models.CharField(_("name"), max_length=200)
    version = models.ForeignKey(ModelVersion, on_delete=models.PROTECT, related_name="names")
    # Of a custom model: `models_admin.custom.Configuration`. Empty for a plain one.
    configuration = models.JSONField(default=dict, blank=True, editable=False)
    enabled = models.BooleanField(_("offered to people"), default=True)
    created_at = models.DateTimeField(default=timezone.now)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        verbose_name = _("model")
        verbose_name_plural = _("models")
        ordering = ["name"]
        constraints = [
            models.UniqueConstraint(
                Lower("name"),
                name="model_name_ignoring_case",
                violation_error_message=_("There is a model of this name already."),
            )
        ]

    def __str__(self) -> str:
        return self.name
