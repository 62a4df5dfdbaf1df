"""`manage.py people invite`, `sign-ups` and `reset-mfa`."""

from __future__ import annotations

from argparse import _SubParsersAction
from collections.abc import Callable
from typing import Any

from django.contrib.auth.models import Group
from django.core.exceptions import ValidationError
from django.core.management.base import CommandError, OutputWrapper

from chatsite.accounts import invitations, lookup, second_factor, signup
from chatsite.accounts.models import User
from chatsite.accounts.roles import Role


class SignInActions:
    def __init__(self, stdout: OutputWrapper) -> None:
        self.stdout = stdout

    @staticmethod
    def add_parsers(actions: _SubParsersAction[Any]) -> None:
        inviting = actions.add_parser("invite", help="create an invitation and print its link")
        inviting.add_argument("email", metavar="EMAIL", nargs="?", default="")
        inviting.add_argument("--username", default="", help="username to prefill")
        inviting.add_argument("--first-name", default="")
        inviting.add_argument("--last-name", default="")
        inviting.add_argument("--role", choices=Role.values, default=Role.USER)
        inviting.add_argument(
            "--group", action="append", default=[], dest="groups", help="may be repeated"
        )
        inviting.add_argument(
            "--days", type=int, default=invitations.DAYS, help="days until it expires"
        )
        inviting.add_argument("--send", action="store_true", help="send it by mail")

        signing_up = actions.add_parser("sign-ups", help="list, approve or refuse sign-ups")
        signing_up.add_argument("--approve", metavar="USERNAME")
        signing_up.add_argument("--refuse", metavar="USERNAME")

        factor = actions.add_parser("reset-mfa", help="remove the second factors of a user")
        factor.add_argument("username", metavar="USERNAME")

    def handlers(self) -> dict[str, Callable[..., None]]:
        return {
            "invite": self._invite,
            "sign-ups": self._sign_ups,
            "reset-mfa": self._reset_mfa,
        }

    def _invite(self, *, groups: list[str], send: bool, **options: Any) -> None:
        found = list(Group.objects.filter(name__in=groups))
        if missing := set(groups) - {group.name for group in found}:
            raise CommandError(f"There is no group {', '.join(sorted(missing))}.")
        values = {
            name: options[name]
            for name in ("email", "username", "first_name", "last_name", "role", "days")
        }
        try:
            invitation, url = invitations.create(by=None, groups=found, via="cli", **values)
        except ValidationError as error:
            raise CommandError(" ".join(error.messages)) from None
        self.stdout.write(url)
        if send and (problem := invitations.send(invitation, url)):
            raise CommandError(f"The invitation was not sent: {problem} Pass the link on yourself.")

    def _sign_ups(self, *, approve: str | None, refuse: str | None, **_options: Any) -> None:
        for name, decide in ((approve, signup.approve), (refuse, signup.refuse)):
            if name and not decide(_user(name), by=None, via="cli"):
                raise CommandError(f"{name} does not wait for approval.")
        if not approve and not refuse:
            for one in signup.pending():
                self.stdout.write(
                    f"{one.created_at:%Y-%m-%d %H:%M}  {one.user.username}  {one.user.email}"
                )

    def _reset_mfa(self, *, username: str, **_options: Any) -> None:
        user = _user(username)
        count = second_factor.reset(user, by=None, via="cli")
        self.stdout.write(f"{count} second factors of {user.username} were removed.")


def _user(name: str) -> User:
    if (user := lookup.find(name)) is None:
        raise CommandError(f"There is no user {name}.")
    return user
