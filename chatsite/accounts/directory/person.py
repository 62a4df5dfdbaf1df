"""What a directory knows of a user, in one form for all kinds of directories."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from django.utils.translation import gettext_lazy as _

from chatsite.errors import ChatsiteError


@dataclass(frozen=True)
class DirectoryGroup:
    """A group of a directory. ``also`` are other names that settings may use for it, such as DNs.

    ``external_id`` is unique within its directory.
    """

    external_id: str
    name: str
    also: tuple[str, ...] = ()

    def matches(self, name: str) -> bool:
        wanted = name.casefold()
        return any(wanted == own.casefold() for own in (self.name, *self.also))


@dataclass(frozen=True)
class Person:
    """A user of a directory. ``groups`` is None if the directory did not say."""

    source: str
    external_id: str
    username: str
    email: str = ""
    email_verified: bool = False
    first_name: str = ""
    last_name: str = ""
    groups: tuple[DirectoryGroup, ...] | None = field(default=())


class SignInRefused(ChatsiteError):
    """The directory knows the user, but the user may not sign in here."""

    code = "sign_in_refused"
    status = 403
    message = _("Your account may not sign in here. Ask an administrator.")


class DirectoryUnavailable(ChatsiteError):
    """The directory does not answer, or not as it should."""

    code = "directory_unavailable"
    status = 503
    permanent = False
    message = _(
        "The directory of your organization is not responding. Try again in a moment. Local "
        "accounts can still sign in."
    )


def role_of(group: DirectoryGroup, roles: Iterable[tuple[str, str]]) -> str:
    """Return the role that the settings give to a group; "user" if none."""
    return next((role for name, role in roles if group.matches(name)), "user")
