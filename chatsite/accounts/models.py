"""People, and the keys that their programs use."""

from __future__ import annotations

from django.contrib.auth.models import AbstractUser
from django.db import models
from django.db.models import Q
from django.db.models.functions import Lower
from django.utils import timezone
from django.utils.translation import gettext_lazy as _


class User(AbstractUser):
    """A person. Our own class from the start, since Django can't swap it in later."""

    class Meta(AbstractUser.Meta):
        # Sign-in ignores case and refuses a name that fits two people: neither could get in.
        constraints = [
            models.UniqueConstraint(
                Lower("username"),
                name="username_ignoring_case",
                violation_error_message=_("There is a person of this name already."),
            )
        ]


class Scope(models.TextChoices):
    CHAT = "chat", _("chat and completions")
    EMBED = "embed", _("embeddings")
    MODELS = "models", _("list of models")


class ApiKeyQuerySet(models.QuerySet["ApiKey"]):
    def of(self, user: User) -> ApiKeyQuerySet:
        return self.filter(owner=user)

    def usable(self) -> ApiKeyQuerySet:
        """Neither revoked nor expired, of a person who may sign in."""
        now = timezone.now()
        return self.filter(
            Q(expires_at=None) | Q(expires_at__gt=now), revoked_at=None, owner__is_active=True
        )


class ApiKey(models.Model):
    """A person's key for programs. The key itself is kept nowhere: ``digest`` is its SHA-256,
    which is enough for 256 random bits, and ``prefix`` the start by which people know it.
    ``scopes`` are values of `Scope`, separated by blanks."""

    owner = models.ForeignKey(User, on_delete=models.CASCADE, related_name="api_keys")
    name = models.CharField(_("name"), max_length=100, blank=True)
    prefix = models.CharField(_("begins with"), max_length=16)
    digest = models.CharField(max_length=64, unique=True)
    scopes = models.CharField(_("for"), max_length=100)
    created_at = models.DateTimeField(_("made"), default=timezone.now)
    expires_at = models.DateTimeField(_("expires"), null=True, blank=True)
    last_used_at = models.DateTimeField(_("last used"), null=True, blank=True)
    revoked_at = models.DateTimeField(_("revoked"), null=True, blank=True)

    objects = ApiKeyQuerySet.as_manager()

    class Meta:
        verbose_name = _("API key")
        verbose_name_plural = _("API keys")
        ordering = ["-created_at", "-pk"]

    def __str__(self) -> str:
        return f"{self.prefix}…"

    @property
    def scope_names(self) -> list[str]:
        return [str(Scope(scope).label) for scope in self.scopes.split()]

    @property
    def usable(self) -> bool:
        return self.revoked_at is None and (
            self.expires_at is None or self.expires_at > timezone.now()
        )
