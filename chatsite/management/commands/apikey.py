"""`manage.py apikey`: API keys from the command line."""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Callable
from typing import Any

from django.core.management.base import BaseCommand, CommandError

from chatsite.accounts import keys
from chatsite.accounts.models import ApiKey, User
from chatsite.audit.record import record
from chatsite.policy.decisions import NotAllowed


class Command(BaseCommand):
    help = "Creates, lists and revokes API keys. Exits with 1 on errors."
    requires_system_checks: list[str] = []

    def add_arguments(self, parser: ArgumentParser) -> None:
        actions = parser.add_subparsers(dest="action", required=True, metavar="ACTION")

        creating = actions.add_parser("create", help="create a key and print it")
        creating.add_argument("username", metavar="USERNAME")
        creating.add_argument("--name", default="", help="purpose of the key, for users to read")
        creating.add_argument(
            "--scopes",
            default=",".join(keys.DEFAULT_SCOPES),
            help=f"comma-separated scopes: {', '.join(keys.ALL_SCOPES)} (default: %(default)s)",
        )
        creating.add_argument(
            "--days", type=int, help="days until the key expires (default: never)"
        )

        listing = actions.add_parser("list", help="list keys by their prefix")
        listing.add_argument("username", metavar="USERNAME", nargs="?")

        revoking = actions.add_parser("revoke", help="revoke a key and end its open streams")
        revoking.add_argument(
            "prefix", metavar="PREFIX", help="prefix of the key, as `list` shows it"
        )

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
            raise CommandError(f"{what} Choose from: {', '.join(keys.ALL_SCOPES)}.")
        if days is not None and not 1 <= days <= 36500:
            raise CommandError("--days must be between 1 and 36500.")
        owner = _person(username)
        if not owner.is_active:
            raise CommandError(f"{username} is deactivated, so a key would not work.")
        try:
            key, text = keys.create(owner, name=name[:100], scopes=wanted, days=days)
        except NotAllowed:
            raise CommandError(
                f"A rule denies {username} the API; see: manage.py policy explain {username}"
            ) from None
        record(
            "key.created",
            via="cli",
            target=("key", str(key.pk), key.prefix),
            owner=owner.get_username(),
            name=key.name,
            scopes=key.scopes.split(),
            days=days,
        )
        self.stdout.write(text)

    def _list(self, *, username: str | None, **_options: Any) -> None:
        found = ApiKey.objects.select_related("owner")
        if username is not None:
            found = found.of(_person(username))
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
            what = "No key has" if not found else "More than one key has"
            raise CommandError(f"{what} this prefix; see: manage.py apikey list")
        keys.revoke(found[0])
        record(
            "key.revoked",
            via="cli",
            target=("key", str(found[0].pk), found[0].prefix),
            owner=found[0].owner.get_username(),
        )
        self.stdout.write(f"{found[0].prefix} was revoked.")


def _person(username: str) -> User:
    found = User.objects.filter(username__iexact=username).first()
    if found is None:
        raise CommandError(f"There is no user {username}. Create users in the administration.")
    return found
