"""API requests over a real queue and database."""

from __future__ import annotations

import asyncio
from typing import Any
from unittest.mock import Mock

import pytest
from django.db import OperationalError
from redis.asyncio import Redis

from chatsite.accounts.keys import Caller
from chatsite.accounts.models import User
from chatsite.answers import outcome as outcomes
from chatsite.answers.runtime import close_runtime, runtime
from chatsite.api.core import requests
from chatsite.conversations.models import Generation
from chatsite.engine.contract.messages import ChatMessage
from models_admin.models import ModelName, ModelVersion


@pytest.fixture
def caller(transactional_db: None) -> Caller:
    version = ModelVersion.objects.create(digest="a" * 64, size=1)
    ModelName.objects.create(name="tiny:latest", version=version)
    return Caller(User.objects.create_user("alice", password="x"), None)


@pytest.mark.parametrize("failures", [1, 3])
async def test_t101_a_disconnected_request_is_stopped_once_it_can_be_saved(
    caller: Caller, redis: Redis, monkeypatch: pytest.MonkeyPatch, failures: int
) -> None:
    save_end, left = outcomes.save_end, [OperationalError("locked")] * failures

    async def late(*args: Any, **kwargs: Any) -> object:
        if left:
            raise left.pop()
        return await save_end(*args, **kwargs)

    monkeypatch.setattr(outcomes, "save_end", late)
    monkeypatch.setattr(requests, "STOP_RETRY_SECONDS", (0,) * failures)
    unhandled = Mock()
    asyncio.get_running_loop().set_exception_handler(unhandled)
    messages = (ChatMessage("user", "hi"),)
    async with requests.ask(runtime(), caller, "tiny:latest", messages) as answer:
        pass  # the client disconnects; the failure does not reach it
    async with asyncio.timeout(60):
        while requests.open_stops:
            await asyncio.gather(*requests.open_stops)
    row = await Generation.objects.aget()
    assert row.state == "cancelled"
    assert (await runtime().queue.state(answer.id)).state is None
    unhandled.assert_not_called()
    await close_runtime()
