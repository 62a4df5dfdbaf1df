"""`manage.py apikey`: keys for programs, from the command line."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Callable
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from chatsite.accounts import keys
from chatsite.accounts.models import ApiKey, User


class Command(BaseCommand):
    help = "Makes, lists and revokes API keys. Exits with 1 when it can't."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")

        creating = actions.add_parser("create", help="make a key and print it, alone")
        creating.add_argument("username", metavar="USERNAME")
        creating.add_argument("--name", default="", help="what it is for, for people to read")
        creating.add_argument(
            "--scopes",
            default=",".join(keys.ALL_SCOPES),
            help="what it may be used for, separated by commas (default: %(default)s)",
        )
        creating.add_argument("--days", type=int, help="how long it lasts (default: for ever)")

        listing = actions.add_parser("list", help="list keys by how they begin")
        listing.add_argument("username", metavar="USERNAME", nargs="?")

        revoking = actions.add_parser("revoke", help="end a key and its open streams")
        revoking.add_argument("prefix", metavar="PREFIX", help="how it begins, as `list` shows")

    def handle(self, *args: object, **options: Any) -> None:
        actions: dict[str, Callable[..., None]] = {
            "create": self._create,
            "list": self._list,
            "revoke": self._revoke,
        }
        actions[options["action"]](**options)

    def _create(
        self, *, username: str, name: str, scopes: str, days: int | None, **_options: Any
    ) -> None:
        wanted = {scope.strip() for scope in scopes.split(",") if scope.strip()}
        if not wanted or (unknown := wanted - set(keys.ALL_SCOPES)):
            what = f"Unknown scopes: {', '.join(sorted(unknown))}." if wanted else "No scope."
            raise CommandError(f"{what} There are: {', '.join(keys.ALL_SCOPES)}.")
        if days is not None and not 1 <= days <= 36500:
            raise CommandError("--days is between 1 and 36500.")
        owner = _person(username)
        if not owner.is_active:
            raise CommandError(f"{username} is deactivated, so a key would not work.")
        _key, text = keys.create(owner, name=name[:100], scopes=wanted, days=days)
        self.stdout.write(text)

    def _list(self, *, username: str | None, **_options: Any) -> None:
        found = ApiKey.objects.select_related("owner")
        if username is not None:
            found = found.filter(owner=_person(username))
        for key in found:
            state = "revoked" if key.revoked_at else "usable" if key.usable else "expired"
            used = key.last_used_at.date().isoformat() if key.last_used_at else "never used"
            self.stdout.write(
                f"{key.prefix}  {key.owner.username}  {state}  {key.scopes.replace(' ', ',')}  "
                f"{used}  {key.name}".rstrip()
            )

    def _revoke(self, *, prefix: str, **_options: Any) -> None:
        found = list(ApiKey.objects.filter(prefix__startswith=prefix, revoked_at=None)[:2])
        if len(found) != 1:
            what = "No key begins" if not found else "More than one key begins"
            raise CommandError(f"{what} like that; see: manage.py apikey list")
        keys.revoke(found[0])
        self.stdout.write(f"{found[0].prefix} is revoked.")


def _person(username: str) -> User:
    found = User.objects.filter(username__iexact=username).first()
    if found is None:
        raise CommandError(f"There is no {username}. People are made in the administration.")
    return found
