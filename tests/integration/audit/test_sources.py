"""The places of the product that record events."""

from __future__ import annotations

import io
import json
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.core.management import CommandError, call_command
from django.test import AsyncClient, Client
from django.utils import timezone

from chatsite.accounts import keys
from chatsite.accounts.models import User
from chatsite.api.core import auditing
from chatsite.audit import drain, key_addresses
from chatsite.audit.models import Event
from chatsite.audit.record import record
from chatsite.audit.repeats import Repeats
from chatsite.audit.spool import Spool
from chatsite.conversations.models import Conversation, Generation, GenerationState, Via
from models_admin.adminsite.audit import api_use, tasks
from models_admin.models import Job, JobState
from tests.integration.audit.conftest import without_triggers

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _nothing_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """Forget the addresses and refusals of earlier tests."""
    key_addresses.seen.cache_clear()
    monkeypatch.setattr(auditing, "refusals", Repeats())


@pytest.fixture
def alice() -> User:
    return User.objects.create_user("alice", password="x")


@pytest.fixture
def page(alice: User) -> Client:
    client = Client(HTTP_USER_AGENT="Firefox/140")
    client.force_login(alice)
    return client


def events(*kinds: str) -> list[Event]:
    drain.drain()
    found = Event.objects.order_by("sequence")
    return list(found.filter(kind__in=kinds) if kinds else found)


def details(event: Event) -> dict[str, Any]:
    return dict(json.loads(event.details))


async def ask(key: str | None, path: str = "/v1/models", **headers: str) -> int:
    given = {"Authorization": f"Bearer {key}"} if key else {}
    response = await AsyncClient().get(path, headers={**given, **headers})
    return response.status_code


@pytest.mark.django_db(transaction=True)
async def test_a_key_is_reported_at_its_first_use_from_an_address(
    spool: Spool, committed: None
) -> None:
    user = await User.objects.acreate(username="alice")
    key, text = await key_of(user)
    for _attempt in range(3):
        assert await ask(text) == 200
    found = await read("key.new_address", "api.request")
    assert [(e.kind, e.actor_name, e.target_name, e.via) for e in found] == [
        ("key.new_address", "alice", key.prefix, "openai")
    ]
    # Another process asks the database, which knows the address.
    key_addresses.seen.cache_clear()
    assert await ask(text) == 200
    assert len(await read("key.new_address")) == 1


@pytest.mark.django_db(transaction=True)
async def test_refused_requests_are_recorded_once_per_minute(
    spool: Spool, committed: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for _attempt in range(5):
        assert await ask("cs-wrongwrongwrong") == 401
    assert await ask(None, "/api/tags") == 401
    found = await read("api.refused")
    assert [(e.via, e.outcome, details(e)["code"], details(e)["key"]) for e in found] == [
        ("openai", "denied", "invalid_api_key", "cs-wrongw"),
        ("ollama", "denied", "missing_api_key", ""),
    ]
    assert "wrongwrongwrong" not in found[0].details
    monkeypatch.setattr(auditing.refusals, "seconds", 0.0)
    assert await ask("cs-wrongwrongwrong") == 401
    assert details((await read("api.refused"))[-1])["omitted"] == 4


@pytest.mark.django_db(transaction=True)
async def test_each_request_is_recorded_if_wanted(
    spool: Spool, committed: None, settings: Any
) -> None:
    settings.ENV = settings.ENV.model_copy(update={"audit_api": "all"})
    user = await User.objects.acreate(username="alice")
    _key, text = await key_of(user)
    for _attempt in range(2):
        assert await ask(text) == 200
    found = await read("api.request")
    assert [details(e) for e in found] == [
        {"method": "GET", "path": "/v1/models", "status": 200}
    ] * 2


async def key_of(user: User) -> tuple[Any, str]:
    from asgiref.sync import sync_to_async

    return await sync_to_async(keys.create)(user, name="notebook")


async def read(*kinds: str) -> list[Event]:
    from asgiref.sync import sync_to_async

    return await sync_to_async(events)(*kinds)


def test_the_api_use_of_a_day_is_summarized_once(spool: Spool, alice: User) -> None:
    key, _text = keys.create(alice)
    day = datetime(2026, 5, 4, tzinfo=UTC)
    for model, via, state in (
        ("tiny", Via.API, GenerationState.DONE),
        ("tiny", Via.API, GenerationState.FAILED),
        ("big", Via.OLLAMA, GenerationState.DONE),
        ("tiny", Via.CHAT, GenerationState.DONE),
    ):
        Generation.objects.create(
            owner=alice, api_key=key, model=model, via=via, state=state,
            prompt_tokens=10, completion_tokens=5, queued_at=day + timedelta(hours=3),
        )  # fmt: skip
    assert api_use.summarize(day) == 2
    assert api_use.summarize(day) == 0
    big, tiny = sorted(events("api.summary"), key=lambda e: details(e)["model"])
    assert (big.via, tiny.via) == ("ollama", "openai")
    assert tiny.target_name == key.prefix
    assert details(tiny) == {
        "day": "2026-05-04",
        "failed": 1,
        "model": "tiny",
        "output_tokens": 10,
        "prompt_tokens": 20,
        "requests": 2,
    }


def test_the_night_prunes_and_verifies(
    spool: Spool, settings: Any, caplog: pytest.LogCaptureFixture
) -> None:
    settings.ENV = settings.ENV.model_copy(update={"audit_days": 30})
    record("auth.login", user="old")
    record("auth.login", user="new")
    drain.drain()
    with without_triggers():
        Event.objects.filter(actor_name="old").update(time=timezone.now() - timedelta(days=31))
    # Changed, so that it is found before it is pruned; afterwards the anchor covers it.
    tasks.nightly()
    (pruned,) = events("audit.pruned")
    assert details(pruned) | {"hash": ""} == {"count": 1, "days": 30, "hash": "", "last": 1}
    assert [e.actor_name for e in events("auth.login")] == ["new"]
    assert caplog.text == ""
    with without_triggers():
        Event.objects.filter(actor_name="new").update(address="1.1.1.1")
    tasks.nightly()
    assert "Audit log is not intact" in caplog.text
    (failed,) = events("audit.verified")
    assert failed.outcome == "failed"
    assert details(failed) == {"problem": "changed", "sequence": 2}


def test_conversations_shares_and_exports(spool: Spool, alice: User, page: Client) -> None:
    conversation = Conversation.objects.create(owner=alice, title="Secret plan")
    assert page.get(f"/chat/export/{conversation.pk}/").status_code == 200
    assert page.delete(f"/chat/conversations/{conversation.pk}/").status_code == 204
    order = json.dumps({"action": "restore", "ids": [str(conversation.pk)]})
    answer = page.post("/chat/organise/", order, content_type="application/json")
    assert answer.status_code == 200
    found = events("conversation.exported", "conversation.deleted", "conversation.restored")
    assert [e.kind for e in found] == [
        *("conversation.exported", "conversation.deleted", "conversation.restored")
    ]
    for event in found:
        assert (event.actor_name, event.agent) == ("alice", "Firefox/140")
        assert (event.target_type, event.target_id) == ("conversation", str(conversation.pk))
    assert not Event.objects.filter(details__contains="Secret").exists()
    assert not Event.objects.filter(target_name__contains="Secret").exists()


def test_keys_from_page_and_command_line(spool: Spool, alice: User, page: Client) -> None:
    form = {"name": "notebook", "days": "30", "scopes": ["chat"]}
    assert page.post("/accounts/keys/", form).status_code == 200
    call_command("apikey", "create", "alice", stdout=io.StringIO())
    text = [e.target_name for e in events("key.created")]
    call_command("apikey", "revoke", text[0], stdout=io.StringIO())
    own, cli, revoked = events("key.created", "key.revoked")
    assert (own.via, own.actor_name, details(own)["days"]) == ("page", "alice", 30)
    assert (cli.via, details(cli)["owner"]) == ("cli", "alice")
    assert (revoked.via, revoked.target_name) == ("cli", own.target_name)


def test_the_end_of_a_job(spool: Spool, alice: User) -> None:
    from models_admin.jobs import states

    job = Job.objects.create(kind="download", target="tiny", source="x", asked_by=alice)
    states.claim(job.pk)
    job.refresh_from_db()
    assert states.finish(job, JobState.FAILED, error={"code": "not_found"})
    (event,) = events("job.failed")
    assert (event.via, event.outcome, event.target_name) == ("system", "failed", "tiny")
    assert details(event)["requested_by"] == "alice"
    assert details(event)["error"] == "not_found"


# The command line.


def audit(*arguments: str) -> str:
    out = io.StringIO()
    call_command("audit", *arguments, stdout=out, stderr=out)
    return out.getvalue()


def test_list_export_and_verify(spool: Spool) -> None:
    assert audit("list") == "No events.\n"
    assert audit("verify") == "The audit log is empty.\n"
    record("auth.login", user="ann", address="10.0.0.1")
    record("key.revoked", user="bob", target=("key", "1", "cs-abc"))
    listed = audit("list").splitlines()
    assert len(listed) == 2
    assert "auth.login" in listed[0]
    assert "bob" in listed[1]
    assert audit("list", "--user", "ann", "--json").count("\n") == 1
    assert json.loads(audit("verify", "--json"))["events"] == 2
    lines = audit("export", "--kind", "key").splitlines()
    assert [json.loads(line)["actor_name"] for line in lines] == ["bob"]
    assert len(audit("export", "--format", "csv", "--since", "1d").splitlines()) == 4
    exported = events("audit.exported")
    assert [details(e)["format"] for e in exported] == ["jsonl", "csv"]
    assert details(exported[0])["filter"] == ["kind=key"]
    with without_triggers():
        Event.objects.filter(sequence=1).update(actor_name="eve")
    with pytest.raises(CommandError, match="Event 1 was changed"):
        audit("verify")
    with pytest.raises(SystemExit):
        audit("verify", "--json")


@pytest.mark.parametrize(
    "arguments",
    [
        ("list", "--kind", "nope"),
        ("list", "-n", "0"),
        ("list", "--since", "2026-02-01", "--until", "2026-01-01"),
        ("list", "--since", "yesterday"),
    ],
)
def test_wrong_arguments_are_explained(spool: Spool, arguments: tuple[str, ...]) -> None:
    with pytest.raises(CommandError):
        audit(*arguments)
