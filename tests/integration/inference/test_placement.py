"""Models that share the memory of a host, with real children that compute nothing."""

from __future__ import annotations

import asyncio
import dataclasses
import time
from types import SimpleNamespace
from typing import Any

import pytest

from chatsite.answers.queue.queue import Lease
from chatsite.answers.queue.request import QueuedRequest
from chatsite.capacity.offload_layout import Option
from chatsite.conversations.models import GenerationState
from chatsite.engine.contract import frames
from chatsite.engine.contract.messages import ChatMessage, CountTokens, PromptOptions
from chatsite.engine.contract.tuning import Tuning
from chatsite.engine.tuning.autotune import Tuned
from chatsite.engine.tuning.requantized import Copy
from chatsite.errors import ModelDoesNotFit, ModelUnavailable, NoPlaceForModel
from chatsite.hosts.status import HostMemory, HostStatus, ModelStatus, announce, fits_elsewhere
from chatsite.inference import model_spec as specs
from chatsite.inference.model_spec import ModelSpec
from chatsite.inference.running_request import RunningRequest
from chatsite.stream.publish import Writer
from tests.support.site import MIB, SIZE, Site


async def test_an_estimate_is_replaced_by_the_childs_real_memory(site: Site) -> None:
    first = await site.placement.runner_for("a")
    assert first
    assert site.placement.committed == SIZE
    # Both sizes are reserved before either is loaded, so a third has to wait.
    second = await site.placement.runner_for("b")
    assert second
    busy: Any = SimpleNamespace(began=0.0)
    first.running["x"] = second.running["x"] = busy
    assert await site.placement.runner_for("c") is None
    assert [m.state for m in site.placement.statuses() if m.name == "c"] == ["waiting"]
    await site.load("a")
    await site.load("b")
    assert 0 < site.placement.committed < SIZE
    assert await site.load("c")
    assert site.loaded == {"a", "b", "c"}
    first.running.clear()
    second.running.clear()


async def test_the_longest_idle_one_goes_unless_it_is_pinned(site: Site) -> None:
    a, b = await site.load("a"), await site.load("b")
    assert a
    assert b
    a.last_used, b.last_used = 1, 2
    room = 2 * SIZE - a.promised * 3 // 2
    site.change("c", options=(Option(4096, room, 0),))
    assert await site.load("c")
    assert site.loaded == {"b", "c"}

    await site.placement.unload(site.specs["c"].digest)
    site.change("b", pinned=True)
    await site.load("b")
    site.change("c", options=(Option(4096, 2 * SIZE, 0),))
    with pytest.raises(ModelDoesNotFit) as caught:
        await site.load("c")
    assert caught.value.details["needed_mb"] == 600
    assert 0 < caught.value.details["room_mb"] < 600
    assert "600 MB" in str(caught.value)
    refused = next(model for model in site.placement.statuses() if model.name == "c")
    assert refused.error["code"] == "model_does_not_fit"
    assert site.placement.loaded(b.spec.digest) is b


async def test_memory_taken_by_other_programs_is_not_reported_as_pinned_models(site: Site) -> None:
    budget, _available = site.room
    site.room = (budget, 0)
    with pytest.raises(ModelDoesNotFit) as caught:
        await site.load("c")
    assert caught.value.details["room_mb"] == 0
    site.room = (budget, budget)
    site.change("a", pinned=True, options=(Option(4096, budget, 0),))
    await site.placement.runner_for("a")
    with pytest.raises(NoPlaceForModel):
        await site.load("c")


async def test_no_request_waits_forever_for_a_model_that_is_always_busy(site: Site, monkeypatch):
    site.room = (SIZE, 100 * SIZE)
    busy = await site.load("a")
    assert busy
    site.change("b", options=(Option(4096, SIZE, 0),))
    site.placement.set_waiting_models({"a", "b"})
    # It is idle, but requests for it are waiting.
    assert await site.load("b") is None
    assert busy.free_slots == 2
    monkeypatch.setattr("chatsite.inference.placement.PATIENCE_SECONDS", 0)
    assert await site.load("b") is None
    assert busy.free_slots == 0
    # The waiting requests are gone, so nothing changes.
    site.placement.set_waiting_models({"a"})
    assert busy.free_slots == 2
    site.placement.set_waiting_models({"a", "b"})
    assert await site.load("b") is None
    assert await site.load("b")
    assert site.loaded == {"b"}


async def test_a_smaller_context_is_reported(site: Site) -> None:
    site.change("a", options=(Option(4096, 3 * SIZE, 0), Option(2048, SIZE, 0)))
    assert await site.load("a")
    (found,) = site.placement.statuses()
    assert (found.context, found.wanted_context) == (2048, 4096)


async def test_caches_share_the_memory_that_models_leave(site: Site) -> None:
    site.change("a", cache_bytes=10 * SIZE)
    a = await site.load("a")
    assert a
    await site.placement.housekeep()
    alone = a.cache_bytes
    assert SIZE < alone < 2 * SIZE
    assert site.placement.committed <= 2 * SIZE
    # The cache's budget is no reason to unload a model, or to wait.
    site.change("b", cache_bytes=50 * MIB)
    b = await site.load("b")
    assert b
    await site.placement.housekeep()
    assert site.loaded == {"a", "b"}
    assert b.cache_bytes == 50 * MIB
    assert a.cache_bytes < alone
    assert site.placement.committed <= 2 * SIZE


async def test_an_administrator_changes_the_size(site: Site) -> None:
    first = await site.load("a")
    site.change("a", slots=1)
    second = await site.load("a")
    assert second is not first
    assert second
    assert second.spec.slots == 1


async def test_unused_models_leave_after_their_time(site: Site) -> None:
    site.change("a", keep_alive=60)
    runner = await site.load("a")
    assert runner
    await site.load("b")
    await site.placement.housekeep()
    assert site.loaded == {"a", "b"}
    expires = {model.name: model.expires_at for model in site.placement.statuses()}
    assert expires["b"] is None
    assert expires["a"] == pytest.approx(time.time() + 60, abs=30)

    # A request may set a shorter or longer time than the setting.
    runner.keep_alive = 0
    await site.placement.housekeep()
    assert site.loaded == {"b"}


async def test_a_version_without_a_name_is_unloaded(site: Site) -> None:
    old = await site.load("a")
    assert old
    site.change("a", digest="d" * 64)
    assert await site.load("a") is not old
    await site.placement.housekeep()
    assert site.placement.loaded("a" * 64) is None
    assert site.placement.loaded("d" * 64)


async def test_models_quarantined_during_housekeeping_do_not_break_it(
    site: Site, monkeypatch
) -> None:
    for name in "ab":
        assert await site.load(name)

    async def quarantined(name: str) -> ModelSpec:
        site.placement.forget(name * 64)
        raise ModelUnavailable

    runners = [site.placement.loaded(name * 64) for name in "ab"]
    monkeypatch.setattr(site, "resolve", quarantined)
    await site.placement.housekeep()
    assert not site.loaded
    for runner in runners:
        assert runner
        await runner.stop()


async def test_a_child_that_hangs_is_ended_and_its_answers_given_back(
    site: Site, monkeypatch
) -> None:
    lost: asyncio.Future[list[RunningRequest]] = asyncio.get_running_loop().create_future()
    runner = await site.load("a")
    assert runner
    runner.effects = dataclasses.replace(runner.effects, died=lost.set_result)
    await site.placement.housekeep()
    assert runner.state == "ready"
    message = ChatMessage("user", "one two @hang 0")
    job = QueuedRequest(id="1", owner="1", model="a", messages=(message,), queued_at=time.time())
    beginning = asyncio.create_task(asyncio.sleep(0, result=True))
    running = RunningRequest(Lease(job, 1, False), Writer("1", 1), beginning)
    await runner.submit(running)
    monkeypatch.setattr("chatsite.inference.runner.SILENT_SECONDS", -1)
    await site.placement.housekeep()
    assert await lost == [running]


async def test_h6_late_frames_of_a_lost_attempt_are_not_those_of_the_next(site: Site) -> None:
    """The case of a suspended host that gets its own job again: the child answered meanwhile."""
    ended: list[tuple[RunningRequest, Any]] = []
    done = asyncio.Event()

    def end(running: RunningRequest, outcome: Any) -> None:
        ended.append((running, outcome))
        done.set()

    runner = await site.load("a")
    assert runner
    runner.effects = dataclasses.replace(runner.effects, ended=end)
    text = " ".join(f"w{number}" for number in range(40))
    message = ChatMessage("user", f"go @delay-ms 5 @say {text}")
    job = QueuedRequest(id="g", owner="1", model="a", messages=(message,), queued_at=time.time())

    def attempt(number: int) -> RunningRequest:
        saved = asyncio.create_task(asyncio.sleep(0, result=True))
        return RunningRequest(Lease(job, number, False), Writer("g", number), saved)

    await runner.submit(attempt(1))
    await runner.drop("g")
    second = attempt(2)
    await runner.submit(second)
    async with asyncio.timeout(60):
        await done.wait()
    [(running, outcome)] = ended
    assert running is second
    assert (outcome.state, outcome.finish_reason) == (GenerationState.DONE, "stop")
    assert second.writer.full_text().split() == text.split()


async def test_a_request_too_large_for_a_child_fails_alone(site: Site, monkeypatch) -> None:
    ended: list[Any] = []
    runner = await site.load("a")
    assert runner
    runner.effects = dataclasses.replace(
        runner.effects, ended=lambda running, outcome: ended.append(outcome)
    )
    monkeypatch.setattr(frames, "MAX_FRAME", 1000)
    job = QueuedRequest(
        id="1",
        owner="1",
        model="a",
        messages=(ChatMessage("user", "x" * 2000),),
        queued_at=time.time(),
    )
    beginning = asyncio.create_task(asyncio.sleep(0, result=True))
    await runner.submit(RunningRequest(Lease(job, 1, False), Writer("1", 1), beginning))
    assert ended[0].error["code"] == "context_length_exceeded"
    assert runner.idle
    assert runner.state == "ready"
    question = CountTokens("2", job.messages, PromptOptions(), ())
    assert await runner.count_tokens(question) is None


async def test_a_model_that_does_not_fit_may_fit_another_host(redis) -> None:
    error = ModelDoesNotFit(needed_mb=600, room_mb=500, context=512)
    here = HostStatus("here", "h", 1, memory=HostMemory(SIZE, SIZE, 100 * SIZE))
    await announce(redis, here)
    assert not await fits_elsewhere(redis, "here", "a", error)
    await announce(redis, HostStatus("other", "o", 2, memory=HostMemory(SIZE, SIZE, 599 * MIB)))
    assert not await fits_elsewhere(redis, "here", "a", error)
    await announce(redis, HostStatus("other", "o", 2, memory=HostMemory(SIZE, SIZE, 600 * MIB)))
    assert await fits_elsewhere(redis, "here", "a", error)
    assert not await fits_elsewhere(redis, "here", "a", ModelUnavailable())
    # The other host has enough memory in total, but not now: neither waits for the other.
    said = ModelStatus("a", "d", "failed", error=error.as_dict())
    memory = HostMemory(SIZE, SIZE, 600 * MIB)
    await announce(redis, HostStatus("other", "o", 2, models=(said,), memory=memory))
    assert not await fits_elsewhere(redis, "here", "a", error)
    assert await fits_elsewhere(redis, "here", "b", error)


async def test_faster_weights_use_only_available_memory(site: Site, tmp_path) -> None:
    both = (Option(4096, 2 * SIZE, 0, copy=True), Option(4096, SIZE, 0))
    site.change("a", options=both, copy=Copy(tmp_path, "a"))
    a = await site.placement.runner_for("a")
    assert a
    assert a.layout.option.copy
    assert a.spec.copy
    await site.placement.unload(a.spec.digest)
    site.room = (SIZE, 100 * SIZE)
    a = await site.placement.runner_for("a")
    assert a
    assert not a.layout.option.copy
    assert a.spec.copy is None


async def test_a_copy_that_does_not_load_gives_way_to_its_file(site: Site, tmp_path, monkeypatch):
    tuned = Tuned(Tuning(False, False, 1, weights="Q8_0"), complete=True)
    monkeypatch.setattr(specs, "known_tuning", lambda *_: tuned)
    copy = Copy(tmp_path, "a")
    copy.path.write_text("scripted\n@load-fail\n")
    site.change("a", options=(Option(4096, SIZE, 0, copy=True),), copy=copy)
    runner = await site.load("a")
    assert runner
    assert runner.loaded
    assert runner.spec.copy is None
    assert not copy.exists
