"""`manage.py people`: users, their roles and groups from the command line."""

from __future__ import annotations

import json as json_module
from collections.abc import Callable
from typing import Any, Final

from django.contrib.auth.models import Group
from django.core.exceptions import ValidationError
from django.core.management.base import CommandError, OutputWrapper

from chatsite.accounts import links, lookup, people
from chatsite.accounts.models import GroupProfile, User
from chatsite.accounts.roles import Role

CLI: Final = people.Actor(via="cli")
_ROLES: Final = [str(role) for role in Role]


class PeopleActions:
    """Actions on users and groups."""

    def __init__(self, stdout: OutputWrapper) -> None:
        self._out = stdout

    @staticmethod
    def add_parsers(actions: Any) -> None:
        listing = actions.add_parser("list", help="list users")
        listing.add_argument("--role", choices=_ROLES, help="only users with this effective role")
        listing.add_argument("--group", metavar="GROUP", help="only members of this group")
        listing.add_argument("--disabled", action="store_true", help="only deactivated users")
        _add_json(listing)

        showing = actions.add_parser("show", help="show a user")
        showing.add_argument("username", metavar="USERNAME", help="username or email address")
        _add_json(showing)

        creating = actions.add_parser(
            "create", help="create a user and print a link by which they choose a password"
        )
        creating.add_argument("username", metavar="USERNAME")
        creating.add_argument("--email", default="", metavar="ADDRESS")
        creating.add_argument("--role", choices=_ROLES, default=str(Role.USER))
        creating.add_argument("--group", action="append", default=[], dest="groups")

        for action, words in (
            ("disable", "deactivate users and end their sessions"),
            ("enable", "activate users"),
        ):
            parser = actions.add_parser(action, help=words)
            parser.add_argument("usernames", metavar="USERNAME", nargs="+")
            _add_json(parser)

        ranking = actions.add_parser("role", help="show or set the role of a user")
        ranking.add_argument("username", metavar="USERNAME")
        ranking.add_argument("role", metavar="ROLE", nargs="?", help=", ".join(_ROLES))
        _add_json(ranking)

        grouping = actions.add_parser("groups", help="list groups, or change those of a user")
        grouping.add_argument("username", metavar="USERNAME", nargs="?")
        grouping.add_argument("--add", metavar="GROUP", action="append", default=[])
        grouping.add_argument("--remove", metavar="GROUP", action="append", default=[])
        grouping.add_argument("--create", metavar="GROUP", help="create a group")
        grouping.add_argument(
            "--role", choices=_ROLES, help="with --create: the role of the members"
        )
        _add_json(grouping)

        resetting = actions.add_parser(
            "reset-password", help="print a link by which a user chooses a new password"
        )
        resetting.add_argument("username", metavar="USERNAME")

    def handlers(self) -> dict[str, Callable[..., None]]:
        return {
            "list": self._list,
            "show": self._show,
            "create": self._create,
            "disable": self._disable,
            "enable": self._enable,
            "role": self._role,
            "groups": self._groups,
            "reset-password": self._reset_password,
        }

    def _list(
        self, *, role: str | None, group: str | None, disabled: bool, json: bool, **_options: Any
    ) -> None:
        found = User.objects.prefetch_related("groups").order_by("username")
        if role:
            found = found.filter(effective_role=role)
        if group:
            found = found.filter(groups=_group(group))
        if disabled:
            found = found.filter(is_active=False)
        rows = [_as_dict(user) for user in found]
        if json:
            self._write_json(rows)
            return
        for row in rows:
            state = "" if row["active"] else "  deactivated"
            seen = f"  last seen {row['last_seen'][:10]}" if row["last_seen"] else "  never seen"
            self._out.write(f"{row['username']}  {row['role']}{state}{seen}")
        if not rows:
            self._out.write("No users.")

    def _show(self, *, username: str, json: bool, **_options: Any) -> None:
        user = find(username)
        row = _as_dict(user)
        row["keys"] = user.api_keys.filter(revoked_at=None).count()
        if json:
            self._write_json(row)
            return
        for name, value in row.items():
            shown = ", ".join(value) if isinstance(value, list) else value
            self._out.write(f"{name.replace('_', ' ')}: {'-' if shown in ('', None) else shown}")

    def _create(
        self, *, username: str, email: str, role: str, groups: list[str], **_options: Any
    ) -> None:
        members_of = [_group(name) for name in groups]
        try:
            user = people.create(CLI, username=username, email=email, role=role, groups=members_of)
        except ValidationError as error:
            raise CommandError(" ".join(error.messages)) from None
        self._out.write(links.password_link(user, by=None, via="cli"))

    def _disable(self, *, usernames: list[str], json: bool, **_options: Any) -> None:
        users = [find(name) for name in usernames]
        people.deactivate(CLI, users)
        self._report(users, "deactivated", json=json)

    def _enable(self, *, usernames: list[str], json: bool, **_options: Any) -> None:
        users = [find(name) for name in usernames]
        people.activate(CLI, users)
        self._report(users, "active", json=json)

    def _role(self, *, username: str, role: str | None, json: bool, **_options: Any) -> None:
        user = find(username)
        if role is not None:
            if role not in _ROLES:
                raise CommandError(f"There is no role {role}. Choose from: {', '.join(_ROLES)}.")
            people.set_role(CLI, [user], role)
        if json:
            self._write_json(_as_dict(user))
            return
        through = "" if user.effective_role == user.role else f" (own role: {user.role})"
        self._out.write(f"{user.username}: {user.effective_role}{through}")

    def _groups(
        self,
        *,
        username: str | None,
        add: list[str],
        remove: list[str],
        create: str | None,
        role: str | None,
        json: bool,
        **_options: Any,
    ) -> None:
        if create is not None:
            people.create_group(CLI, create, role=role or Role.USER)
        if username is None:
            if add or remove:
                raise CommandError("Name the user whose groups are to change.")
            self._write_groups(json=json)
            return
        user = find(username)
        wanted = [(_group(name), people.add_members) for name in add]
        wanted += [(_group(name), people.remove_members) for name in remove]
        for group, change in wanted:
            change(CLI, group, [user])
        user.refresh_from_db()
        if json:
            self._write_json(_as_dict(user))
            return
        names = ", ".join(group.name for group in user.groups.order_by("name"))
        self._out.write(f"{user.username}: {names or 'no groups'}")

    def _write_groups(self, *, json: bool) -> None:
        rows = []
        for group in Group.objects.order_by("name"):
            profile = people.profile_of(group)
            rows.append(
                {
                    "name": group.name,
                    "role": profile.role,
                    "source": profile.source,
                    "members": group.user_set.count(),
                }
            )
        if json:
            self._write_json(rows)
            return
        for row in rows:
            source = "  directory" if row["source"] == GroupProfile.Source.DIRECTORY else ""
            self._out.write(f"{row['name']}  {row['role']}  members: {row['members']}{source}")
        if not rows:
            self._out.write("No groups.")

    def _reset_password(self, *, username: str, **_options: Any) -> None:
        user = find(username)
        if not user.is_active:
            raise CommandError(
                f"{user.username} is deactivated. Activate the user first: "
                f"manage.py people enable {user.username}"
            )
        self._out.write(links.password_link(user, by=None, via="cli"))

    def _report(self, users: list[User], state: str, *, json: bool) -> None:
        if json:
            self._write_json([_as_dict(user) for user in users])
            return
        for user in users:
            self._out.write(f"{user.username}: {state}")

    def _write_json(self, value: object) -> None:
        self._out.write(json_module.dumps(value, indent=2))


def find(name: str) -> User:
    """Return the user with this username or email address. Raises `CommandError`."""
    found = lookup.find(name)
    if found is None:
        raise CommandError(f"There is no user {name}. See: manage.py people list")
    return found


def _group(name: str) -> Group:
    found = Group.objects.filter(name__iexact=name).first()
    if found is None:
        raise CommandError(f"There is no group {name}. See: manage.py people groups")
    return found


def _add_json(parser: Any) -> None:
    parser.add_argument("--json", action="store_true", help="write JSON")


def _as_dict(user: User) -> dict[str, Any]:
    return {
        "username": user.username,
        "name": user.get_full_name(),
        "email": user.email,
        "role": user.effective_role,
        "own_role": user.role,
        "groups": sorted(group.name for group in user.groups.all()),
        "active": user.is_active,
        "created": user.date_joined.isoformat(),
        "last_seen": user.last_seen_at.isoformat() if user.last_seen_at else None,
    }
