"""Each page answers its owner, other users, roles and people without a session as the table says.

A refused request must not write anything, and the answer about an object of another user must be
the same as about one that does not exist.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from typing import Any

import pytest
from django.core.signals import request_finished
from django.db import close_old_connections, connection, transaction
from django.http import HttpResponseBase
from django.test import Client
from django.utils import timezone

from chatsite.accounts.models import User
from chatsite.accounts.roles import Role
from chatsite.hosts import status
from tests.integration.web.strangers import table
from tests.integration.web.strangers.table import SIGN_IN, Answer, Row, World

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("data_dir")]

# Tables that a refused request may write to: its session, and the record of the
# refusal.
_MAY_WRITE = ("django_session", "accounts_usersession", "audit_")


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch, settings: Any) -> Iterator[World]:
    """Yield the users. Redis is not needed, and would keep a connection per request."""
    settings.REDIS_URL = "unix:///nowhere/redis.sock"
    monkeypatch.setattr(status, "ask_from_thread", list)
    # A record with a traceback for each refusal takes longer than the refusal.
    logging.disable()
    yield World()
    logging.disable(logging.NOTSET)


class Persona:
    """A browser. ``expects`` chooses the column of the table; ``ended``: its session has ended."""

    def __init__(
        self,
        name: str,
        expects: Callable[[Row], Answer],
        user: User | None,
        *,
        ended: bool = False,
    ) -> None:
        self.name, self.expects, self.ended = name, expects, ended
        self._client = Client(raise_request_exception=False)
        if user is not None:
            self._client.force_login(user)
        self.session = self._client.session
        self._cookies = self._client.cookies.output(header="", sep=";")

    def browser(self) -> Client:
        """Return the client with the cookies after sign-in: each request starts from there."""
        self._client.cookies.clear()
        self._client.cookies.load(self._cookies)
        return self._client

    def answer(self, row: Row, world: World, *, missing: bool = False) -> HttpResponseBase:
        path = world.path(row, missing=missing)
        options: dict[str, Any] = {}
        if row.json is not None:
            body = world.body(row.json, missing=missing)
            options = {"data": body, "content_type": "application/json"}
        elif row.form is not None:
            options = {"data": row.form}
        response = getattr(self.browser(), row.method.lower())(path, **options)
        # Closes files; the connection is the test's, which must stay open.
        request_finished.disconnect(close_old_connections)
        try:
            response.close()
        finally:
            request_finished.connect(close_old_connections)
        return response

    def outcome(self, row: Row, world: World) -> Answer:
        """Return the status of the answer, or `SIGN_IN` if it ends there.

        The administration redirects users without permission to its sign-in page, which decides.
        """
        response = self.answer(row, world)
        for _hop in range(2):
            location = response.headers.get("Location", "")
            if location.startswith("/accounts/login/"):
                return SIGN_IN
            if not location.startswith("/admin/login/"):
                break
            response = self.browser().get(location)
        return response.status_code


def personas(world: World) -> list[Persona]:
    expired = Persona("expired session", lambda row: row.out, world.owner, ended=True)
    expired.session.set_expiry(timezone.now() - timedelta(seconds=1))
    expired.session.save()
    deactivated = Persona("deactivated", lambda row: row.out, world.deactivated, ended=True)
    User.objects.filter(pk=world.deactivated.pk).update(is_active=False)
    return [
        Persona("signed out", lambda row: row.out, None),
        deactivated,
        expired,
        Persona("other user", lambda row: row.other, world.other),
    ]


def of_roles(world: World) -> list[Persona]:
    def expects(role: Role) -> Callable[[Row], Answer]:
        def expected(row: Row) -> Answer:
            if row.roles and role in row.roles:
                return row.owner
            return row.other if row.staff is None else row.staff

        return expected

    return [
        Persona("model manager", expects(Role.MODEL_MANAGER), world.manager),
        Persona("auditor", expects(Role.AUDITOR), world.auditor),
    ]


@contextmanager
def writes() -> Iterator[list[str]]:
    """Yield the statements that change tables in this block."""
    found: list[str] = []

    def watch(execute: Any, sql: str, params: Any, many: bool, context: Any) -> Any:
        result = execute(sql, params, many, context)
        if (
            sql.startswith(("INSERT", "UPDATE", "DELETE"))
            and context["cursor"].rowcount > 0
            and not any(f'"{name}' in sql for name in _MAY_WRITE)
        ):
            found.append(sql[:200])
        return result

    with connection.execute_wrapper(watch):
        yield found


class _Undone(Exception):
    pass


def undone(work: Callable[[], Any]) -> Any:
    """Return the result of ``work``, whose changes are rolled back."""
    result = None
    try:
        with transaction.atomic():
            result = work()
            raise _Undone
    except _Undone:
        return result


def check(row: Row, persona: Persona, world: World) -> str:
    """Return what is wrong about the answer, or ""."""
    wanted = persona.expects(row)
    with writes() as written:
        got = undone(lambda: persona.outcome(row, world))
    if got != wanted:
        return f"{row} for {persona.name}: {got} instead of {wanted}"
    refused = got == SIGN_IN or (isinstance(got, int) and got >= 400)
    if refused and written:
        return f"{row} for {persona.name}: refused, and wrote {written}"
    return ""


def check_like_missing(row: Row, other: Persona, world: World) -> str:
    """Return what is wrong if the answer tells that the object of another user exists."""
    own = undone(lambda: other.answer(row, world, missing=False))
    none = undone(lambda: other.answer(row, world, missing=True))
    same = own.status_code == none.status_code and (
        "json" not in own.headers.get("Content-Type", "") or own.content == none.content
    )
    return "" if same else f"{row}: the answer tells that the object exists"


def test_every_page_answers_as_the_table_says(world: World) -> None:
    rows = [row for row in table.rows() if row.scope is None]
    for row in rows:
        world.path(row)  # makes the objects
        world.body(row.json)
    others = personas(world)
    owner = Persona("owner", lambda row: row.owner, world.owner)
    root = Persona("administrator", lambda row: row.owner, world.root)
    roles = of_roles(world)
    problems = []
    for row in rows:
        administration = row.roles is not None
        asking = [one for one in others if row.each_end or not one.ended]
        asking += [*roles, root] if administration else [owner]
        problems += [check(row, persona, world) for persona in asking]
        if (row.args or row.json) and row.other == 404 and not administration:
            problems.append(check_like_missing(row, others[-1], world))
    found = [problem for problem in problems if problem]
    assert found == [], "\n" + "\n".join(found)
