"""The stranger table: who gets which answer from each URL, socket command and API call.

Each module of `rows` has a list ``ROWS`` and, where its routes need objects, a dictionary ``FACTS``
of functions that make one: ``{name: function(World) -> value}``. To add a route, add its row to the
module of its part. `test_complete.py` fails for a route without a row, `test_pages.py`,
`test_api.py` and `test_sockets.py` compare the answers.
"""

from __future__ import annotations

import importlib
import json
import pkgutil
import re
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, Final

from django.urls import URLPattern, URLResolver, get_resolver

from chatsite.accounts.models import User
from chatsite.accounts.roles import Role

# The answer to a page request that ends at the sign-in page.
SIGN_IN: Final = "sign in"
Answer = int | str


@dataclass(frozen=True)
class Row:
    """A route and the answers that it gives.

    ``route`` is the pattern as `routes` yields it. ``args`` names the fact behind each of its
    parameters; ``query`` and ``json`` name facts as ``$name``. ``owner`` is the answer for the
    owner of the objects, ``other`` for another user, ``out`` for everybody without a valid session
    or key: signed out, deactivated, expired, revoked. ``feature`` is the feature of the policy
    without which the owner gets ``denied``.
    """

    route: str
    method: str = "GET"
    args: Mapping[str, str] = field(default_factory=dict)
    # The path, where ``route`` is a regular expression.
    path: str = ""
    query: str = ""
    json: Any = None
    form: Mapping[str, Any] | None = None
    owner: Answer = 200
    other: Answer = 404
    out: Answer = SIGN_IN
    feature: str = ""
    denied: Answer = 403
    # Rows of the administration: the roles besides administrator that get the owner's answer. The
    # others get ``other``, or ``staff`` if it differs. None for all other routes.
    roles: tuple[Role, ...] | None = None
    staff: Answer | None = None
    # False for routes that share the access check of others: they are tried signed out only.
    each_end: bool = True
    # The scope of API calls; "" for none. None for pages.
    scope: str | None = None

    def __str__(self) -> str:
        return f"{self.method} /{self.route}"


def public(route: str, method: str = "GET", status: Answer = 200, **values: Any) -> Row:
    """Return the row of a page that answers everybody alike."""
    return Row(route, method, owner=status, other=status, out=status, **values)


def signed_in(route: str, method: str = "GET", status: Answer = 200, **values: Any) -> Row:
    """Return the row of a page that shows each signed-in user only what is their own."""
    return Row(route, method, owner=status, other=status, **values)


def own(route: str, method: str = "GET", status: Answer = 200, **values: Any) -> Row:
    """Return the row of a page of one object, which is missing for other users."""
    return Row(route, method, owner=status, **values)


def data(row: Row) -> Row:
    """Return the row of a JSON endpoint: 401 instead of the sign-in page."""
    return replace(row, out=401)


def admin(
    route: str, method: str = "GET", *roles: Role, status: Answer = 200, **values: Any
) -> Row:
    """Return the row of the administration for administrators and ``roles``."""
    values = {"other": 403, **values}
    return Row(f"admin/{route}", method, owner=status, roles=roles, **values)


def api(route: str, method: str, scope: str, status: Answer = 200, **values: Any) -> Row:
    """Return the row of an API call that any user may make with a key of ``scope``."""
    values = {"other": status, "feature": "api", **values}
    return Row(route, method, owner=status, out=401, scope=scope, **values)


class World:
    """The users and objects of the table. ``owner`` has the objects, ``root`` administrates."""

    def __init__(self) -> None:
        self.owner = User.objects.create_user("owner", password="x")
        self.other = User.objects.create_user("other", password="x")
        self.deactivated = User.objects.create_user("deactivated", password="x")
        self.root = User.objects.create_superuser("root", password="x")
        self.manager = User.objects.create_user("manager", role=Role.MODEL_MANAGER)
        self.auditor = User.objects.create_user("auditor", role=Role.AUDITOR)
        self._made: dict[str, Any] = {}

    @cached_property
    def missing(self) -> Mapping[str, str]:
        """Return values of parameters that no object has, by converter."""
        return {
            "uuid": "00000000-0000-4000-8000-000000000000",
            "int": "999999999",
            "str": "missing",
            "path": "999999999",
            "slug": "missing",
        }

    def fact(self, name: str) -> Any:
        if name not in self._made:
            self._made[name] = facts()[name](self)
        return self._made[name]

    def path(self, row: Row, *, missing: bool = False) -> str:
        """Return the URL of a row; with ``missing`` of an object that does not exist."""
        path = row.path or row.route
        for name, fact in row.args.items():
            for kind in self.missing:
                value = self.missing[kind] if missing else str(self.fact(fact))
                path = path.replace(f"<{kind}:{name}>", value)
                path = path.replace(f"<{name}>", value)
        assert "<" not in path, f"{row}: a parameter has no fact"
        query = re.sub(r"\$(\w+)", lambda found: str(self.fact(found[1])), row.query)
        return f"/{path}{query}"

    def body(self, value: Any, *, missing: bool = False) -> bytes:
        """Return a JSON body. Strings ``$name`` in it are facts that are UUIDs."""
        text = json.dumps(value)
        for name in re.findall(r'"\$(\w+)"', text):
            filled = self.missing["uuid"] if missing else str(self.fact(name))
            text = text.replace(f'"${name}"', f'"{filled}"')
        return text.encode()


def _modules() -> Iterator[Any]:
    from tests.integration.web.strangers import rows

    for found in pkgutil.iter_modules(rows.__path__):
        yield importlib.import_module(f"{rows.__name__}.{found.name}")


def rows() -> list[Row]:
    return [row for module in _modules() for row in module.ROWS]


def facts() -> dict[str, Callable[[World], Any]]:
    made: dict[str, Callable[[World], Any]] = {}
    for module in _modules():
        for name, fact in getattr(module, "FACTS", {}).items():
            assert name not in made, f"two facts are named {name}"
            made[name] = fact
    return made


def routes() -> list[str]:
    """Return the patterns of all URLs, as in ``c/<uuid:id>/``."""

    def walk(patterns: Any, prefix: str) -> Iterator[str]:
        for pattern in patterns:
            if isinstance(pattern, URLResolver):
                yield from walk(pattern.url_patterns, prefix + str(pattern.pattern))
            else:
                assert isinstance(pattern, URLPattern)
                # Django lists the apps that have models in the administration.
                yield prefix + re.sub(r"(<app_label>)[^)]+", r"\1…", str(pattern.pattern))

    return list(dict.fromkeys(walk(get_resolver().url_patterns, "")))
