"""What administrators set, and which notices each user has seen."""

from __future__ import annotations

from django.conf import settings
from django.db import models
from django.utils import timezone


class StoredSetting(models.Model):
    """A setting that differs from its default. ``changed_by`` is a username, as text."""

    name = models.CharField(max_length=64, primary_key=True)
    value = models.JSONField()
    changed_at = models.DateTimeField(default=timezone.now)
    changed_by = models.CharField(max_length=150, blank=True)

    def __str__(self) -> str:
        return self.name


class Logo(models.Model):
    """The site's logo, named by the SHA-256 of its content; at most one row."""

    digest = models.CharField(max_length=64, primary_key=True)
    content = models.BinaryField()
    media_type = models.CharField(max_length=20)

    def __str__(self) -> str:
        return self.digest


class TermsAcceptance(models.Model):
    """That a user accepted a version of the terms of use."""

    user = models.ForeignKey(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="accepted_terms"
    )
    version = models.CharField(max_length=40)
    accepted_at = models.DateTimeField(default=timezone.now)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["user", "version"], name="terms_accepted_once")
        ]

    def __str__(self) -> str:
        return f"{self.user_id} {self.version}"


class DismissedBanner(models.Model):
    """The announcement that a user dismissed last, by the digest of its text."""

    user = models.OneToOneField(
        settings.AUTH_USER_MODEL, on_delete=models.CASCADE, related_name="dismissed_banner"
    )
    digest = models.CharField(max_length=32)

    def __str__(self) -> str:
        return f"{self.user_id} {self.digest}"
