"""Settings are measured while nobody waits, and less and less often where somebody always does."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from chatsite.engine import autotune
from chatsite.engine.autotune import Tuned
from chatsite.engine.offload import PROCESSOR
from chatsite.inference.spec import ModelSpec
from chatsite.inference.tuner import Tuner

SPEC = ModelSpec("m", "d", Path("/m"), 512, 2, 1, 200.0, 0, "llama", Path("/t"))


@pytest.fixture
def tuner(monkeypatch: pytest.MonkeyPatch) -> Tuner:
    async def tune(*args: object, hurry: asyncio.Event | None, **kwargs: object) -> Tuned:
        if hurry is not None:
            await hurry.wait()
        return Tuned(autotune.plain(1), complete=hurry is None)

    monkeypatch.setattr(autotune, "tune", tune)
    return Tuner()


async def measured(tuner: Tuner, *, patient: bool = False) -> None:
    task = asyncio.create_task(
        tuner.tuning(SPEC, PROCESSOR, lambda progress: None, patient=patient)
    )
    await asyncio.sleep(0)
    tuner.hurry()
    assert await task == autotune.plain(1)


async def test_the_rest_is_measured_when_it_is_idle_for_long_and_longer_each_time(tuner):
    assert not tuner.due(9e9)
    await measured(tuner)
    assert not tuner.due(59)
    assert not tuner.left_for_it()
    assert tuner.due(60)
    assert tuner.left_for_it()
    assert not tuner.left_for_it()
    await measured(tuner)
    assert not tuner.due(119)
    assert tuner.due(120)
    await measured(tuner, patient=True)
    assert not tuner.due(9e9)
