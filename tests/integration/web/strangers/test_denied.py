"""A member of a group that a rule denies a feature gets the table's answer, and writes nothing."""

from __future__ import annotations

from typing import Any

import pytest
from django.contrib.auth.models import Group

from chatsite.policy import snapshot
from chatsite.policy.features import Feature
from chatsite.policy.models import Rule
from tests.integration.web.strangers import table
from tests.integration.web.strangers.table import Row, World
from tests.integration.web.strangers.test_api import ask, key_of
from tests.integration.web.strangers.test_pages import Persona, writes

pytestmark = [
    # API requests use a separate database thread.
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("data_dir"),
]


@pytest.fixture
def world(settings: Any) -> World:
    settings.REDIS_URL = "unix:///nowhere/redis.sock"
    world = World()
    world.owner.groups.add(Group.objects.create(name="denied"))
    return world


def _denied(feature: str) -> None:
    group = Group.objects.get(name="denied")
    Rule.objects.create(effect="deny", kind="feature", target=feature, group=group)
    snapshot.forget()


def _rows(*, of_api: bool) -> list[Row]:
    return [row for row in table.rows() if row.feature and (row.scope is not None) == of_api]


def test_pages_refuse_a_member_of_a_denied_group(world: World) -> None:
    rows = _rows(of_api=False)
    assert {row.feature for row in rows} >= {"attachments", "export", "import", "sharing"}
    for row in rows:  # before anything is denied: making an object may need its feature
        world.path(row)
        world.body(row.json)
    for feature in {row.feature for row in rows}:
        _denied(feature)
    member = Persona("member", lambda row: row.denied, world.owner)
    stranger = Persona("other user", lambda row: row.other, world.other)
    for row in rows:
        with writes() as written:
            assert member.outcome(row, world) == row.denied, f"{row}: member"
        # The session notes when it was last used.
        assert [one for one in written if "accounts_usersession" not in one] == [], f"{row}: member"
        assert stranger.outcome(row, world) == row.other, f"{row}: other user"


def test_api_calls_refuse_a_member_of_a_denied_group(world: World) -> None:
    rows = _rows(of_api=True)
    key = key_of(world.owner)
    _denied(Feature.API)
    assert rows
    for row in rows:
        assert ask(row, world, key) == row.denied, f"{row}: member"
