"""`manage.py settings`: every setting with its description and value."""

from __future__ import annotations

from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand

from chatsite.env import Environment, shown_value, variable_of


class Command(BaseCommand):
    help = "Prints every setting with its description and value; secrets are masked."
    requires_system_checks = []

    def handle(self, *args: Any, **options: Any) -> None:
        environment: Environment = settings.ENV
        for name, field in Environment.model_fields.items():
            value = getattr(environment, name)
            mark = "" if value == field.get_default(call_default_factory=True) else "  (set)"
            self.stdout.write(f"{variable_of(name)}={shown_value(name, value)}{mark}")
            self.stdout.write(f"    {field.description}")
