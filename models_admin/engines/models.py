"""Remote engines, and the models that each of them offers."""

from __future__ import annotations

from typing import Final

from django.conf import settings
from django.core.validators import MaxValueValidator, MinValueValidator, RegexValidator
from django.db import models
from django.db.models.functions import Lower
from django.utils import timezone
from django.utils.translation import gettext_lazy as _

from chatsite.secrets import UnreadableSecret, decrypt, encrypt

_PURPOSE: Final = "models_admin.engines"


class EngineKind(models.TextChoices):
    VLLM = "vllm", "vLLM"
    LLAMA_SERVER = "llama-server", "llama-server (llama.cpp)"
    OLLAMA = "ollama", "Ollama"
    OPENAI = "openai", _("OpenAI-compatible server")


# What an administrator may set if the engine does not report it, or not correctly.
CAPABILITIES: Final = {
    "tools": _("Tool calls"),
    "json_schema": _("JSON schemas"),
    "grammar": _("Grammars (GBNF)"),
    "logprobs": _("Log probabilities"),
    "continuation": _("Continuing a cut answer"),
    "completion": _("Text completion"),
    "cache_isolation": _("Separate prompt caches for users"),
}


class Engine(models.Model):
    """A server that computes answers, added by an administrator.

    ``key`` is encrypted; use `read_key` and `set_key`. At most ``concurrency`` requests run there
    at once. A request fails over after ``timeout_seconds`` without any output. ``overrides`` maps
    names of `CAPABILITIES` to whether the engine has them, in place of what it reports; ``only``
    are the names of its models that are offered, all if empty. ``version`` and ``checked_at`` are
    of the last successful discovery; ``error`` is why the last one failed.
    """

    name = models.CharField(
        _("name"),
        max_length=40,
        validators=[
            RegexValidator(
                r"^[A-Za-z0-9_][A-Za-z0-9_-]*\Z",
                _("Use letters, digits, - and _ only, and start with a letter, a digit or _."),
            )
        ],
    )
    kind = models.CharField(_("kind"), max_length=20, choices=EngineKind.choices)
    url = models.CharField(_("address"), max_length=500)
    key = models.TextField(blank=True, editable=False)
    concurrency = models.PositiveIntegerField(
        _("parallel requests"),
        default=8,
        validators=[MinValueValidator(1), MaxValueValidator(4096)],
    )
    timeout_seconds = models.PositiveIntegerField(
        _("timeout (seconds)"),
        default=120,
        validators=[MinValueValidator(1), MaxValueValidator(3600)],
    )
    context = models.PositiveIntegerField(
        _("context"),
        null=True,
        blank=True,
        validators=[MinValueValidator(64), MaxValueValidator(10_000_000)],
    )
    overrides = models.JSONField(default=dict, blank=True)
    only = models.JSONField(default=list, blank=True)
    enabled = models.BooleanField(_("in use"), default=True)
    version = models.CharField(max_length=200, blank=True, editable=False)
    checked_at = models.DateTimeField(null=True, editable=False)
    error = models.TextField(blank=True, editable=False)
    created_at = models.DateTimeField(default=timezone.now)
    updated_at = models.DateTimeField(auto_now=True)

    class Meta:
        verbose_name = _("remote engine")
        verbose_name_plural = _("remote engines")
        ordering = ["name"]
        constraints = [
            models.UniqueConstraint(
                Lower("name"),
                name="engine_name_ignoring_case",
                violation_error_message=_("An engine with this name already exists."),
            )
        ]

    def __str__(self) -> str:
        return self.name

    def read_key(self) -> str:
        """Return the key in plain text, "" without one. Raises `UnreadableSecret`."""
        return decrypt(self.key, settings.SECRET_KEY, _PURPOSE) if self.key else ""

    def set_key(self, key: str) -> None:
        self.key = encrypt(key, settings.SECRET_KEY, _PURPOSE) if key else ""

    @property
    def key_unreadable(self) -> bool:
        """Return whether the key was encrypted with another secret key."""
        try:
            self.read_key()
        except UnreadableSecret:
            return True
        return False


class EngineModel(models.Model):
    """A model that an engine offers.

    ``name`` is the engine's own name of it. ``version`` is None after an administrator removed the
    model from the catalogue. ``present`` is whether the last discovery found it. ``context`` is in
    tokens, ``slots`` the requests that the engine computes at once; None if it does not say.
    """

    engine = models.ForeignKey(Engine, on_delete=models.CASCADE, related_name="models")
    name = models.CharField(max_length=300)
    version = models.ForeignKey(
        "models_admin.ModelVersion",
        on_delete=models.SET_NULL,
        null=True,
        related_name="engine_models",
    )
    context = models.PositiveIntegerField(null=True)
    slots = models.PositiveIntegerField(null=True)
    capabilities = models.JSONField(default=list)
    present = models.BooleanField(default=True)

    class Meta:
        verbose_name = _("model of an engine")
        verbose_name_plural = _("models of engines")
        ordering = ["name"]
        constraints = [
            models.UniqueConstraint(fields=["engine", "name"], name="one_row_for_an_engine_model")
        ]

    def __str__(self) -> str:
        return f"{self.engine_id}: {self.name}"
