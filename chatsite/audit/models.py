"""The chained table of audit events, its search terms, and the state of what reads and writes it.

Triggers of the migration refuse changes to events; only events up to the anchor of the chain
(`Chain.pruned_sequence`) may be deleted. There are no foreign keys: events survive what they name.
"""

from __future__ import annotations

from django.db import models
from django.utils.translation import gettext_lazy as _

from chatsite.text_terms import TermsField


class Outcome(models.TextChoices):
    OK = "ok", _("succeeded")
    DENIED = "denied", _("denied")
    FAILED = "failed", _("failed")


class Event(models.Model):
    """One event; see `chain.canonical` for how its ``hash`` is computed.

    ``time`` is when it was recorded, ``sequence`` its place in the chain. ``details`` is a JSON
    object as text, since its hash depends on how it is written.
    """

    sequence = models.BigAutoField(_("number"), primary_key=True)
    v = models.PositiveSmallIntegerField()
    time = models.DateTimeField(_("time"))
    kind = models.CharField(_("kind"), max_length=60)
    outcome = models.CharField(_("outcome"), max_length=10, choices=Outcome.choices)
    actor_id = models.CharField(_("user ID"), max_length=64)
    actor_name = models.CharField(_("user"), max_length=200)
    via = models.CharField(_("channel"), max_length=20)
    address = models.CharField(_("address"), max_length=64)
    agent = models.CharField(_("client"), max_length=200)
    request_id = models.CharField(_("request ID"), max_length=64)
    target_type = models.CharField(_("type of object"), max_length=40)
    target_id = models.CharField(_("ID of object"), max_length=100)
    target_name = models.CharField(_("object"), max_length=200)
    details = models.TextField(_("details"), default="{}")
    previous = models.CharField(_("previous hash"), max_length=64)
    hash = models.CharField(_("hash"), max_length=64)

    class Meta:
        verbose_name = _("audit event")
        verbose_name_plural = _("audit events")
        ordering = ["-sequence"]
        default_permissions = ("view",)
        # Other filters are terms (`search_terms`).
        indexes = [models.Index(fields=["time", "sequence"], name="audit_event_time")]

    def __str__(self) -> str:
        return f"{self.sequence} {self.kind}"


class EventTerms(models.Model):
    """The search terms of an event. A table of its own: a search reads it without the events."""

    sequence = models.BigAutoField(primary_key=True)
    terms = TermsField()

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return str(self.sequence)


class Chain(models.Model):
    """The head and the anchor of the chain, in one row with the key 1.

    Each is sealed: an HMAC with the site's secret key, so that who can write the database but does
    not know the key can't replace the whole chain. Events up to the anchor have been deleted by
    the retention job.
    """

    id = models.PositiveSmallIntegerField(primary_key=True)
    sequence = models.BigIntegerField(default=0)
    hash = models.CharField(max_length=64)
    seal = models.CharField(max_length=64)
    pruned_sequence = models.BigIntegerField(default=0)
    pruned_hash = models.CharField(max_length=64)
    pruned_seal = models.CharField(max_length=64)

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return str(self.sequence)


class SpoolFile(models.Model):
    """How many bytes of a spool file are in the chain, committed together with their events."""

    name = models.CharField(max_length=100, primary_key=True)
    offset = models.BigIntegerField()

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return self.name


class Forwarding(models.Model):
    """How far the events were sent to a syslog server, and who sends until when."""

    destination = models.CharField(max_length=300, primary_key=True)
    sequence = models.BigIntegerField(default=0)
    sender = models.CharField(max_length=40, default="")
    until = models.DateTimeField(null=True)

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return self.destination


class Verification(models.Model):
    """The last verification, in one row with the key 1.

    ``problem`` is what was wrong (`chain.Problem.what`) with event ``problem_sequence``.
    """

    id = models.PositiveSmallIntegerField(primary_key=True)
    time = models.DateTimeField()
    ok = models.BooleanField()
    events = models.BigIntegerField()
    last = models.BigIntegerField()
    problem = models.CharField(max_length=20, default="")
    problem_sequence = models.BigIntegerField(default=0)

    class Meta:
        default_permissions = ()

    def __str__(self) -> str:
        return self.problem or "ok"


class KeyAddress(models.Model):
    """An address from which an API key was used."""

    key_id = models.BigIntegerField()
    address = models.CharField(max_length=64)
    first_at = models.DateTimeField(auto_now_add=True)

    class Meta:
        default_permissions = ()
        constraints = [
            models.UniqueConstraint(fields=["key_id", "address"], name="audit_key_address")
        ]

    def __str__(self) -> str:
        return self.address
