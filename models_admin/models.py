"""Installed models: versions by content digest, the names that point to them, and the jobs that
bring and change them."""

from __future__ import annotations

import uuid
from pathlib import Path

from django.conf import settings
from django.core.validators import MaxValueValidator, MinValueValidator
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
    # What the name stood for before, to go back to.
    previous = models.ForeignKey(
        ModelVersion, on_delete=models.PROTECT, null=True, editable=False, related_name="left_by"
    )
    previous_configuration = models.JSONField(default=dict, blank=True, editable=False)
    # The name at its source, what the source had when it was installed and when it was last asked
    # (`sources.Resolved.version`); empty when unknown.
    origin = models.CharField(_("comes from"), max_length=1000, blank=True, editable=False)
    taken = models.CharField(max_length=64, blank=True, editable=False)
    newest = models.CharField(max_length=64, blank=True, editable=False)
    checked_at = models.DateTimeField(null=True, editable=False)
    enabled = models.BooleanField(_("offered to people"), default=True)
    # How it is held in memory, kept when the name goes over to another version; empty for what
    # the server's settings say. See `placing.wish`.
    context = models.PositiveIntegerField(
        _("context"),
        null=True,
        blank=True,
        validators=[MinValueValidator(64), MaxValueValidator(10_000_000)],
        help_text=_("Tokens per answer. Empty: the server's setting, or less if memory is short."),
    )
    slots = models.PositiveIntegerField(
        _("answers at once"),
        null=True,
        blank=True,
        validators=[MinValueValidator(1), MaxValueValidator(256)],
    )
    keep_alive = models.FloatField(
        _("stays unused for"),
        null=True,
        blank=True,
        validators=[MinValueValidator(-1), MaxValueValidator(365 * 86400)],
        help_text=_("Seconds until an unused model leaves memory; -1: until there is need."),
    )
    pinned = models.BooleanField(
        _("always loaded"),
        default=False,
        help_text=_("Loaded at start and never let go for another model."),
    )
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

    @property
    def has_update(self) -> bool:
        """Whether the source offered another version when it was last asked."""
        return self.newest != self.taken


class JobKind(models.TextChoices):
    DOWNLOAD = "download", _("download")
    IMPORT = "import", _("import")
    QUANTIZE = "quantize", _("quantization")
    EXPORT = "export", _("export")


class JobState(models.TextChoices):
    QUEUED = "queued", _("waiting")
    RUNNING = "running", _("running")
    PAUSED = "paused", _("paused")
    DONE = "done", _("done")
    FAILED = "failed", _("failed")
    CANCELLED = "cancelled", _("cancelled")


class Job(models.Model):
    """Long work on models, done by a Celery worker; see `models_admin.jobs`.

    ``target`` is the model name that it makes, ``source`` what it is made from, ``options`` what
    its kind needs besides. A worker holds it while ``lease_until`` lies ahead, and writes only
    under its own ``attempt``. ``wanted`` is the state that somebody asked a running one to go to.
    ``failures`` are those in a row without anything new, ``not_before`` when it is tried again.
    Sizes are bytes.
    """

    OPEN = (JobState.QUEUED, JobState.RUNNING, JobState.PAUSED)

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    kind = models.CharField(_("kind"), max_length=10, choices=JobKind.choices)
    target = models.CharField(_("model"), max_length=200)
    source = models.CharField(_("source"), max_length=1000)
    options = models.JSONField(default=dict)
    state = models.CharField(
        _("state"), max_length=10, choices=JobState.choices, default=JobState.QUEUED
    )
    wanted = models.CharField(max_length=10, blank=True)
    attempt = models.PositiveIntegerField(default=0)
    failures = models.PositiveIntegerField(default=0)
    worker = models.CharField(max_length=200, blank=True)
    lease_until = models.DateTimeField(null=True)
    not_before = models.DateTimeField(null=True)
    stage = models.CharField(max_length=20, blank=True)
    done = models.BigIntegerField(default=0)
    total = models.BigIntegerField(default=0)
    error = models.JSONField(default=dict)
    # Of whoever asked: what the worker says of it is written in it.
    language = models.CharField(max_length=10, blank=True)
    asked_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+"
    )
    created_at = models.DateTimeField(_("asked for"), default=timezone.now)
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)

    class Meta:
        verbose_name = _("job")
        verbose_name_plural = _("jobs")
        ordering = ["-created_at"]
        constraints = [
            # Who asks for what is under way joins it.
            models.UniqueConstraint(
                "kind",
                Lower("target"),
                condition=models.Q(state__in=["queued", "running", "paused"]),
                name="one_open_job_of_a_kind",
            )
        ]

    def __str__(self) -> str:
        return f"{self.get_kind_display()}: {self.target}"


class JobLine(models.Model):
    """A line of a job's log: ``code`` is one of `models_admin.jobs.lines`, with its values."""

    job = models.ForeignKey(Job, on_delete=models.CASCADE, related_name="lines")
    at = models.DateTimeField(default=timezone.now)
    code = models.CharField(max_length=40)
    values = models.JSONField(default=dict)

    class Meta:
        ordering = ["pk"]

    def __str__(self) -> str:
        return self.code
