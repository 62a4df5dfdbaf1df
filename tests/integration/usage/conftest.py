"""Users, and ended generations written directly."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from chatsite.accounts.models import User
from chatsite.conversations.models import Generation, GenerationState
from chatsite.usage import rollup
from tests.integration.chat.conftest import alice, bob, model  # noqa: F401
from tests.support.pages import unbuilt  # noqa: F401

Make = Callable[..., Generation]
NOON = datetime(2026, 6, 10, 12, 0, tzinfo=UTC)


@pytest.fixture
def make(alice: User, monkeypatch: pytest.MonkeyPatch) -> Make:  # noqa: F811
    """Return a function that saves an ended generation: of alice, at `NOON`, by default.

    Hours are kept for longer, since `NOON` is long ago.
    """
    monkeypatch.setattr(rollup, "HOURS_KEPT", timedelta(days=20_000))

    def save(owner: User | None = None, at: datetime = NOON, **values: Any) -> Generation:
        timings = {"queue": 100.0, "ttft": 500.0, "decode": 1000.0, "total": 1600.0}
        return Generation.objects.create(
            **{
                "owner": owner or alice,
                "model": "tiny:latest",
                "state": GenerationState.DONE,
                "prompt_tokens": 100,
                "cached_tokens": 40,
                "completion_tokens": 20,
                "timings": timings,
                "queued_at": at,
                "finished_at": at + timedelta(seconds=2),
                **values,
            }
        )

    return save
