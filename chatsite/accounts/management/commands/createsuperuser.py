"""Django's own `createsuperuser`, for which an e-mail address is optional here."""

from __future__ import annotations

from django.contrib.auth.management.commands import createsuperuser
from django.core.management.base import CommandError, CommandParser
from django.db import IntegrityError
from django.utils.translation import gettext as _


class Command(createsuperuser.Command):
    """People sign in by username and the product sends no mail, so neither `--noinput` nor the
    prompts ask for an address; `--email` and DJANGO_SUPERUSER_EMAIL still set one."""

    def add_arguments(self, parser: CommandParser) -> None:
        super().add_arguments(parser)
        parser.set_defaults(email="")

    def handle(self, *args: object, **options: object) -> str | None:
        try:
            return super().handle(*args, **options)
        except IntegrityError:
            # Django's own check of the name minds case, the table does not.
            raise CommandError(_("There is a person of this name already.")) from None
