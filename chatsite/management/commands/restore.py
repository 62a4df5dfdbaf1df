"""`manage.py restore`: restore a backup."""

from __future__ import annotations

from argparse import ArgumentParser
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from chatsite.backup import restore
from chatsite.backup.archive import Model
from chatsite.management.reporting import reported


class Command(BaseCommand):
    help = (
        "Restores a backup into the data folder and the database of the settings, while the site "
        "is stopped. Verifies it before anything is changed, and applies newer migrations. Exits "
        "with 1 on errors."
    )
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        parser.add_argument("file", type=Path, nargs="?", metavar="FILE", help="the backup")
        parser.add_argument(
            "--force",
            action="store_true",
            help="replace existing users and conversations, which are moved aside",
        )
        parser.add_argument(
            "--pull",
            action="store_true",
            help="have missing models downloaded again when the site runs",
        )
        parser.add_argument(
            "--resume", action="store_true", help="complete a restore that was interrupted"
        )

    def handle(self, *args: object, **options: Any) -> None:
        if options["resume"]:
            with reported():
                aside = restore.resume()
            self._say_aside(aside)
            self.stdout.write("The restore is complete. Start the site, then: manage.py doctor")
            return
        if options["file"] is None:
            raise CommandError("Name the backup: manage.py restore FILE")
        with reported() as line:
            done = restore.restore(options["file"], force=options["force"], progress=line.say)
        loaded = done.loaded
        self.stdout.write(
            f"Restored {loaded.rows} rows of {done.manifest.created_at}, "
            f"version {done.manifest.version}."
        )
        if loaded.migrated:
            self.stdout.write(f"Applied {loaded.migrated} newer migrations.")
        if loaded.interrupted:
            self.stdout.write(
                f"Open answers that are now marked as interrupted: {loaded.interrupted}."
            )
        if loaded.changed:
            self.stdout.write(
                "Rows with characters that PostgreSQL can't store, which are now U+FFFD: "
                f"{loaded.changed}."
            )
        if loaded.audit_problem:
            self.stdout.write(f"The audit log is not intact: {loaded.audit_problem}")
        else:
            self.stdout.write(f"The audit log is intact: {loaded.audit_events} events.")
        self._say_aside(done.aside)
        if done.stale_redis:
            self.stdout.write(
                "Redis is not responding. Delete the site's keys in it before the start: they "
                "belong to another state of the database."
            )
        self._say_missing(done.missing, options["pull"])
        self.stdout.write("Start the site, then: manage.py doctor")

    def _say_aside(self, aside: str) -> None:
        if aside:
            self.stdout.write(f"The previous data is in {aside}. Delete it when it is not needed.")

    def _say_missing(self, missing: list[Model], pull: bool) -> None:
        if pull:
            for text in restore.pull(missing):
                self.stdout.write(text)
        for model in missing:
            names = ", ".join(model.names) or model.digest[:12]
            if not model.origin:
                self.stdout.write(f"Model file missing: {names}. Import it again.")
            elif not pull:
                self.stdout.write(
                    f"Model file missing: {names}. Run: manage.py models pull {model.origin}"
                )
