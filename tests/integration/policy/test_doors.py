"""Every door asks the policy, and all give the same decision."""

from __future__ import annotations

import io
import uuid
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from asgiref.sync import async_to_sync
from django.contrib.auth.models import Group
from django.core.management import CommandError, call_command
from django.test import Client
from redis.asyncio import Redis

from chatsite.accounts import keys
from chatsite.accounts.keys import Caller
from chatsite.accounts.models import User
from chatsite.answers import admission
from chatsite.answers.queue.request import QueuedRequest
from chatsite.answers.runtime import close_runtime, runtime
from chatsite.api.core import requests
from chatsite.chat import context, turns
from chatsite.chat.protocol import CountTokens, Regenerate, Send
from chatsite.chat.submit import submit
from chatsite.conversations.assistants import presets
from chatsite.conversations.assistants.models import Assistant
from chatsite.conversations.models import Conversation, Generation, Message
from chatsite.engine.contract.messages import ChatMessage, SamplingParams
from chatsite.errors import ChatsiteError
from chatsite.policy import decisions, quotas
from chatsite.policy.decisions import AssistantNotAllowed, FeatureNotAllowed, ModelNotAllowed
from chatsite.policy.features import Feature
from chatsite.policy.models import Default, Limit, Quota, Reservation, Rule
from models_admin import catalogue
from models_admin.models import ModelName, ModelVersion

pytestmark = pytest.mark.django_db(transaction=True)

NAMES = ("big:70b", "small:1b", "tiny:latest")


@pytest.fixture
def alice(redis: Redis) -> User:
    version = ModelVersion.objects.create(digest="a" * 64, size=1)
    for name in NAMES:
        ModelName.objects.create(name=name, version=version)
    user = User.objects.create_user("alice", password="x")
    user.groups.add(Group.objects.create(name="staff"))
    return user


@pytest.fixture
def page(alice: User) -> Client:
    client = Client(HTTP_HOST="127.0.0.1")
    client.force_login(alice)
    return client


@pytest.fixture
def api(alice: User) -> Client:
    _key, text = keys.create(alice)
    return Client(HTTP_HOST="127.0.0.1", headers={"Authorization": f"Bearer {text}"})


def _deny(kind: str, target: str, **audience: Any) -> Rule:
    return Rule.objects.create(effect="deny", kind=kind, target=target, **audience)


def _run(work: Callable[[], Any]) -> Any:
    """Run a coroutine function on an event loop of its own, with its runtime."""

    async def run() -> Any:
        try:
            return await work()
        finally:
            await close_runtime()

    return async_to_sync(run)()


def _asks(user: User, name: str) -> bool:
    async def ask() -> bool:
        messages = (ChatMessage("user", "hi"),)
        async with requests.ask(runtime(), Caller(user), name, messages):
            return True

    try:
        found: bool = _run(ask)
    except ModelNotAllowed:
        return False
    return found


def _chats(user: User, name: str) -> bool:
    try:
        turns.make(user, Send(uuid.uuid4().hex, "hi", name))
    except ModelNotAllowed:
        return False
    return True


def _counts(user: User, name: str) -> bool:
    try:
        _run(lambda: context.count_branch(runtime(), user, CountTokens("c", name, "hi")))
    except ModelNotAllowed:
        return False
    return True


def _admits(user: User, name: str) -> bool:
    job = QueuedRequest(str(uuid.uuid4()), str(user.pk), name, (), 0.0)
    try:
        admission.admit(job, context=4096)
    except ModelNotAllowed:
        return False
    return True


@pytest.mark.parametrize(
    ("rules", "default", "expected"),
    [
        ([], True, set(NAMES)),
        ([("deny", "big", None)], True, {"small:1b", "tiny:latest"}),
        ([("deny", "*", "staff")], True, set()),
        ([("allow", "tiny", "staff")], False, {"tiny:latest"}),
        (
            [("allow", "*", "alice"), ("deny", "small:*", "staff")],
            False,
            {"big:70b", "tiny:latest"},
        ),
    ],
)
def test_every_door_gives_the_same_decision(
    alice: User,
    page: Client,
    api: Client,
    rules: list[tuple[str, str, str | None]],
    default: bool,
    expected: set[str],
) -> None:
    Default.objects.create(kind="model", allowed=default)
    for effect, target, who in rules:
        Rule.objects.create(
            effect=effect,
            kind="model",
            target=target,
            user=alice if who == "alice" else None,
            group=Group.objects.get() if who == "staff" else None,
        )
    offered = {one["name"] for one in page.get("/chat/models/").json()["models"]}
    details = set(page.get("/chat/models/details/").json()["details"])
    openai = {one["id"] for one in api.get("/v1/models").json()["data"]}
    ollama = {one["name"] for one in api.get("/api/tags").json()["models"]}
    assert offered == details == openai == ollama == expected
    assert (catalogue.default_name(alice) in expected) == bool(expected)
    for name in NAMES:
        allowed = name in expected
        assert decisions.allows_model(alice, name) == allowed
        assert (api.get(f"/v1/models/{name}").status_code == 200) == allowed
        show = api.post("/api/show", {"model": name}, "application/json")
        assert (show.status_code, "not found" in show.text) == (
            (200, False) if allowed else (404, True)
        )
        for door in (_asks, _chats, _counts, _admits):
            assert door(alice, name) == allowed, (door, name)


def test_a_denied_model_looks_to_programs_like_a_missing_one(alice: User, api: Client) -> None:
    _deny("model", "big")
    body: dict[str, Any] = {"model": "big:70b", "messages": [{"role": "user", "content": "hi"}]}
    response = api.post("/v1/chat/completions", body, "application/json")
    assert response.status_code == 404
    error = response.json()["error"]
    assert (error["code"], error["param"]) == ("model_not_found", "model")
    assert "does not exist or you do not have access to it" in error["message"]
    assert (
        api.post(
            "/v1/embeddings", {"model": "big:70b", "input": "x"}, "application/json"
        ).status_code
        == 404
    )
    for path, more in (
        ("chat", body),
        ("generate", {"model": "big:70b", "prompt": "hi"}),
        ("embed", {"model": "big:70b", "input": "x"}),
        ("embeddings", {"model": "big:70b", "prompt": "x"}),
    ):
        response = api.post(f"/api/{path}", more, "application/json")
        assert (response.status_code, response.json()) == (
            404,
            {"error": "model 'big:70b' not found"},
        ), path
    assert not Generation.objects.exists()


def test_a_denied_api_refuses_keys_and_their_creation(
    alice: User, api: Client, page: Client
) -> None:
    rule = _deny("feature", "api", group=Group.objects.get())
    for path in ("/v1/models", "/api/tags"):
        response = api.get(path)
        assert response.status_code == 403
        assert "The API is not enabled for you" in response.text
    assert api.get("/v1/models").json()["error"]["code"] == "not_allowed"
    assert "Create key" not in page.get("/accounts/keys/").text
    made = page.post("/accounts/keys/", {"name": "x", "days": 0, "scopes": ["chat"]})
    assert made.status_code == 403
    assert "The API is not enabled for you" in made.text
    with pytest.raises(CommandError, match="policy explain alice"):
        call_command("apikey", "create", "alice", stdout=io.StringIO())
    rule.delete()
    assert api.get("/v1/models").status_code == 200
    assert "Create key" in page.get("/accounts/keys/").text


def test_denied_features_are_refused_on_the_page(alice: User, page: Client) -> None:
    turn = turns.make(alice, Send("r", "hi", "tiny:latest"))
    conversation = turn.conversation.pk
    Message.objects.filter(pk=turn.answer.pk).update(content="Hello")
    for feature in ("attachments", "sharing", "export", "import", "assistants"):
        _deny("feature", feature)
    begun = page.post("/chat/attachments/", {"name": "a.txt", "size": 1}, "application/json")
    answers = {
        "attachments": begun,
        "sharing": page.post(f"/chat/conversations/{conversation}/share/", {}, "application/json"),
        "export": page.get(f"/chat/export/{conversation}/"),
        "import": page.post("/chat/import/", [], "application/json"),
    }
    for feature, response in answers.items():
        assert response.status_code == 403, feature
        assert response.json()["error"]["code"] == "not_allowed"
        assert response.json()["error"]["feature"] == feature
        assert "Ask an administrator" in response.json()["error"]["message"]
    assert page.get("/chat/export/").status_code == 403
    assert page.get("/accounts/assistants/").status_code == 403
    with pytest.raises(FeatureNotAllowed):
        turns.make(alice, Send("s", "hi", "tiny:latest", attachments=(str(uuid.uuid4()),)))


def test_two_answers_at_once_are_a_comparison(alice: User) -> None:
    turn = turns.make(alice, Send("r", "hi", "tiny:latest"))
    again = Regenerate("s", str(turn.answer.pk), "small:1b")
    _deny("feature", "compare")
    with pytest.raises(FeatureNotAllowed):
        turns.make(alice, again)
    Generation.objects.update(state="done")
    turns.make(alice, again)  # a later answer of another model is none


def test_a_denied_assistant_is_neither_offered_nor_used(alice: User) -> None:
    made = [Assistant.objects.create(name=n, model="tiny:latest", system="x") for n in "ab"]
    rule = _deny("assistant", str(made[0].pk))
    offered = presets.offered(alice, set(NAMES))
    assert [one.name for one in offered] == ["b"]
    command = Send("r", "hi", "tiny:latest", assistant=str(made[0].pk))
    with pytest.raises(AssistantNotAllowed):
        turns.make(alice, command)
    rule.delete()
    turns.make(alice, command)
    _deny("feature", "assistants", user=alice)
    assert presets.offered(alice, set(NAMES)) == []
    with pytest.raises(FeatureNotAllowed):
        turns.make(alice, Send("s", "hi", "tiny:latest", assistant=str(made[1].pk)))


def _admitted(user: User, *, text: str = "hi", max_tokens: int | None = None) -> Any:
    job = QueuedRequest(
        str(uuid.uuid4()),
        str(user.pk),
        "tiny:latest",
        (ChatMessage("user", text),),
        0.0,
        params=SamplingParams(max_tokens=max_tokens),
    )
    return admission.admit(job, context=32_768)


def test_limits_bound_a_request(alice: User) -> None:
    plain = _admitted(alice, max_tokens=7)
    assert (plain.job.params.max_tokens, plain.job.options.context) == (7, 0)
    assert (plain.weight, plain.priority, plain.open_requests) == (1.0, 0, None)
    Limit.objects.create(
        longest_context=2000, longest_answer=500, share_weight=2, priority=1, open_requests=3
    )
    found = _admitted(alice)
    assert (found.job.params.max_tokens, found.job.options.context) == (500, 2000)
    assert (found.weight, found.priority, found.open_requests) == (2.0, 1, 3)
    assert _admitted(alice, max_tokens=7).job.params.max_tokens == 7
    _deny("feature", "priority")
    assert _admitted(alice).priority == 0
    Limit.objects.all().delete()
    _deny("feature", "long_contexts")
    assert _admitted(alice).job.options.context == 8192


def test_a_refused_turn_leaves_nothing(alice: User) -> None:
    Quota.objects.create(unit="requests", period="day", amount=1)

    async def send(id: str) -> turns.Turn:
        return await submit(runtime(), alice, Send(id, "hi", "tiny:latest"))

    first = _run(lambda: send("one"))
    assert Reservation.objects.get().generation == first.generation.pk
    with pytest.raises(ChatsiteError) as refusal:
        _run(lambda: send("two"))
    assert refusal.value.code == "quota_reserved"
    assert (Conversation.objects.count(), Message.objects.count()) == (1, 2)
    assert Reservation.objects.count() == 1
    again = _run(lambda: send("one"))  # idempotent: the same request, the same reservation
    assert again.generation.pk == first.generation.pk
    assert Reservation.objects.count() == 1


def test_a_request_that_is_not_queued_gives_its_reservation_back(
    alice: User, settings: Any
) -> None:
    Quota.objects.create(unit="tokens", period="day", amount=100_000)
    settings.ENV = settings.ENV.model_copy(update={"queue_max_per_person": 0})
    with pytest.raises(ChatsiteError):
        _run(lambda: submit(runtime(), alice, Send("one", "hi", "tiny:latest")))
    with suppress(ChatsiteError):
        _asks(alice, "tiny:latest")
    assert not Reservation.objects.exists()
    [state] = quotas.states(alice)
    assert (state.used, state.reserved) == (0, 0)


def test_openai_headers_and_a_true_retry_after(alice: User, api: Client) -> None:
    assert "x-ratelimit-limit-requests" not in api.get("/v1/models").headers
    Quota.objects.create(unit="requests", period="day", amount=2)
    Quota.objects.create(unit="tokens", period="month", amount=50_000)
    Quota.objects.create(unit="tokens", period="hour", amount=9_000)
    for path in ("/v1/models", "/api/tags"):
        headers = api.get(path).headers
        assert headers["x-ratelimit-limit-requests"] == "2"
        assert headers["x-ratelimit-remaining-requests"] == "2"
        assert headers["x-ratelimit-limit-tokens"] == "9000"
        assert headers["x-ratelimit-remaining-tokens"] == "9000"
        assert headers["x-ratelimit-reset-tokens"].endswith("s")
    for _request in range(2):
        id = uuid.uuid4()
        quotas.reserve(id, alice.pk, quotas.Estimate(100, 10))
        quotas.settle(id, 70)
    body: dict[str, Any] = {"model": "tiny", "messages": [{"role": "user", "content": "hi"}]}
    for path in ("/v1/chat/completions", "/api/chat"):
        response = api.post(path, body, "application/json")
        assert response.status_code == 429
        [state] = [s for s in quotas.states(alice) if s.quota.unit == "requests"]
        assert abs(int(response["Retry-After"]) - quotas.seconds_until(state.renews_at)) <= 1
        assert response["X-Should-Retry"] == "false"
        assert response["x-ratelimit-remaining-requests"] == "0"
        assert response["x-ratelimit-remaining-tokens"] == str(9_000 - 140)
        assert "renews at" in response.text
    error = api.post("/v1/chat/completions", body, "application/json").json()["error"]
    assert (error["code"], error["type"]) == ("insufficient_quota", "rate_limit_error")
    assert not Generation.objects.exists()


def test_features_have_stable_names() -> None:
    assert [feature.value for feature in Feature] == [
        *("api", "attachments", "sharing", "compare", "export", "import"),
        *("long_contexts", "priority", "assistants", "knowledge", "temporary_chats"),
    ]
