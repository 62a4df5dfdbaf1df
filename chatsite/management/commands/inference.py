"""`manage.py inference`: the inference host of this machine (started by `manage.py up`)."""

from __future__ import annotations

import asyncio
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand
from django.utils.translation import gettext_lazy as _

from chatsite import garbage, logs, supported, tracing
from chatsite.sandbox import confine
from chatsite.supervisor import child

# Seconds that audit events are left to another process of this machine.
_DRAIN_PATIENCE = 15.0


class Command(BaseCommand):
    help = str(_("Runs the models of this machine."))
    requires_system_checks = []

    def handle(self, *args: Any, **options: Any) -> None:
        supported.require()
        from chatsite.audit import drain
        from chatsite.inference.assemble import serve

        logs.configure("inference")
        confine.hide_memory()
        child.leave_with_supervisor()
        tracing.start("inference", settings.ENV.otel_endpoint, settings.ENV.otel_share)
        # On a machine with a web server, that one drains the spool.
        drain.start(patience=_DRAIN_PATIENCE)
        garbage.freeze_startup_objects()
        asyncio.run(serve())
