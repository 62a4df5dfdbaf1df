"""`manage.py people sync`: the check of the directory from the command line."""

from __future__ import annotations

from collections.abc import Callable
from json import dumps
from typing import Any

from django.core.management.base import CommandError, OutputWrapper

from chatsite.accounts.directory import sync


class DirectoryActions:
    """The actions of `people` that ask the directory."""

    def __init__(self, stdout: OutputWrapper) -> None:
        self._stdout = stdout

    @staticmethod
    def add_parsers(actions: Any) -> None:
        syncing = actions.add_parser(
            "sync", help="disable users who left the directory, and enable those who returned"
        )
        syncing.add_argument(
            "--dry-run", action="store_true", help="only report what would be done"
        )
        syncing.add_argument(
            "--force",
            action="store_true",
            help="disable more users than CHATSITE_DIRECTORY_SYNC_MAX_PERCENT allows",
        )
        syncing.add_argument("--json", action="store_true", help="write JSON")

    def handlers(self) -> dict[str, Callable[..., None]]:
        return {"sync": self._sync}

    def _sync(self, *, dry_run: bool, force: bool, json: bool, **_options: Any) -> None:
        report = sync.run(force=force, dry_run=dry_run)
        if json:
            self._stdout.write(dumps(report.as_dict(), indent=2))
        else:
            self._write(report)
        if report.refused:
            raise CommandError(" ".join(report.refused))

    def _write(self, report: sync.Report) -> None:
        would = "would be " if report.dry_run else ""
        for name in report.disabled:
            self._stdout.write(f"{name}: {would}disabled")
        for name in report.enabled:
            self._stdout.write(f"{name}: {would}enabled again")
        for name in report.kept:
            self._stdout.write(f"{name}: left the directory, but is the last administrator")
        for note in report.notes:
            self._stdout.write(note)
        if not report.refused:
            self._stdout.write(
                f"Checked {report.checked} users: {len(report.disabled)} {would}disabled, "
                f"{len(report.enabled)} {would}enabled again."
            )
