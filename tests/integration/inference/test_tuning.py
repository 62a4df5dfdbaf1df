"""Models are tuned at no cost to users.

The children that answer are real and compute nothing; the test decides how long a measurement
takes.
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import psutil
import pytest

from chatsite.capacity.offload_layout import Option
from chatsite.engine.contract.offload import Offload
from chatsite.engine.contract.tuning import Tuning
from chatsite.engine.tuning import autotune
from chatsite.engine.tuning.autotune import Tuned
from chatsite.inference import model_spec as specs
from chatsite.inference import placement as placements
from chatsite.inference.model_spec import ModelSpec
from chatsite.inference.tuner import Tuner
from chatsite.sandbox import spawn
from tests.support.site import SIZE, Site

PLAIN = autotune.plain(1)
FOUND = Tuning(True, False, 1)


class Bench:
    """Measures until it is interrupted or ``finish`` is called.

    ``most`` is the maximum number of concurrent measurements; ``asked`` are the models; ``known``
    are the results.
    """

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.known: dict[str, Tuning] = {}
        self.active = self.most = 0
        self._finish = asyncio.Event()

    def known_tuning(self, spec: ModelSpec, offload: Offload) -> Tuned:
        found = self.known.get(spec.digest)
        return Tuned(found or PLAIN, complete=found is not None)

    async def tuning_of(
        self, spec: ModelSpec, on_progress: object, *, offload: Offload, hurry: asyncio.Event
    ) -> Tuned:
        self.asked.append(spec.name)
        self.active += 1
        self.most = max(self.most, self.active)
        waits = [asyncio.ensure_future(event.wait()) for event in (hurry, self._finish)]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            self.active -= 1
            for one in waits:
                one.cancel()
        if hurry.is_set():
            return Tuned(PLAIN, complete=False)
        self.known[spec.digest] = FOUND
        return Tuned(FOUND, complete=True)

    async def finish(self, site: Site) -> None:
        self._finish.set()
        while self.active:
            await asyncio.sleep(0.01)
        self._finish.clear()


@pytest.fixture
async def bench(monkeypatch: pytest.MonkeyPatch) -> Bench:
    found = Bench()
    monkeypatch.setattr(specs, "known_tuning", found.known_tuning)
    monkeypatch.setattr(specs, "tuning_of", found.tuning_of)
    monkeypatch.setattr(placements, "QUIET_SECONDS", 0.0)
    return found


@pytest.fixture
def roomy(site: Site) -> Site:
    site.room = (100 * SIZE, 100 * SIZE)
    return site


async def tend(site: Site, times: int = 1) -> None:
    for _ in range(times):
        await site.placement.housekeep()
        await asyncio.sleep(0)


async def test_t100_a_model_is_loaded_with_the_known_tuning_and_measured_later(roomy, bench):
    seen = set()
    runner = await roomy.placement.runner_for("a")
    while runner.state != "ready":
        seen.add(runner.state)
        roomy.changed.clear()
        await roomy.changed.wait()
    assert (runner.tuning, runner.rough, bench.asked) == (PLAIN, True, [])
    assert seen <= {"waiting", "loading"}


async def test_t100_one_model_is_measured_at_a_time_and_stays_loaded_meanwhile(roomy, bench):
    for name in "abc":
        await roomy.load(name)
    await tend(roomy, 5)
    assert (bench.asked, bench.most) == (["a"], 1)
    for status in roomy.placement.statuses():
        assert status.state == "ready"
    a = roomy.placement.loaded(roomy.specs["a"].digest)
    assert a.free_slots == 2
    assert roomy.placement.committed >= 4 * SIZE  # the measurement has its own memory
    for _ in range(3):
        await bench.finish(roomy)
        await tend(roomy)
        for name in "abc":  # one is reloaded with the result
            await roomy.load(name)
        await tend(roomy)
    assert (bench.asked, bench.most) == (["a", "b", "c"], 1)


async def test_t100_any_waiting_request_ends_it_before_anything_else(roomy, bench):
    await roomy.load("a")
    await tend(roomy)
    assert bench.active == 1
    await roomy.placement.interrupt_tuning()
    assert bench.active == 0
    # While any request waits, nothing is measured.
    roomy.placement.set_waiting_models({"unknown"})
    await tend(roomy, 3)
    assert bench.asked == ["a"]


async def test_t100_loading_a_model_ends_it(roomy, bench):
    await roomy.load("a")
    await tend(roomy)
    assert bench.active == 1
    await roomy.placement.runner_for("b")
    assert bench.active == 0


async def test_t100_nothing_is_measured_beside_an_answer_of_any_model(roomy, bench, monkeypatch):
    a, b = await roomy.load("a"), await roomy.load("b")
    answer: Any = SimpleNamespace(began=0.0)
    b.running["x"] = answer
    await tend(roomy, 3)
    assert bench.asked == []
    b.running.clear()
    with monkeypatch.context() as patch:
        patch.setattr(type(a), "writing", True)  # a title
        await tend(roomy, 3)
    assert bench.asked == []
    await tend(roomy)
    assert bench.asked == ["a"]


async def test_t100_an_answer_that_has_begun_ends_it(roomy, bench):
    await roomy.load("a")
    b = await roomy.load("b")
    await tend(roomy)
    assert bench.active == 1
    answer: Any = SimpleNamespace(began=0.0)
    b.running["x"] = answer
    await tend(roomy)
    assert bench.active == 0
    b.running.clear()


async def test_t100_an_unused_model_is_reloaded_with_the_measured_tuning(roomy, bench):
    a = await roomy.load("a")
    first = a.pid
    await tend(roomy)
    await bench.finish(roomy)
    await tend(roomy)
    again = await roomy.load("a")
    assert again is not a
    assert (again.tuning, again.rough) == (FOUND, False)
    assert again.pid != first
    await tend(roomy, 3)
    assert bench.asked == ["a"]


async def test_t100_conversations_keep_their_cache_until_they_are_idle(roomy, bench, monkeypatch):
    a = await roomy.load("a")
    a.used = True
    await tend(roomy, 2)
    assert bench.asked == []  # it was used a moment ago
    a.last_used -= 61
    await tend(roomy)
    await bench.finish(roomy)
    await tend(roomy, 3)
    assert roomy.placement.loaded(a.spec.digest) is a
    a.last_used -= 600
    await tend(roomy)
    again = await roomy.load("a")
    assert again is not a
    assert again.used
    assert again.last_used == a.last_used


async def test_t100_a_model_unloaded_for_tuning_gives_way_to_another_immediately(site, bench):
    """There is memory for one model."""
    site.room = (SIZE, 100 * SIZE)
    a = await site.load("a")
    await tend(site)
    assert bench.active == 1
    assert site.placement.loaded(a.spec.digest) is None
    assert [(s.name, s.state) for s in site.placement.statuses()] == [("a", "tuning")]
    b = await site.load("b")
    assert bench.active == 0
    b.used = True
    # It must not evict the other model to come back.
    await tend(site, 3)
    assert site.placement.loaded(b.spec.digest) is b
    assert site.loaded == {"b"}
    assert bench.asked == ["a"]


async def test_t100_a_request_for_the_unloaded_model_reloads_it_immediately(site, bench):
    site.room = (SIZE, 100 * SIZE)
    await site.load("a")
    await tend(site)
    assert bench.active == 1
    site.placement.set_waiting_models({"a"})
    await site.placement.interrupt_tuning()
    again = await site.load("a")
    used = again.last_used
    assert (again.free_slots, bench.active) == (2, 0)
    await tend(site, 2)
    assert site.placement.loaded(again.spec.digest) is again
    assert again.last_used == used


async def test_t100_a_model_in_use_is_not_unloaded_for_tuning(site, bench):
    site.room = (SIZE, 100 * SIZE)
    a = await site.load("a")
    a.used = True
    a.last_used -= 300
    await tend(site, 3)
    assert bench.asked == []
    a.last_used -= 400
    await tend(site)
    assert bench.asked == ["a"]
    await bench.finish(site)
    await tend(site)
    again = await site.load("a")
    assert again.tuning == FOUND


async def test_t100_a_model_that_loads_again_for_it_can_be_evicted(site, bench):
    site.room = (SIZE, 100 * SIZE)
    await site.load("a")
    await tend(site)
    await bench.finish(site)
    (site.specs["a"].path).write_text("scripted\n@load-ms 60000\n")
    await tend(site)
    assert [(s.name, s.state) for s in site.placement.statuses()] == [("a", "loading")]
    site.placement.set_waiting_models({"b"})
    b = await site.placement.runner_for("b")
    assert b
    assert site.placement.loaded(b.spec.digest) is b
    assert site.placement.loaded(site.specs["a"].digest) is None


async def test_page_48_a_new_model_is_measured_before_its_first_request(roomy, bench):
    roomy.placement.tune_soon("a")
    await tend(roomy)
    assert bench.asked == ["a"]
    assert roomy.placement.loaded(roomy.specs["a"].digest) is None
    await bench.finish(roomy)
    await tend(roomy, 3)
    runner = await roomy.load("a")
    assert (runner.tuning, runner.rough) == (FOUND, False)
    roomy.placement.tune_soon("a")
    roomy.placement.tune_soon("unknown")
    await tend(roomy, 3)
    assert bench.asked == ["a"]


async def test_page_48_a_measurement_that_gave_way_is_repeated_later(roomy, bench, monkeypatch):
    roomy.placement.tune_soon("a")
    await tend(roomy)
    await roomy.placement.interrupt_tuning()
    await tend(roomy, 2)
    assert bench.asked == ["a"]
    monkeypatch.setattr(Tuner, "may_try", lambda self, digest: True)
    await tend(roomy)
    assert bench.asked == ["a", "a"]


async def test_page_48_no_model_is_unloaded_to_measure_a_new_one(site, bench):
    site.room = (SIZE, 100 * SIZE)
    bench.known[site.specs["a"].digest] = FOUND
    a = await site.load("a")
    site.placement.tune_soon("b")
    await tend(site, 3)
    assert bench.asked == []
    assert site.placement.loaded(a.spec.digest) is a


@pytest.mark.slow
async def test_t100_real_models_are_measured_one_at_a_time(
    site: Site, starter_model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Real probes of a real model, and what remains of them when a request arrives."""
    monkeypatch.setattr(placements, "QUIET_SECONDS", 0.0)

    def probes() -> int:
        found = 0
        for child in psutil.Process().children(recursive=True):
            try:
                found += "--probe" in child.cmdline()
            except psutil.Error:
                continue
        return found

    for name in "ab":
        site.change(name, path=starter_model, backend="llama", context=512)
    site.room = (100 * SIZE, 100 * SIZE)
    site.change("a", options=(Option(512, SIZE, 0),))
    site.change("b", options=(Option(512, SIZE, 0),))
    for name in "ab":
        runner = await site.load(name)
        assert runner
        assert runner.rough
    most = 0
    while most == 0:
        await tend(site)
        most = max(most, probes())
        await asyncio.sleep(0.02)
    for _ in range(20):
        await tend(site)
        most = max(most, probes())
        await asyncio.sleep(0.02)
    assert most == 1
    await site.placement.interrupt_tuning()
    assert probes() == 0
    assert {s.state for s in site.placement.statuses()} == {"ready"}


def test_a_probe_uses_the_size_that_the_model_is_served_with(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[str] = []

    async def run(arguments: list[str], seconds: float) -> spawn.Result:
        asked.extend(arguments)
        return spawn.Result(1, b"", ["failed to allocate the KV cache"])

    monkeypatch.setattr(spawn, "run", run)
    spec = ModelSpec(
        "m", "d", tmp_path / "m", 16384, 3, 2, 200.0, 0, "llama", tmp_path / "tuning.json"
    )
    tuned = asyncio.run(specs.tuning_of(spec, hurry=asyncio.Event()))
    assert tuned == (autotune.plain(2), False)
    for name, value in (("--context", "16384"), ("--slots", "3"), ("--depth", "2048")):
        assert asked[asked.index(name) + 1] == value
