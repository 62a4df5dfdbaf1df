"""`manage.py retention`: what expires, what is held, and deletions from the command line."""

from __future__ import annotations

import json
from argparse import ArgumentParser
from collections.abc import Callable
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from chatsite.accounts.models import User
from chatsite.errors import ChatsiteError
from chatsite.retention import deletions, erase, holds, status


class Command(BaseCommand):
    help = "Shows and applies retention periods; deletes accounts. Exits with 1 on errors."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
        showing = actions.add_parser("status", help="show periods, holds and what is due")
        running = actions.add_parser(
            "run", help="purge expired and deleted chats now, and erase their text from files"
        )
        running.add_argument(
            "--dry-run", action="store_true", help="only show what would be purged"
        )
        removing = actions.add_parser(
            "delete-account", help="delete a user with all data; refused under a legal hold"
        )
        removing.add_argument("username", metavar="USERNAME")
        removing.add_argument("--reason", required=True, help="reason for the audit log")
        for one in (showing, running, removing):
            one.add_argument("--json", action="store_true", help="print JSON")

    def handle(self, *args: object, **options: Any) -> None:
        actions: dict[str, Callable[..., None]] = {
            "status": self._status,
            "run": self._run,
            "delete-account": self._delete,
        }
        actions[options["action"]](**options)

    def _status(self, *, json: bool, **_options: Any) -> None:
        found = status.status()
        self._print(found, json=json, lines=found.lines())

    def _run(self, *, dry_run: bool, json: bool, **_options: Any) -> None:
        before = status.status()
        if dry_run:
            self._print(before, json=json, lines=before.lines())
            return
        purged = deletions.purge_expired() + deletions.purge_deleted()
        erase.run(always=True)
        self._print({"purged": purged}, json=json, lines=[f"Conversations purged: {purged}"])

    def _delete(self, *, username: str, reason: str, json: bool, **_options: Any) -> None:
        user = User.objects.filter(username__iexact=username).first()
        if user is None:
            raise CommandError(f"There is no user {username}.")
        try:
            reason = holds.cleaned_reason(reason)
            deletion = deletions.request_account(user, by="manage.py", reason=reason)
        except ChatsiteError as error:
            raise CommandError(str(error)) from error
        deletions.run(deletion.pk)
        deletion.refresh_from_db()
        if deletion.error:
            raise CommandError(str(deletion.error["message"]))
        lines = [f"{name}: {count}" for name, count in deletion.report.items()]
        self._print({"removed": deletion.report}, json=json, lines=lines)

    def _print(self, value: Any, *, json: bool, lines: list[str]) -> None:
        if json:
            self.stdout.write(_json(value))
        else:
            for line in lines:
                self.stdout.write(line)


def _json(value: Any) -> str:
    built = value.as_json() if isinstance(value, status.Status) else value
    return json.dumps(built, indent=1)
