"""Each API call with the keys of its owner and others, without a key, and with an ended one."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.test import Client
from django.utils import timezone

from chatsite.accounts import keys
from chatsite.accounts.models import ApiKey, User
from chatsite.accounts.roles import Role
from tests.integration.web.strangers import table
from tests.integration.web.strangers.table import Answer, Row, World

pytestmark = [
    # API requests use a separate database thread.
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("data_dir"),
]


@pytest.fixture
def world(settings: Any) -> World:
    """Return the users. Redis is not needed, and would keep a connection per request."""
    settings.REDIS_URL = "unix:///nowhere/redis.sock"
    return World()


def key_of(user: User, scopes: tuple[str, ...] = keys.ALL_SCOPES) -> str:
    return keys.create(user, scopes=scopes)[1]


def ended_keys(world: World) -> dict[str, str | None]:
    """Return keys that must not work, by what ended them. None is a request without a key."""
    revoked, revoked_text = keys.create(world.owner, scopes=keys.ALL_SCOPES)
    keys.revoke(revoked)
    expired, expired_text = keys.create(world.owner, scopes=keys.ALL_SCOPES, days=1)
    yesterday = timezone.now() - timedelta(days=1)
    ApiKey.objects.filter(pk=expired.pk).update(expires_at=yesterday)
    orphaned = key_of(world.deactivated)
    User.objects.filter(pk=world.deactivated.pk).update(is_active=False)
    return {
        "no key": None,
        "unknown key": "cs-guessed",
        "revoked key": revoked_text,
        "expired key": expired_text,
        "deactivated": orphaned,
    }


def ask(row: Row, world: World, key: str | None, client: Client | None = None) -> int:
    headers = {"Authorization": f"Bearer {key}"} if key is not None else {}
    send = getattr(client or Client(raise_request_exception=False), row.method.lower())
    options: dict[str, Any] = {}
    if row.json is not None:
        options = {"data": world.body(row.json), "content_type": "application/json"}
    response = send(world.path(row), headers=headers, **options)
    response.close()
    status: int = response.status_code
    return status


def test_every_call_answers_as_the_table_says(world: World) -> None:
    rows = [row for row in table.rows() if row.scope]
    assert rows
    ended = ended_keys(world)
    of_roles = {
        Role.ADMINISTRATOR: key_of(world.root),
        Role.MODEL_MANAGER: key_of(world.manager),
        Role.AUDITOR: key_of(world.auditor),
        Role.USER: key_of(world.other),
    }
    lacking = {
        scope: key_of(world.root, tuple(one for one in keys.ALL_SCOPES if one != scope))
        for scope in keys.ALL_SCOPES
    }
    browser = Client(raise_request_exception=False)
    browser.force_login(world.root)
    problems = []

    def check(row: Row, who: str, wanted: Answer, got: int) -> None:
        if got != wanted:
            problems.append(f"{row} for {who}: {got} instead of {wanted}")

    for row in rows:
        for who, key in ended.items():
            check(row, who, row.out, ask(row, world, key))
        check(row, "a session without a key", row.out, ask(row, world, None, browser))
        check(row, "a key without the scope", 403, ask(row, world, lacking[str(row.scope)]))
        for role, key in of_roles.items():
            may = row.roles is None or role in {*row.roles, Role.ADMINISTRATOR}
            check(row, str(role.label), row.owner if may else row.other, ask(row, world, key))
    assert problems == [], "\n" + "\n".join(problems)


def test_a_key_loses_the_rights_of_a_demoted_administrator(world: World) -> None:
    """The scope of a key grants nothing that its owner may not do at the time of the request."""
    (row,) = [row for row in table.rows() if row.route == "api/delete"]
    User.objects.create_superuser("second")
    key = key_of(world.root)
    assert ask(row, world, key) == row.owner
    world.root.role = Role.USER
    world.root.save()
    assert ask(row, world, key) == 403
