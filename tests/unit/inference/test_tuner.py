"""Models are measured one at a time; interrupted measurements end, and retries are limited."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from chatsite.engine.contract.offload import PROCESSOR
from chatsite.engine.tuning import autotune
from chatsite.engine.tuning.autotune import NoTuningWorks, Tuned
from chatsite.inference import model_spec as specs
from chatsite.inference.model_spec import ModelSpec
from chatsite.inference.tuner import Tuner

SPEC = ModelSpec("m", "d", Path("/m"), 512, 2, 1, 200.0, 0, "llama", Path("/t"))
PLAIN = autotune.plain(1)


class Measured:
    """Stands in for the probes: runs until it is interrupted, or ``result`` is set."""

    def __init__(self) -> None:
        self.result: asyncio.Future[Tuned] = asyncio.get_running_loop().create_future()
        self.ended = 0

    async def __call__(self, *args: object, hurry: asyncio.Event, **options: object) -> Tuned:
        waiting = asyncio.ensure_future(hurry.wait())
        waits: list[asyncio.Future[Any]] = [self.result, waiting]
        await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        self.ended += 1
        return self.result.result() if self.result.done() else Tuned(PLAIN, complete=False)


@pytest.fixture
async def measured(monkeypatch: pytest.MonkeyPatch) -> Measured:
    found = Measured()
    monkeypatch.setattr(specs, "tuning_of", found)
    return found


@pytest.fixture
def now(monkeypatch: pytest.MonkeyPatch) -> list[float]:
    """Return the clock, which the test sets."""
    clock = [1000.0]
    monkeypatch.setattr("chatsite.inference.tuner.time.monotonic", lambda: clock[0])
    return clock


async def test_t100_an_interrupted_measurement_has_ended_when_that_returns(measured, now):
    tuner = Tuner()
    tuner.begin(SPEC, PROCESSOR, 5)
    await asyncio.sleep(0)
    assert tuner.running
    assert tuner.running.bytes == 5
    assert tuner.ended() is None
    await tuner.interrupt()
    assert measured.ended == 1
    ended = tuner.ended()
    assert ended
    assert ended.task.result() == (PLAIN, False)
    assert tuner.running is None
    assert tuner.ended() is None
    await tuner.interrupt()  # nothing to interrupt


async def test_t100_there_is_never_a_second_one_beside_it(measured, now):
    tuner = Tuner()
    tuner.begin(SPEC, PROCESSOR, 0)
    with pytest.raises(RuntimeError):
        tuner.begin(SPEC, PROCESSOR, 0)
    await asyncio.sleep(0)
    assert tuner.alone.locked()
    await tuner.interrupt()
    assert not tuner.alone.locked()


async def test_t100_a_model_that_is_always_interrupted_is_tried_ever_less_and_then_never(
    measured, now
):
    tuner = Tuner()
    pauses: list[int] = []
    while tuner.may_try("d") and len(pauses) < 100:
        tuner.begin(SPEC, PROCESSOR, 0)
        await tuner.interrupt()
        assert tuner.ended()
        assert tuner.may_try("another")
        pause = 0
        while not tuner.may_try("d") and pause < 10_000:
            now[0] += 10
            pause += 10
        pauses.append(pause)
    assert pauses[:3] == [60, 120, 240]
    assert max(pauses[:-1]) == 3600
    assert len(pauses) == 12


async def test_a_complete_measurement_may_be_repeated(measured, now):
    tuner = Tuner()
    tuner.begin(SPEC, PROCESSOR, 0)
    measured.result.set_result(Tuned(PLAIN, complete=True))
    while tuner.running and not tuner.running.task.done():
        await asyncio.sleep(0)
    assert tuner.ended()
    assert tuner.may_try("d")


async def test_t100_a_model_that_no_probe_survives_is_not_given_up_for_it(monkeypatch, now):
    async def fails(*args: object, **options: object) -> Tuned:
        raise NoTuningWorks(())

    monkeypatch.setattr(specs, "tuning_of", fails)
    tuner = Tuner()
    tuner.begin(SPEC, PROCESSOR, 0)
    await tuner.interrupt()
    ended = tuner.ended()
    assert ended
    assert ended.task.result() is None
    assert not tuner.may_try("d")
