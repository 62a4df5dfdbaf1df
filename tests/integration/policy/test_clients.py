"""Quotas and denied models as the official clients of OpenAI and Ollama see them."""

from __future__ import annotations

import uuid
from typing import Any

import httpx
import ollama
import openai
import pytest
from asgiref.sync import sync_to_async

from chatsite.accounts import keys
from chatsite.accounts.models import User
from chatsite.answers.runtime import close_runtime
from chatsite.policy import quotas
from chatsite.policy.models import Quota, Rule
from chatsite.web.asgi import application
from models_admin.models import ModelName, ModelVersion

pytestmark = pytest.mark.django_db(transaction=True)

URL = "http://127.0.0.1"


@pytest.fixture
def key(redis: Any) -> str:
    """Return the key of a user whose quota of one request per day is used up."""
    version = ModelVersion.objects.create(digest="a" * 64, size=1)
    for name in ("tiny:latest", "secret:1b"):
        ModelName.objects.create(name=name, version=version)
    alice = User.objects.create_user("alice", password="x")
    Rule.objects.create(effect="deny", kind="model", target="secret", user=alice)
    Quota.objects.create(unit="requests", period="day", amount=1)
    Quota.objects.create(unit="tokens", period="month", amount=1000)
    used = uuid.uuid4()
    quotas.reserve(used, alice.pk, quotas.Estimate(100, 10))
    quotas.settle(used, 60)
    return keys.create(alice)[1]


def _transport() -> httpx.ASGITransport:
    return httpx.ASGITransport(application)  # type: ignore[arg-type]


async def test_openai(key: str) -> None:
    # The types of openai name only its fork of httpx.
    http: Any = httpx.AsyncClient(transport=_transport(), base_url=URL)
    async with openai.AsyncOpenAI(api_key=key, base_url=f"{URL}/v1", http_client=http) as client:
        listed = await client.models.with_raw_response.list()
        assert [model.id for model in listed.parse().data] == ["tiny:latest"]
        assert listed.headers["x-ratelimit-limit-requests"] == "1"
        assert listed.headers["x-ratelimit-remaining-requests"] == "0"
        assert listed.headers["x-ratelimit-remaining-tokens"] == "940"
        messages: Any = [{"role": "user", "content": "hi"}]
        with pytest.raises(openai.RateLimitError) as refusal:
            await client.chat.completions.create(model="tiny", messages=messages)
        assert refusal.value.code == "insufficient_quota"
        states = await sync_to_async(quotas.states)(await User.objects.aget())
        seconds = int(refusal.value.response.headers["retry-after"])
        assert abs(seconds - quotas.seconds_until(states[0].renews_at)) <= 1
        with pytest.raises(openai.NotFoundError) as missing:
            await client.chat.completions.create(model="secret:1b", messages=messages)
        assert missing.value.code == "model_not_found"
        assert "you do not have access" in missing.value.message
    await close_runtime()


async def test_ollama(key: str) -> None:
    client = ollama.AsyncClient(
        host=URL, headers={"Authorization": f"Bearer {key}"}, transport=_transport()
    )
    listed = await client.list()
    assert [model.model for model in listed.models] == ["tiny:latest"]
    for call in (
        client.show("secret:1b"),
        client.chat("secret:1b", [{"role": "user", "content": "hi"}]),
        client.generate("secret:1b", "hi"),
        client.embed("secret:1b", "hi"),
    ):
        with pytest.raises(ollama.ResponseError) as missing:
            await call
        assert missing.value.status_code == 404
        assert missing.value.error == "model 'secret:1b' not found"
    with pytest.raises(ollama.ResponseError) as refusal:
        await client.chat("tiny", [{"role": "user", "content": "hi"}])
    assert refusal.value.status_code == 429
    assert "You have used your quota of 1 requests per day" in refusal.value.error
    await close_runtime()
