"""Open sockets are notified when a session ends."""

import asyncio
import json
from collections import OrderedDict

import pytest
from channels.layers import get_channel_layer
from django.contrib.sessions.models import Session
from django.db import transaction
from django.test import Client

from chatsite.accounts import sessions
from chatsite.accounts.models import User, UserSession

PASSWORD = "correct horse battery"


@pytest.fixture
def ended(monkeypatch, transactional_db):
    """Return the notifications: (user, session key, whether a session was still stored)."""
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
    client.force_login(alice)  # records the time
    assert ended == []


def test_a_rollback_ends_no_session(alice, ended):
    def change():
        with transaction.atomic():
            alice.is_active = False
            alice.save()
            raise LookupError

    with pytest.raises(LookupError):
        change()
    assert ended == []


async def test_the_message_reaches_the_users_group(redis_url):
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
    assert "Sockets can't be closed" in caplog.text


def test_a_hanging_redis_does_not_delay_the_sign_out(monkeypatch, caplog):
    class Hanging:
        async def group_send(self, *_):
            await asyncio.Event().wait()

    monkeypatch.setattr(sessions, "get_channel_layer", Hanging)
    monkeypatch.setattr(sessions, "WAIT_SECONDS", 0.01)
    sessions.end(1)
    assert "Sockets can't be closed" in caplog.text


CHROME = (
    "Mozilla/5.0 (Windows NT 10.0; Win64; x64) AppleWebKit/537.36 (KHTML, like Gecko) "
    "Chrome/140.0.0.0 Safari/537.36"
)
IPHONE = (
    "Mozilla/5.0 (iPhone; CPU iPhone OS 18_0 like Mac OS X) AppleWebKit/605.1.15 "
    "(KHTML, like Gecko) Version/18.0 Mobile/15E148 Safari/604.1"
)


def browser(user, agent, address):
    client = Client(REMOTE_ADDR=address, headers={"User-Agent": agent})
    client.post("/accounts/login/", {"login": user.username, "password": PASSWORD})
    return client


@pytest.fixture
def two(alice, redis):
    return browser(alice, CHROME, "192.0.2.1"), browser(alice, IPHONE, "192.0.2.2")


def is_in(client):
    return client.get("/accounts/sessions/").status_code == 200


def test_the_page_lists_browsers_in_words(two):
    page = two[0].get("/accounts/sessions/").text
    assert "Chrome on Windows" in page
    assert "Safari on iOS" in page
    assert "192.0.2.2" in page
    assert page.count("This browser") == 1
    assert page.index("Chrome on Windows") < page.index("Safari on iOS")


def test_one_session_is_ended_and_its_sockets_closed(alice, two, ended):
    row = UserSession.objects.get(address="192.0.2.2")
    ended.clear()
    assert two[0].post(f"/accounts/sessions/{row.pk}/end/").status_code == 302
    assert ended == [(alice.pk, row.session_key, False)]
    assert [is_in(client) for client in two] == [True, False]


def test_the_session_of_another_user_is_missing(two, transactional_db):
    User.objects.create_user("eve", password=PASSWORD)
    eve = browser(User.objects.get(username="eve"), CHROME, "192.0.2.3")
    row = UserSession.objects.get(address="192.0.2.1")
    assert eve.post(f"/accounts/sessions/{row.pk}/end/").status_code == 404
    assert is_in(two[0])


def test_all_others_are_ended_recorded_or_not(alice, two, ended, audited):
    UserSession.objects.filter(address="192.0.2.2").delete()  # as from before an upgrade
    ended.clear()
    two[0].post("/accounts/sessions/end/")
    assert [is_in(client) for client in two] == [True, False]
    assert (alice.pk, None, False) in ended
    assert audited.last("session.ended")["details"]["all"]


def test_sign_out_everywhere_ends_this_one_too(two):
    answer = two[0].post("/accounts/sessions/end/", {"everywhere": "1"})
    assert answer.url == "/accounts/login/"
    assert [is_in(client) for client in two] == [False, False]
    assert not UserSession.objects.exists()


def test_a_new_password_keeps_the_browser_in_which_it_was_changed(two):
    new = "another horse battery"
    form = {"oldpassword": PASSWORD, "password1": new, "password2": new}
    assert two[0].post("/accounts/password/change/", form).status_code == 302
    assert [is_in(client) for client in two] == [True, False]
    assert UserSession.objects.get().address == "192.0.2.1"


def test_use_is_noted_rarely(two, monkeypatch, django_assert_num_queries):
    key = two[0].session.session_key
    UserSession.objects.update(last_seen_at="2020-01-01T00:00Z")
    monkeypatch.setattr(sessions, "noted", OrderedDict())
    with django_assert_num_queries(2):  # of the session and of its user
        sessions.seen(key, "192.0.2.9")
    found = UserSession.objects.get(session_key=key)
    assert found.address == "192.0.2.9"
    assert found.user.last_seen_at == found.last_seen_at
    with django_assert_num_queries(0):
        sessions.seen(key, "192.0.2.9")


@pytest.mark.parametrize("agent", ["", "curl/8", "x" * 5000])
def test_any_agent_has_words(agent):
    assert str(sessions.described(agent).words) == "Unknown browser"
