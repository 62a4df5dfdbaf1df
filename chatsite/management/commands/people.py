"""`manage.py people`: users from the command line."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Callable
from typing import Any, Final

from django.core.management.base import BaseCommand, CommandError

from chatsite.accounts import mail
from chatsite.errors import ChatsiteError
from chatsite.management.directory_actions import DirectoryActions
from chatsite.management.people_actions import PeopleActions
from chatsite.management.sign_in_actions import SignInActions

# Each class adds the parsers of its actions, and returns what handles them.
_ACTIONS: Final = (PeopleActions, SignInActions, DirectoryActions)


class Command(BaseCommand):
    help = "Manages users, their roles and groups. Exits with 1 on errors."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")
        for kind in _ACTIONS:
            kind.add_parsers(actions)

    def handle(self, *args: object, **options: Any) -> None:
        actions: dict[str, Callable[..., None]] = {}
        for kind in _ACTIONS:
            actions |= kind(self.stdout).handlers()
        try:
            actions[options["action"]](**options)
        except ChatsiteError as error:
            raise CommandError(str(error)) from error
        if not mail.wait():
            self.stderr.write("A mail is not sent yet; see the log, and: manage.py doctor")
