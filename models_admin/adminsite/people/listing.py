"""The list of users: search, filters, order and pages."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from allauth.mfa.models import Authenticator
from django.contrib.auth.models import Group
from django.core.paginator import Page, Paginator
from django.db.models import Exists, F, OuterRef, Q, QuerySet
from django.http import HttpRequest, QueryDict
from django.utils import timezone
from django.utils.functional import Promise
from django.utils.translation import gettext_lazy as _

from chatsite.accounts import second_factor
from chatsite.accounts.models import DirectoryIdentity, SignUp, User
from chatsite.accounts.roles import Role

PER_PAGE: Final = 50
_SEARCH_MOST: Final = 200
_ABSENT: Final = timedelta(days=90)

Users = QuerySet[User]
STATES: Final[Mapping[str, tuple[str | Promise, Callable[[], Q]]]] = {
    "active": (_("Active"), lambda: Q(is_active=True)),
    "deactivated": (_("Deactivated"), lambda: Q(is_active=False, sign_up=None)),
    "waiting": (_("Waiting for approval"), lambda: Q(is_active=False) & ~Q(sign_up=None)),
    "never": (_("Never signed in"), lambda: Q(last_login=None, last_seen_at=None)),
    "absent": (
        _("Not seen for 90 days"),
        lambda: Q(last_seen_at__lt=timezone.now() - _ABSENT, is_active=True),
    ),
}
SOURCES: Final = {"local": _("Local"), **dict(DirectoryIdentity.Source.choices)}
MFA: Final = {"on": _("Two-factor on"), "off": _("Two-factor off")}
# Order of the list by column; a minus reverses it.
_ORDERS: Final = {
    "name": ("username",),
    "email": ("email", "username"),
    "role": ("effective_role", "username"),
    "created": ("date_joined", "username"),
}


@dataclass(frozen=True)
class Filters:
    """What the query string asks for; unknown values count as not given."""

    q: str = ""
    role: str = ""
    group: str = ""
    state: str = ""
    source: str = ""
    mfa: str = ""
    sort: str = "name"

    @classmethod
    def of(cls, query: QueryDict) -> Filters:
        def one(name: str, allowed: Any) -> str:
            value = query.get(name, "")
            return value if value in allowed else ""

        group = query.get("group", "")
        sort = query.get("sort", "")
        return cls(
            q=query.get("q", "").replace("\x00", "").strip()[:_SEARCH_MOST],
            role=one("role", Role.values),
            group=group if group.isascii() and group.isdecimal() and len(group) < 18 else "",
            state=one("state", STATES),
            source=one("source", SOURCES),
            mfa=one("mfa", MFA),
            sort=sort if sort.removeprefix("-") in {*_ORDERS, "seen"} else "name",
        )

    @property
    def any(self) -> bool:
        """Return whether users are left out."""
        return any((self.q, self.role, self.group, self.state, self.source, self.mfa))

    def query(self, **changes: str) -> str:
        """Return the query string of these filters with some changed, without defaults."""
        values = {**vars(self), **changes}
        if values["sort"] == "name":
            values["sort"] = ""
        return query_string(**values)

    def users(self) -> Users:
        """Return the matching users in order, with ``has_mfa``."""
        found = User.objects.all()
        for word in self.q.split()[:8]:
            found = found.filter(
                Q(username__icontains=word)
                | Q(email__icontains=word)
                | Q(first_name__icontains=word)
                | Q(last_name__icontains=word)
            )
        if self.role:
            found = found.filter(effective_role=self.role)
        if self.group:
            found = found.filter(groups=int(self.group))
        if self.state:
            found = found.filter(STATES[self.state][1]())
        if self.source == "local":
            found = found.filter(identities=None)
        elif self.source:
            found = found.filter(identities__source=self.source)
        factors = Authenticator.objects.filter(
            user_id=OuterRef("pk"), type__in=second_factor.FACTORS
        )
        if self.mfa:
            found = found.filter(Exists(factors) if self.mfa == "on" else ~Exists(factors))
        return self._ordered(found.annotate(has_mfa=Exists(factors)))

    def _ordered(self, users: Users) -> Users:
        name, reverse = self.sort.removeprefix("-"), self.sort.startswith("-")
        if name == "seen":
            seen = F("last_seen_at")
            # Users who were never seen are last, whatever the order.
            by = seen.asc(nulls_last=True) if reverse else seen.desc(nulls_last=True)
            return users.order_by(by, "username")
        fields = _ORDERS[name]
        return users.order_by(*(f"-{field}" if reverse else field for field in fields))


@dataclass(frozen=True)
class Column:
    """A heading of the list that sorts it: ``sorted`` is a value of ``aria-sort``."""

    label: str | Promise
    name: str
    address: str
    sorted: str


def columns(filters: Filters) -> list[Column]:
    labels = [
        (_("Name"), "name"),
        (_("Role"), "role"),
        (_("Last seen"), "seen"),
        (_("Created"), "created"),
    ]
    found = []
    for label, name in labels:
        now, reverse = filters.sort.removeprefix("-") == name, filters.sort.startswith("-")
        falling = reverse != (name == "seen")
        found.append(
            Column(
                label,
                name,
                filters.query(sort=f"-{name}" if now and not reverse else name),
                ("descending" if falling else "ascending") if now else "",
            )
        )
    return found


def query_string(**values: str) -> str:
    """Return a query string of the values that are not empty."""
    found = QueryDict(mutable=True)
    for name, value in values.items():
        if value:
            found[name] = value
    return found.urlencode()


def searched(request: HttpRequest) -> str:
    return request.GET.get("q", "").replace("\x00", "").strip()[:_SEARCH_MOST]


def one_page(request: HttpRequest, rows: QuerySet[Any], per_page: int = PER_PAGE) -> Page[Any]:
    """Return the page of ``?page=``, the nearest one if it does not exist."""
    return Paginator(rows, per_page).get_page(request.GET.get("page"))


def decorated(users: Users) -> Users:
    """Return users with what a row of the list shows, in a fixed number of queries."""
    return users.select_related("sign_up").prefetch_related("groups", "identities")


def choices() -> dict[str, Any]:
    """Return the values of the filters for the form."""
    return {
        "roles": Role.choices,
        "groups": list(Group.objects.order_by("name").values_list("pk", "name")),
        "states": [(name, label) for name, (label, _condition) in STATES.items()],
        "sources": list(SOURCES.items()),
        "mfa_states": list(MFA.items()),
    }


def waiting() -> int:
    """Return how many sign-ups wait for an administrator."""
    return SignUp.objects.filter(waiting_for=SignUp.Waiting.APPROVAL).count()
