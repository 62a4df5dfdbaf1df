"""API keys: what is stored, what revokes them, and the page where users create them."""

from __future__ import annotations

import asyncio
import base64
from datetime import timedelta

import pytest
from asgiref.sync import sync_to_async
from django.core.management import CommandError, call_command
from django.db import OperationalError
from django.test import Client, RequestFactory
from django.utils import timezone

from chatsite.accounts import keys
from chatsite.accounts.models import ApiKey, User
from chatsite.api.core import http
from chatsite.errors import InvalidKey, KeyLacksScope, KeyMissing

pytestmark = pytest.mark.django_db


@pytest.fixture
def alice() -> User:
    return User.objects.create_user("alice", password="x")


def test_a_key_grants_its_scopes_and_is_not_stored_in_plain_text(alice: User) -> None:
    key, text = keys.create(alice, scopes=["chat"])
    assert keys.caller(text, "chat").user == alice
    with pytest.raises(KeyLacksScope):
        keys.caller(text, "embed")
    kept = ApiKey.objects.filter(pk=key.pk).values().get()
    assert text not in str(kept)
    assert text.startswith(kept["prefix"])
    assert len(text) > 40


def test_m4_a_new_key_may_not_change_models(alice: User) -> None:
    _key, text = keys.create(alice)
    for scope in ("chat", "embed", "models"):
        assert keys.caller(text, scope).user == alice
    with pytest.raises(KeyLacksScope):
        keys.caller(text, "manage")
    _key, asked_for = keys.create(alice, scopes=["manage"])
    assert keys.caller(asked_for, "manage").user == alice


@pytest.mark.django_db(transaction=True)  # API requests use a separate database thread
def test_m4_every_endpoint_that_changes_models_needs_the_scope(alice: User) -> None:
    _key, text = keys.create(alice)
    client = Client(HTTP_HOST="127.0.0.1")
    headers = {"Authorization": f"Bearer {text}"}
    for path in ("create", "pull", "push", "copy", f"blobs/sha256:{'0' * 64}"):
        response = client.post(f"/api/{path}", b"{}", "application/json", headers=headers)
        assert (response.status_code, "manage" in response.text) == (403, True), path
    response = client.delete("/api/delete", b"{}", "application/json", headers=headers)
    assert (response.status_code, "manage" in response.text) == (403, True)


def test_the_anonymous_user_is_never_an_administrator(alice: User, settings) -> None:
    settings.ENV = settings.ENV.model_copy(update={"api_anonymous": "alice"})
    assert keys.caller(None, "chat").user == alice
    User.objects.update(is_superuser=True)
    with pytest.raises(KeyMissing):
        keys.caller(None, "chat")


def test_use_is_noted_once_a_minute(alice: User) -> None:
    key, text = keys.create(alice)
    keys.caller(text, "chat")
    key.refresh_from_db()
    first = key.last_used_at
    assert first
    keys.caller(text, "chat")
    key.refresh_from_db()
    assert key.last_used_at == first
    ApiKey.objects.update(last_used_at=first - timedelta(minutes=2))
    keys.caller(text, "chat")
    key.refresh_from_db()
    assert key.last_used_at >= first


def test_revoked_expired_and_orphaned_keys_are_refused(alice: User) -> None:
    revoked, first = keys.create(alice)
    keys.revoke(revoked)
    expired, second = keys.create(alice, days=1)
    ApiKey.objects.filter(pk=expired.pk).update(expires_at=timezone.now())
    _key, third = keys.create(alice)
    assert keys.caller(third, "chat").user == alice
    User.objects.update(is_active=False)
    for text in (first, second, third, "cs-wrong", "", "\ud800"):
        with pytest.raises(InvalidKey):
            keys.caller(text, "chat")


def test_without_a_key_requests_act_as_the_configured_user(alice: User, settings) -> None:
    with pytest.raises(KeyMissing):
        keys.caller(None, "chat")
    settings.ENV = settings.ENV.model_copy(update={"api_anonymous": "alice"})
    assert keys.caller(None, "chat").user == alice
    User.objects.update(is_active=False)
    with pytest.raises(KeyMissing):
        keys.caller(None, "chat")


def test_a_key_may_come_in_any_header_that_clients_use() -> None:
    def basic(text: str) -> str:
        return f"Basic {base64.b64encode(text.encode()).decode()}"

    def sent(**headers: str) -> str | None:
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return http.key_of(RequestFactory().get("/v1/models", headers=named))

    assert sent(Authorization="Bearer cs-1") == "cs-1"
    assert sent(Authorization="bearer  cs-1 ") == "cs-1"
    assert sent(X_Api_Key="cs-1") == "cs-1"
    assert sent(Authorization=basic("me:cs-1")) == "cs-1"
    assert sent(Authorization=basic("cs-1:")) == "cs-1"
    assert sent(Authorization="Basic *") == ""
    # A browser adds these by itself for another site's page.
    assert sent(Authorization=basic("me:cs-1"), Origin="https://evil.example.org") is None
    assert sent() is None


@pytest.mark.django_db(transaction=True)  # API requests use a separate database thread
def test_another_sites_page_gets_no_rights_without_a_key(alice: User, settings) -> None:
    settings.ENV = settings.ENV.model_copy(update={"api_anonymous": "alice"})
    client = Client(HTTP_HOST="127.0.0.1")
    assert client.get("/v1/models").status_code == 200
    own = settings.ENV.effective_origins[0]
    assert client.get("/v1/models", headers={"Origin": own}).status_code == 200
    foreign = {"Origin": "https://evil.example.org"}
    assert client.get("/v1/models", headers=foreign).status_code == 401
    settings.ENV = settings.ENV.model_copy(update={"api_origins": ("https://evil.example.org",)})
    assert client.get("/v1/models", headers=foreign).status_code == 200


@pytest.mark.django_db(transaction=True)
async def test_low_the_watch_of_keys_outlives_database_errors(alice: User, monkeypatch) -> None:
    key, text = await sync_to_async(keys.create)(alice)
    caller = await sync_to_async(keys.caller)(text, "chat")
    usable, failures = keys.still_usable, 3

    def failing(callers):
        nonlocal failures
        failures -= 1
        if failures >= 0:
            raise OperationalError("database is locked")
        return usable(callers)

    monkeypatch.setattr(keys, "CHECK_SECONDS", 0)
    monkeypatch.setattr(keys, "still_usable", failing)
    async with keys.watched(caller):
        await sync_to_async(keys.revoke)(key)
        async with asyncio.timeout(60):
            while not caller.ended:
                await asyncio.sleep(0)
    assert failures < 0


def test_users_create_and_revoke_their_own_keys_on_the_page(alice: User) -> None:
    client = Client()
    assert client.get("/accounts/keys/").status_code == 302
    client.force_login(alice)
    form = {"name": "notebook", "days": "30", "scopes": ["chat", "models"]}
    page = client.post("/accounts/keys/", form)
    text = page.context["made"]
    assert text in page.content.decode()
    key = keys.caller(text, "models").key
    assert key
    assert key.expires_at
    assert text not in client.get("/accounts/keys/").content.decode()
    bob = User.objects.create_user("bob", password="x")
    other = Client()
    other.force_login(bob)
    assert "notebook" not in other.get("/accounts/keys/").content.decode()
    assert other.post(f"/accounts/keys/{key.pk}/revoke/").status_code == 404
    assert client.post(f"/accounts/keys/{key.pk}/revoke/").status_code == 302
    with pytest.raises(InvalidKey):
        keys.caller(text, "chat")


def test_a_key_without_scopes_is_refused_with_an_explanation(alice: User) -> None:
    client = Client()
    client.force_login(alice)
    page = client.post("/accounts/keys/", {"name": "x", "days": "0"})
    assert page.context["form"].errors["scopes"]
    assert not ApiKey.objects.exists()


def test_the_administration_shows_how_keys_begin_and_revokes_them(alice: User) -> None:
    admin = User.objects.create_superuser("root", password="x")
    key, text = keys.create(alice, name="notebook")
    client = Client()
    client.force_login(admin)
    listing = client.get("/admin/accounts/apikey/").content.decode()
    assert key.prefix in listing
    assert key.digest not in listing
    action = {"action": "revoke", "_selected_action": [str(key.pk)]}
    assert client.post("/admin/accounts/apikey/", action).status_code == 302
    with pytest.raises(InvalidKey):
        keys.caller(text, "chat")


def test_the_command_reports_errors(alice: User) -> None:
    for arguments, said in (
        (("create", "nobody"), "There is no user nobody"),
        (("create", "alice", "--scopes", "fly"), "Unknown scopes: fly"),
        (("create", "alice", "--scopes", ","), "No scope"),
        (("create", "alice", "--days", "0"), "between"),
        (("revoke", "cs-"), "No key has this prefix"),
    ):
        with pytest.raises(CommandError, match=said):
            call_command("apikey", *arguments)
