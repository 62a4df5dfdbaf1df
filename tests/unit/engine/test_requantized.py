"""When a copy with faster weights is made, chosen, remembered and removed. The copies are made by
nobody here; `tests/integration/engine/test_requantized.py` makes real ones."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from chatsite.engine import autotune, requantized, tuning_store
from chatsite.engine.probe import Measured
from chatsite.engine.requantized import Copy
from chatsite.engine.tuning import Tuning
from chatsite.engine.tuning_store import Tried

# Milliseconds per prompt token and per answer token, by (weights, extra buffers).
FILE, FILE_EXTRA, COPY, COPY_EXTRA = ("", False), ("", True), ("Q8_0", False), ("Q8_0", True)
SLOW = {FILE: (4.0, 10.0), FILE_EXTRA: (4.0, 10.0)}
FASTER = {**SLOW, COPY: (2.0, 8.0), COPY_EXTRA: (1.6, 6.0)}
HARDLY = {**SLOW, COPY: (3.6, 9.0), COPY_EXTRA: (3.6, 9.0)}


@dataclass(frozen=True)
class ScriptedCopy(Copy):
    """``problem`` is why it can't be made; ``made`` counts; ``hurry`` comes while it is made."""

    problem: str = ""
    made: list[Path] = field(default_factory=list)
    hurry: asyncio.Event | None = None
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    async def make(self, source: Path, threads: int) -> str:
        if self.hurry is not None:
            self.hurry.set()
            try:
                await asyncio.Event().wait()
            finally:
                self.ended.set()
        self.made.append(source)
        if not self.problem:
            self.folder.mkdir(exist_ok=True)
            self.path.write_bytes(b"weights")
        return self.problem


class Probes:
    def __init__(self, speeds: dict[tuple[str, bool], tuple[float, float]]) -> None:
        self.speeds = speeds
        self.asked: list[tuple[str, bool]] = []

    async def __call__(self, tuning: Tuning, depth: int, bulk: int) -> Tried:
        key = (tuning.weights, tuning.use_extra_bufts)
        self.asked.append(key)
        if key not in self.speeds:
            return Tried(tuning, problem="killed by SIGSEGV")
        slower = 1.5 if tuning.flash_attention else 1.0
        prefill, decode = self.speeds[key]
        return Tried(tuning, Measured(slower * prefill, slower * decode, depth))


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "tuning.json"


@pytest.fixture
def copy(tmp_path: Path) -> ScriptedCopy:
    return ScriptedCopy(tmp_path / "copies", "d")


async def tune(
    store: Path, probes: Probes, copy: Copy | None, hurry: asyncio.Event | None = None
) -> autotune.Tuned:
    return await autotune.tune(
        Path("/m"), "d", 2, store=store, prober=probes, copy=copy, hurry=hurry
    )


async def test_a_faster_copy_is_made_once_and_remembered(store, copy):
    probes = Probes(FASTER)
    chosen = await tune(store, probes, copy)
    assert chosen == (Tuning(True, False, 2, weights="Q8_0"), True)
    assert (copy.made, copy.exists) == ([Path("/m")], True)
    assert await tune(store, probes, copy) == chosen
    assert probes.asked == [FILE, FILE_EXTRA, FILE, COPY, COPY_EXTRA]
    assert len(copy.made) == 1


async def test_a_copy_that_is_hardly_faster_is_not_worth_its_memory(store, copy):
    probes = Probes(HARDLY)
    assert await tune(store, probes, copy) == (Tuning(False, False, 2), True)
    assert not copy.exists
    await tune(store, probes, copy)
    assert len(copy.made) == 1


async def test_a_close_race_is_run_again_and_the_better_times_count(store, copy):
    """The machine was slow when the copy was measured first."""
    speeds = dict(HARDLY)
    probes = Probes(speeds)
    asked = probes.__call__

    async def prober(tuning: Tuning, depth: int, bulk: int) -> Tried:
        found = await asked(tuning, depth, bulk)
        if tuning.weights and tuning.use_extra_bufts:
            speeds.update(FASTER)
        return found

    found = await autotune.tune(Path("/m"), "d", 2, store=store, prober=prober, copy=copy)
    assert found.tuning.weights == "Q8_0"
    assert probes.asked == [FILE, FILE_EXTRA, FILE, COPY, COPY_EXTRA, FILE, COPY]
    known = tuning_store.find(store, "d", 2)
    assert known
    assert len(known.tried) == 5


async def test_without_a_copy_the_best_of_the_file_itself_is_taken(store, copy):
    await tune(store, Probes(FASTER), copy)
    probes = Probes(FASTER)
    assert await tune(store, probes, None) == (Tuning(False, False, 2), True)
    assert probes.asked == []


async def test_a_lost_copy_is_made_again_without_measuring(store, copy):
    chosen = await tune(store, Probes(FASTER), copy)
    copy.remove()
    probes = Probes(FASTER)
    assert await tune(store, probes, copy) == chosen
    assert probes.asked == []
    assert copy.exists


async def test_what_was_measured_before_there_were_copies_is_not_measured_again(store, copy):
    await tune(store, Probes(FASTER), None)
    probes = Probes(FASTER)
    assert (await tune(store, probes, copy)).tuning.weights == "Q8_0"
    assert probes.asked == [COPY, COPY_EXTRA]


async def test_a_copy_that_can_not_be_made_is_not_tried_again(store, tmp_path):
    copy = ScriptedCopy(tmp_path / "copies", "d", problem="No space left on device")
    for _ in range(2):
        assert await tune(store, Probes(FASTER), copy) == (Tuning(False, False, 2), True)
    assert len(copy.made) == 1
    known = tuning_store.find(store, "d", 2)
    assert known
    assert "weights copied as Q8_0, no copy: No space left on device" in str(known.tried[-1])


async def test_extra_buffers_that_kill_are_not_tried_on_the_copy(store, copy):
    probes = Probes({FILE: (4.0, 10.0), COPY: (2.0, 8.0)})
    assert (await tune(store, probes, copy)).tuning == Tuning(False, False, 2, weights="Q8_0")
    assert COPY_EXTRA not in probes.asked


async def test_nobody_waits_for_a_copy(store, tmp_path):
    hurry = asyncio.Event()
    copy = ScriptedCopy(tmp_path / "copies", "d", hurry=hurry)
    assert await tune(store, Probes(FASTER), copy, hurry) == (Tuning(False, False, 2), False)
    assert (copy.made, copy.ended.is_set()) == ([], True)


def test_only_copies_of_models_that_are_here_stay(tmp_path):
    for name in ("a-Q8_0.gguf", "b-Q8_0.gguf", "a-Q8_0.part", "note.txt"):
        (tmp_path / name).touch()
    requantized.tidy(tmp_path, {"a"})
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a-Q8_0.gguf", "note.txt"]
    requantized.tidy(tmp_path / "no", {"a"})
