"""Django's `createsuperuser` without a required e-mail address."""

from __future__ import annotations

from django.contrib.auth.management.commands import createsuperuser
from django.core.management.base import CommandError, CommandParser
from django.db import IntegrityError
from django.utils.translation import gettext as _


class Command(createsuperuser.Command):
    """Does not require an e-mail address, since users sign in by username.

    Neither `--noinput` nor the prompts ask for one; `--email` and DJANGO_SUPERUSER_EMAIL still set
    it.
    """

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.set_defaults(email="")

    def handle(self, *args: object, **options: object) -> str | None:
        try:
            return super().handle(*args, **options)
        except IntegrityError:
            # Django's check of the name is case-sensitive, the table's constraint is not.
            raise CommandError(_("That username is already taken.")) from None
