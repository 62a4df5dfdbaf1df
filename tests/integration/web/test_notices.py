"""Terms of use, announcement, maintenance mode: on pages, in the APIs and on the command line."""

from __future__ import annotations

import uuid
from datetime import timedelta
from io import StringIO
from typing import Any

import pytest
from asgiref.sync import async_to_sync, sync_to_async
from django.core.management import CommandError, call_command
from django.test import AsyncClient, Client
from django.utils import timezone
from redis.asyncio import Redis

from chatsite.accounts import keys
from chatsite.accounts.models import User
from chatsite.answers import gate
from chatsite.answers.runtime import close_runtime, runtime
from chatsite.chat.protocol import Send
from chatsite.chat.submit import submit
from chatsite.conversations.models import Conversation, Generation
from chatsite.management.commands import maintenance
from chatsite.site_settings import banner, current, terms
from chatsite.site_settings.models import TermsAcceptance
from chatsite.site_settings.save import save
from models_admin.models import ModelName, ModelVersion
from tests.support.pages import data_dir, unbuilt

__all__ = ["data_dir", "unbuilt"]
pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("unbuilt")]

TERMS = {"terms_text": "Be kind.\n\nNo secrets.", "terms_version": "2030-1"}
HTML = {"Accept": "text/html"}
MODEL = "tiny:latest"


@pytest.fixture
def alice() -> User:
    return User.objects.create_user("alice")


@pytest.fixture
def model() -> str:
    version = ModelVersion.objects.create(digest="a" * 64, size=1)
    ModelName.objects.create(name=MODEL, version=version)
    return MODEL


@pytest.fixture
def page(alice: User, client: Client) -> Client:
    client.force_login(alice)
    return client


class TestTerms:
    def test_users_are_led_to_them_until_they_accept(self, page: Client, alice: User) -> None:
        assert page.get("/", headers=HTML).status_code == 200
        save(TERMS)
        response = page.get("/c/x/?a=1", headers=HTML)
        assert response.status_code == 302
        shown = page.get(response["Location"])
        assert "<p>No secrets.</p>" in shown.text
        data = {"version": "2030-1", "next": "/share/"}
        assert page.post("/accounts/terms/", data)["Location"] == "/share/"
        row = TermsAcceptance.objects.get()
        assert (row.user, row.version) == (alice, "2030-1")
        assert page.get("/", headers=HTML).status_code == 200
        assert "You have accepted this version." in page.get("/accounts/terms/").text

    def test_a_new_version_asks_again_also_while_it_is_read(self, page: Client) -> None:
        save(TERMS)
        page.post("/accounts/terms/", {"version": "2030-1"})
        save({"terms_version": "2030-2"})
        assert page.get("/", headers=HTML).status_code == 302
        late = page.post("/accounts/terms/", {"version": "2030-1"})
        assert late.status_code == 409
        assert "A new version was published" in late.text
        assert TermsAcceptance.objects.count() == 1

    def test_json_requests_get_an_error(self, page: Client) -> None:
        save(TERMS)
        response = page.get("/share/", headers={"Accept": "application/json"})
        assert response.status_code == 403
        assert response.json()["error"]["code"] == "terms_not_accepted"

    def test_one_cannot_be_led_to_another_site(self, page: Client) -> None:
        save(TERMS)
        data = {"version": "2030-1", "next": "https://evil.example/"}
        assert page.post("/accounts/terms/", data)["Location"] == "/"

    def test_account_pages_and_sign_out_stay_open(self, page: Client) -> None:
        save(TERMS)
        assert page.get("/accounts/logout/", headers=HTML).status_code == 200
        assert page.get("/accounts/login/", headers=HTML).status_code in {200, 302}

    def test_api_keys_work_after_acceptance_only(self, alice: User) -> None:
        key = keys.create(alice)[1]
        save(TERMS)

        async def models() -> Any:
            return await AsyncClient().get("/v1/models", headers={"Authorization": f"Bearer {key}"})

        refused = async_to_sync(models)()
        assert refused.status_code == 403
        error = refused.json()["error"]
        assert error["code"] == "terms_not_accepted"
        assert "browser" in error["message"]
        TermsAcceptance.objects.create(user=alice, version="2030-1")
        assert async_to_sync(models)().status_code == 200

    def test_acceptance_is_asked_of_the_database_once(
        self, alice: User, django_assert_num_queries: Any
    ) -> None:
        with django_assert_num_queries(0):
            assert terms.accepted(alice.pk)
        save({**TERMS, "terms_version": str(uuid.uuid4())[:30]})
        TermsAcceptance.objects.create(user=alice, version=current().terms_version)
        with django_assert_num_queries(1):
            assert terms.accepted(alice.pk)
            assert terms.accepted(alice.pk)


class TestAnnouncement:
    def test_it_is_shown_until_each_user_dismisses_it(self, page: Client) -> None:
        save({"banner_text": "Moved to https://intra.example.org/ <b>now</b>"})
        shown = page.get("/").text
        assert "&lt;b&gt;now" in shown
        assert 'href="https://intra.example.org/"' in shown
        digest = shown.partition('name="digest" value="')[2].partition('"')[0]
        answer = page.post(
            "/accounts/announcement/dismiss/",
            {"digest": digest},
            headers={"X-Requested-With": "fetch"},
        )
        assert answer.status_code == 204
        assert "intra.example.org" not in page.get("/").text
        other = Client()
        other.force_login(User.objects.create_user("bob"))
        assert "intra.example.org" in other.get("/").text
        save({"banner_text": "Another"})
        assert "Another" in page.get("/").text

    def test_an_open_page_gets_the_notices_apart(self, page: Client) -> None:
        save({"banner_text": "Moved"})
        whole, part = page.get("/"), page.get("/accounts/notices/")
        assert "Moved" in part.text
        assert "<html" not in part.text
        assert f'data-digest="{banner.notices_digest()}"' in whole.text
        assert f'data-digest="{banner.notices_digest()}"' in part.text

    def test_the_digest_follows_text_clock_and_maintenance(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        now = timezone.now()
        seen = [banner.notices_digest()]
        save({"banner_text": "Soon", "banner_from": now + timedelta(hours=1)})
        assert banner.notices_digest() == seen[0]
        monkeypatch.setattr(timezone, "now", lambda: now + timedelta(hours=2))
        seen.append(banner.notices_digest())
        save({"maintenance": True})
        seen.append(banner.notices_digest())
        save({"maintenance_text": "Back at noon."})
        seen.append(banner.notices_digest())
        assert len(set(seen)) == 4

    def test_the_greeting_replaces_the_heading(self, page: Client) -> None:
        assert "What can I help with?" in page.get("/").text
        save({"greeting": "Welcome <to> Acme"})
        shown = page.get("/").text
        assert "Welcome &lt;to&gt; Acme" in shown
        assert "What can I help with?" not in shown


class TestMaintenance:
    async def test_the_page_refuses_and_saves_nothing(
        self, alice: User, model: str, redis: Redis
    ) -> None:
        await sync_to_async(save)({"maintenance": True, "maintenance_text": "Back at noon."})
        with pytest.raises(gate.Maintenance) as refused:
            await submit(runtime(), alice, Send(str(uuid.uuid4()), "hello", model))
        assert "Back at noon." in str(refused.value)
        assert not refused.value.permanent
        assert not await Generation.objects.aexists()
        assert not await Conversation.objects.aexists()
        alice.is_superuser = True
        turn = await submit(runtime(), alice, Send(str(uuid.uuid4()), "hello", model))
        assert turn.generation.state == "queued"
        await close_runtime()

    @pytest.mark.usefixtures("model", "redis_url")
    @pytest.mark.parametrize(
        ("path", "body"),
        [
            ("/v1/chat/completions", {"messages": [{"role": "user", "content": "hi"}]}),
            ("/v1/embeddings", {"input": "hi"}),
            ("/api/chat", {"messages": [{"role": "user", "content": "hi"}]}),
        ],
    )
    def test_the_apis_refuse_with_retry_after(
        self, alice: User, path: str, body: dict[str, Any]
    ) -> None:
        save({"maintenance": True})
        key = keys.create(alice)[1]

        async def ask() -> Any:
            return await AsyncClient().post(
                path,
                {"model": MODEL, **body},
                content_type="application/json",
                headers={"Authorization": f"Bearer {key}"},
            )

        response = async_to_sync(ask)()
        assert response.status_code == 503
        assert response["Retry-After"] == "60"
        assert "maintenance" in response.text
        assert not Generation.objects.exists()

    def test_pages_say_so(self, page: Client) -> None:
        save({"maintenance": True, "maintenance_text": "Back at <noon>."})
        assert "Back at &lt;noon&gt;." in page.get("/").text

    def test_the_command_turns_it_on_waits_and_turns_it_off(
        self, alice: User, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(maintenance, "LIFETIME", 0.0)
        monkeypatch.setattr(maintenance, "POLL_SECONDS", 0.01)
        generation = Generation.objects.create(owner=alice, model=MODEL)
        assert "Maintenance mode is off. Open answers: 1" in run("status")
        with pytest.raises(CommandError, match="still open: 1"):
            run("on", "--message", "Back at noon.", "--wait", "0.05")
        assert current().maintenance
        assert current().maintenance_text == "Back at noon."
        Generation.objects.filter(pk=generation.pk).update(state="done")
        assert "Maintenance mode is on. Open answers: 0" in run("on", "--wait", "5")
        assert "off" in run("off")
        assert not current().maintenance
        with pytest.raises(CommandError, match="at most 300"):
            run("on", "--message", "x" * 301)


def run(*args: str) -> str:
    out = StringIO()
    call_command("maintenance", *args, stdout=out)
    return out.getvalue()
