"""`manage.py inference`: the inference host of this machine (started by `manage.py up`)."""

from __future__ import annotations

import asyncio
from typing import Any

from django.core.management.base import BaseCommand
from django.utils.translation import gettext_lazy as _

from chatsite import garbage, logs
from chatsite.supervisor import child


class Command(BaseCommand):
    help = str(_("Runs the models of this machine."))
    requires_system_checks = []

    def handle(self, *args: Any, **options: Any) -> None:
        from chatsite.inference.assemble import serve

        logs.configure("inference")
        child.leave_with_supervisor()
        garbage.settle()
        asyncio.run(serve())
