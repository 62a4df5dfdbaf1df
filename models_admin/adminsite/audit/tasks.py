"""Celery tasks of the audit log, started by beat."""

from __future__ import annotations

import logging
from datetime import UTC, datetime, time, timedelta

from django.conf import settings
from django.utils import timezone

from chatsite.audit import drain, verification
from chatsite.celery import app
from models_admin.adminsite.audit import api_use

log = logging.getLogger(__name__)


@app.task(name="chatsite.audit.drain", ignore_result=True)
def drain_spool() -> None:
    """Drain the spool of a machine that has neither web server nor inference host."""
    drain.drain(wait=0)


@app.task(name="chatsite.audit.nightly", ignore_result=True)
def nightly() -> None:
    """Summarize the API requests of the last day, delete old events, and verify the rest."""
    today = datetime.combine(timezone.now().astimezone(UTC), time.min, tzinfo=UTC)
    if settings.ENV.audit_api == "summary":
        api_use.summarize(today - timedelta(days=1))
    verification.prune(settings.ENV.audit_days)
    report = verification.verify()
    if report.problem is not None:
        log.critical(
            "Audit log is not intact",
            extra={"sequence": report.problem.sequence, "problem": report.problem.text},
        )
