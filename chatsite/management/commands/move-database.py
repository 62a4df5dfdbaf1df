"""`manage.py move-database`: copy the data into another database."""  # noqa: N999

from __future__ import annotations

from argparse import ArgumentParser
from typing import Any

from django.core.management.base import BaseCommand

from chatsite.backup import move
from chatsite.management.reporting import reported


class Command(BaseCommand):
    help = (
        "Copies all data from the database of the settings into an empty one, from SQLite to "
        "PostgreSQL or back, while the site is stopped, and compares every row. The source stays "
        "as it is. A killed copy continues when the command is repeated. Exits with 1 on errors."
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument(
            "url",
            metavar="URL",
            help="postgres://user:password@host/name, sqlite:///PATH, or sqlite for the file in "
            "the data folder",
        )
        parser.add_argument(
            "--restart", action="store_true", help="begin again with the rows of a killed copy"
        )

    def handle(self, *args: object, **options: Any) -> None:
        with reported() as line:
            done = move.move(options["url"], restart=options["restart"], progress=line.say)
        self.stdout.write(
            f"Copied and compared {done.rows} rows of {done.tables} tables in {done.seconds:.1f} s."
        )
        if done.changed:
            self.stdout.write(
                f"{done.changed} rows had characters that PostgreSQL can't store; they are now "
                "U+FFFD."
            )
        if done.url:
            self.stdout.write(
                "Use it: set DATABASE_URL to the address that you gave, for every process of the "
                "site, then start the site."
            )
        else:
            self.stdout.write("Use it: unset DATABASE_URL, then start the site.")
