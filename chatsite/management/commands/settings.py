"""`manage.py settings`: every setting from the environment, what it is for, and its value."""

from __future__ import annotations

import re
from typing import Any

from django.conf import settings
from django.core.management.base import BaseCommand, CommandParser

from chatsite.env import Environment

_SECRET = {"metrics_token", "secret_key"}
_PASSWORD_IN_URL = re.compile(r"(?<=://)([^/@]*):[^/@]*@")


def variable_of(name: str) -> str:
    """The environment variable of a field of `Environment`."""
    alias = Environment.model_fields[name].validation_alias
    first = getattr(alias, "choices", [None])[0]
    return str(first or f"CHATSITE_{name.upper()}")


def shown_value(name: str, value: Any) -> str:
    """``value`` as one would set it, without what is secret in it."""
    if isinstance(value, tuple):
        value = ",".join(value)
    text = str(value)
    if name in _SECRET and text:
        return "********"
    return _PASSWORD_IN_URL.sub(r"\1:********@", text)


def markdown_rows() -> list[str]:
    """The table rows that the README carries: variable, default, meaning."""
    rows = []
    for name, field in Environment.model_fields.items():
        default = shown_value(name, field.get_default(call_default_factory=True))
        shown = f"`{default}`" if default else ""
        rows.append(f"| `{variable_of(name)}` | {shown} | {field.description} |")
    return rows


class Command(BaseCommand):
    help = "Prints every setting with its description and value; secrets are masked."
    requires_system_checks = []

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument(
            "--markdown", action="store_true", help="print the README's table of defaults instead"
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if options["markdown"]:
            self.stdout.write("\n".join(markdown_rows()))
            return
        environment: Environment = settings.ENV
        for name, field in Environment.model_fields.items():
            value = getattr(environment, name)
            mark = "" if value == field.get_default(call_default_factory=True) else "  (set)"
            self.stdout.write(f"{variable_of(name)}={shown_value(name, value)}{mark}")
            self.stdout.write(f"    {field.description}")
