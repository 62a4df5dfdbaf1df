"""Installed models: versions by content digest, the names that point to them, and jobs."""

from __future__ import annotations

import uuid
from pathlib import Path

import msgspec
from django.conf import settings
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import Exists, OuterRef, Q
from django.db.models.functions import Lower
from django.utils import timezone
from django.utils.translation import gettext_lazy as _


class RemoteFacts(msgspec.Struct, frozen=True):
    """What remote engines say of a model.

    ``context`` is in tokens, None if unknown. ``capabilities`` are those that all its engines have;
    see `models_admin.engines`. ``isolated`` is whether all of them keep the prompt caches of users
    apart.
    """

    name: str
    context: int | None = None
    capabilities: tuple[str, ...] = ()
    isolated: bool = False


class ModelVersion(models.Model):
    """One GGUF file in the store, named by its SHA-256 (64 hex digits), or a remote model.

    ``quarantined`` holds the reason why it may not be loaded; empty if it may. ``nature`` is what
    `facts.nature` read of the file, for machines that do not have it; None until it was read. A
    model of remote engines has no file and size 0; ``remote`` describes it (`RemoteFacts`), and its
    digest is that of its name at the engines, which therefore share the load.
    """

    digest = models.CharField(_("digest"), primary_key=True, max_length=64)
    size = models.BigIntegerField(_("size in bytes"))
    source = models.CharField(_("source"), max_length=500, blank=True)
    quarantined = models.TextField(_("quarantine reason"), blank=True)
    remote = models.JSONField(default=dict, db_default={}, blank=True, editable=False)
    created_at = models.DateTimeField(_("installed at"), default=timezone.now)
    nature = models.JSONField(null=True, editable=False)

    class Meta:
        verbose_name = _("model version")
        verbose_name_plural = _("model versions")

    def __str__(self) -> str:
        return self.digest[:12]

    @property
    def path(self) -> Path:
        """Return the file's path, derived from the digest alone. A remote model has no file."""
        return Path(settings.DATA_DIR) / "models" / f"sha256-{self.digest}"

    @property
    def remote_facts(self) -> RemoteFacts | None:
        """Return what remote engines say of the model; None if it is a file."""
        return msgspec.convert(self.remote, RemoteFacts) if self.remote else None


class ModelNames(models.QuerySet["ModelName"]):
    def served(self) -> ModelNames:
        """Return those that have a file, or an engine in use that offers them."""
        offered = ModelVersion.objects.filter(
            pk=OuterRef("version"), engine_models__present=True, engine_models__engine__enabled=True
        )
        return self.filter(Q(version__remote={}) | Exists(offered))


class ModelName(models.Model):
    """``name:tag`` as users see it. Lookup ignores case, as in Ollama."""

    name = models.CharField(_("name"), max_length=200)
    version = models.ForeignKey(
        ModelVersion, on_delete=models.PROTECT, related_name="names", verbose_name=_("version")
    )
    # `models_admin.config.custom.Configuration` of a custom model; empty for a plain one.
    configuration = models.JSONField(default=dict, blank=True, editable=False)
    # The previous version, for rollback.
    previous = models.ForeignKey(
        ModelVersion, on_delete=models.PROTECT, null=True, editable=False, related_name="left_by"
    )
    previous_configuration = models.JSONField(default=dict, blank=True, editable=False)
    # The name at the source, and the source's version (`sources.Resolved.version`) at installation
    # and at the last check; empty if unknown.
    origin = models.CharField(_("source"), max_length=1000, blank=True, editable=False)
    taken = models.CharField(max_length=64, blank=True, editable=False)
    newest = models.CharField(max_length=64, blank=True, editable=False)
    checked_at = models.DateTimeField(null=True, editable=False)
    enabled = models.BooleanField(_("available to users"), default=True)
    # `catalogue.default_name` has the rule that applies if no model is the default.
    is_default = models.BooleanField(_("default for new chats"), default=False, editable=False)
    answer_tokens = models.PositiveIntegerField(
        _("maximum answer length"),
        null=True,
        blank=True,
        validators=[MinValueValidator(1), MaxValueValidator(10_000_000)],
        help_text=_(
            "Tokens after which an answer in a chat is cut and can be continued. Empty: the "
            "server's setting. API requests have their own limit."
        ),
    )
    # Load preferences, kept when the name moves to another version; empty for the server's
    # settings. See `load_preferences.preferences_of`.
    context = models.PositiveIntegerField(
        _("context"),
        null=True,
        blank=True,
        validators=[MinValueValidator(64), MaxValueValidator(10_000_000)],
        help_text=_("Tokens per answer. Empty: the server's setting, or less if memory is short."),
    )
    slots = models.PositiveIntegerField(
        _("parallel requests (slots)"),
        null=True,
        blank=True,
        validators=[MinValueValidator(1), MaxValueValidator(256)],
    )
    keep_alive = models.FloatField(
        _("keep alive (seconds)"),
        null=True,
        blank=True,
        validators=[MinValueValidator(-1), MaxValueValidator(365 * 86400)],
        help_text=_("Seconds an idle model stays loaded. -1: until the memory is needed."),
    )
    pinned = models.BooleanField(
        _("always loaded"),
        default=False,
        help_text=_("Loaded at startup and never unloaded to make room."),
    )
    created_at = models.DateTimeField(default=timezone.now)
    updated_at = models.DateTimeField(_("updated at"), auto_now=True)

    objects = ModelNames.as_manager()

    class Meta:
        verbose_name = _("model")
        verbose_name_plural = _("models")
        ordering = ["name"]
        constraints = [
            models.UniqueConstraint(
                Lower("name"),
                name="model_name_ignoring_case",
                violation_error_message=_("A model with this name already exists."),
            ),
            models.UniqueConstraint(
                fields=["is_default"],
                condition=models.Q(is_default=True),
                name="one_default_model",
            ),
        ]

    def __str__(self) -> str:
        return self.name

    @property
    def has_update(self) -> bool:
        """Return whether the source had a different version at the last check."""
        return self.newest != self.taken


class JobKind(models.TextChoices):
    DOWNLOAD = "download", _("download")
    IMPORT = "import", _("import")
    QUANTIZE = "quantize", _("quantization")
    EXPORT = "export", _("export")


class JobState(models.TextChoices):
    QUEUED = "queued", _("queued")
    RUNNING = "running", _("running")
    PAUSED = "paused", _("paused")
    DONE = "done", _("done")
    FAILED = "failed", _("failed")
    CANCELLED = "cancelled", _("cancelled")


class Job(models.Model):
    """Long-running work on models, done by a Celery worker; see `models_admin.jobs`.

    ``target`` is the model name that it creates, ``source`` the origin of the model as shown to
    users, ``options`` the request as one of `jobs.requests`, ``partial_files`` the digests of the
    partial files that the job owns. A worker leases it until ``lease_until`` and writes only under
    its own ``attempt``. ``wanted`` is the state requested of a running job. ``failures`` counts
    failures in a row without progress; ``not_before`` is the time of the next retry. Sizes are in
    bytes.
    """

    OPEN = (JobState.QUEUED, JobState.RUNNING, JobState.PAUSED)

    id = models.UUIDField(primary_key=True, default=uuid.uuid4, editable=False)
    kind = models.CharField(_("kind"), max_length=10, choices=JobKind.choices)
    target = models.CharField(_("model"), max_length=200)
    source = models.CharField(_("source"), max_length=1000)
    options = models.JSONField(default=dict)
    partial_files = models.JSONField(default=list)
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
    # Language of the user who requested the job, used by the worker for its messages.
    language = models.CharField(max_length=10, blank=True)
    asked_by = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.SET_NULL, null=True, related_name="+"
    )
    created_at = models.DateTimeField(_("requested at"), default=timezone.now)
    started_at = models.DateTimeField(null=True)
    finished_at = models.DateTimeField(null=True)

    class Meta:
        verbose_name = _("job")
        verbose_name_plural = _("jobs")
        ordering = ["-created_at"]
        constraints = [
            # A second request for the same work joins the open job.
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
    """A line of a job's log: ``code`` is one of `models_admin.jobs.job_log`, with its values."""

    job = models.ForeignKey(Job, on_delete=models.CASCADE, related_name="lines")
    at = models.DateTimeField(default=timezone.now)
    code = models.CharField(max_length=40)
    values = models.JSONField(default=dict)

    class Meta:
        ordering = ["pk"]

    def __str__(self) -> str:
        return self.code
