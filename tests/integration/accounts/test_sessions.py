"""Open sockets are told when a session ends."""

import asyncio
import json

import pytest
from channels.layers import get_channel_layer
from django.contrib.sessions.models import Session
from django.db import transaction

from chatsite.accounts import sessions
from chatsite.accounts.models import User

PASSWORD = "correct horse battery"


@pytest.fixture
def ended(monkeypatch, transactional_db):
    """What was announced: (user, session key, whether a session was still stored)."""
    calls = []

    def end(user_id, session_key=None):
        stored = Session.objects.filter(session_key=session_key).exists()
        calls.append((user_id, session_key, stored))

    monkeypatch.setattr(sessions, "end", end)
    return calls


@pytest.fixture
def alice(transactional_db):
    return User.objects.create_user("alice", password=PASSWORD)


def test_sign_out_ends_that_session_after_it_is_gone(client, alice, ended):
    client.force_login(alice)
    key = client.session.session_key
    client.post("/accounts/logout/")
    assert ended == [(alice.pk, key, False)]


def test_the_administrations_sign_out_does_too(client, alice, ended):
    User.objects.update(is_staff=True)
    client.force_login(alice)
    key = client.session.session_key
    client.post("/admin/logout/")
    assert ended == [(alice.pk, key, False)]


def test_a_new_password_ends_all(alice, ended):
    alice.set_password("another horse")
    alice.save()
    assert ended == [(alice.pk, None, False)]


def test_deactivation_and_deletion_end_all(alice, ended):
    id = alice.pk
    alice.is_active = False
    alice.save(update_fields=["is_active"])
    alice.save()
    assert ended == [(id, None, False)]
    alice.delete()
    assert ended == [(id, None, False)] * 2


def test_other_changes_end_nothing(client, alice, ended):
    alice.first_name = "Alice"
    alice.save()
    alice.is_active = True
    alice.save()
    client.force_login(alice)  # notes the time
    assert ended == []


def test_what_is_rolled_back_ends_nothing(alice, ended):
    def change():
        with transaction.atomic():
            alice.is_active = False
            alice.save()
            raise LookupError

    with pytest.raises(LookupError):
        change()
    assert ended == []


async def test_the_message_reaches_the_persons_group(redis_url):
    layer = get_channel_layer()
    channel = await layer.new_channel()
    await layer.group_add(sessions.group_of(7), channel)
    try:
        await asyncio.to_thread(sessions.end, 7, "the-key")
        message = await layer.receive(channel)
        assert message == {
            "type": "session.ended",
            "session": sessions.session_hash("the-key"),
        }
        assert "the-key" not in json.dumps(message)
        await asyncio.to_thread(sessions.end, 7)
        assert (await layer.receive(channel))["session"] is None
    finally:
        await layer.group_discard(sessions.group_of(7), channel)
        await layer.close_pools()


@pytest.mark.parametrize("failure", [ConnectionError, TimeoutError, RuntimeError])
def test_a_failing_redis_does_not_break_the_sign_out(client, alice, monkeypatch, caplog, failure):
    class Broken:
        async def group_send(self, *_):
            raise failure

    monkeypatch.setattr(sessions, "get_channel_layer", Broken)
    client.force_login(alice)
    assert client.post("/accounts/logout/").status_code == 302
    assert "could not be told" in caplog.text


def test_a_redis_that_hangs_does_not_hold_it_up(monkeypatch, caplog):
    class Hanging:
        async def group_send(self, *_):
            await asyncio.Event().wait()

    monkeypatch.setattr(sessions, "get_channel_layer", Hanging)
    monkeypatch.setattr(sessions, "_PATIENCE", 0.01)
    sessions.end(1)
    assert "could not be told" in caplog.text
