"""`manage.py maintenance`: let running answers finish and refuse new requests."""

from __future__ import annotations

import argparse
import time
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser

from chatsite.answers.gate import open_answers
from chatsite.site_settings import current
from chatsite.site_settings.cache import LIFETIME
from chatsite.site_settings.save import save

POLL_SECONDS = 1.0


class Command(BaseCommand):
    help = (
        "Turns maintenance mode on or off, or prints its state. While it is on, new requests are "
        "refused on the page and in the APIs, running answers finish, and administrators can still "
        "use the site."
    )

    def add_arguments(self, parser: CommandParser) -> None:
        parser.add_argument("action", choices=["on", "off", "status"])
        parser.add_argument("--message", help="with on: text for users, at most 300 characters")
        parser.add_argument(
            "--wait",
            type=_seconds,
            default=0.0,
            metavar="SECONDS",
            help="with on: wait until no answer is queued or running, at most so long; the exit "
            "code is 1 if some are left",
        )

    def handle(self, *args: Any, **options: Any) -> None:
        if options["action"] != "status":
            changes: dict[str, Any] = {"maintenance": options["action"] == "on"}
            if options["message"] is not None:
                changes["maintenance_text"] = options["message"]
            try:
                save(changes, via="cli")
            except ValidationError as error:
                raise CommandError(" ".join(error.messages)) from error
            if options["action"] == "on" and options["wait"]:
                self._drain(options["wait"])
        state = "on" if current().maintenance else "off"
        self.stdout.write(f"Maintenance mode is {state}. Open answers: {open_answers()}")

    def _drain(self, seconds: float) -> None:
        # Until then other processes may admit requests.
        deadline = time.monotonic() + seconds
        time.sleep(min(LIFETIME, seconds))
        while left := open_answers():
            if time.monotonic() >= deadline:
                raise CommandError(f"Maintenance mode is on. Answers still open: {left}")
            time.sleep(POLL_SECONDS)


def _seconds(text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = -1.0
    if not 0 <= value <= 86_400:
        raise argparse.ArgumentTypeError("must be a number of seconds from 0 to 86400")
    return value
