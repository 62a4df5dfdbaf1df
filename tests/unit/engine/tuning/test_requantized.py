"""When a copy with faster weights is made, chosen, remembered and removed.

The copies are scripted; `tests/integration/engine/test_requantized.py` makes real ones.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from chatsite.engine.contract.tuning import Tuning
from chatsite.engine.tuning import autotune, requantized
from chatsite.engine.tuning import store as tuning_store
from chatsite.engine.tuning.probe import Measured
from chatsite.engine.tuning.requantized import Copy
from chatsite.engine.tuning.store import Tried

# Milliseconds per prompt token and per answer token, by (weights, extra buffers).
FILE, FILE_EXTRA, COPY, COPY_EXTRA = ("", False), ("", True), ("Q8_0", False), ("Q8_0", True)
SLOW = {FILE: (4.0, 10.0), FILE_EXTRA: (4.0, 10.0)}
FASTER = {**SLOW, COPY: (2.0, 8.0), COPY_EXTRA: (1.6, 6.0)}
HARDLY = {**SLOW, COPY: (3.6, 9.0), COPY_EXTRA: (3.6, 9.0)}


@dataclass(frozen=True)
class ScriptedCopy(Copy):
    """``problem`` is why it can't be made; ``made`` counts; ``hurry`` is set while it is made."""

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
    assert probes.asked == [FILE, FILE_EXTRA, FILE, FILE, FILE_EXTRA, COPY, COPY_EXTRA]
    assert len(copy.made) == 1


async def test_a_copy_that_is_hardly_faster_is_not_worth_its_memory(store, copy):
    probes = Probes(HARDLY)
    assert await tune(store, probes, copy) == (Tuning(False, False, 2), True)
    assert not copy.exists
    await tune(store, probes, copy)
    assert len(copy.made) == 1


async def test_a_close_race_is_run_again_and_the_better_times_count(store, copy):
    """The machine was slow when the copy was first measured."""
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
    # The file's own settings were close too, so they have already run twice.
    assert probes.asked == [FILE, FILE_EXTRA, FILE, FILE, FILE_EXTRA, COPY, COPY_EXTRA, COPY]
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


async def test_measurements_older_than_copies_are_not_repeated(store, copy):
    await tune(store, Probes(FASTER), None)
    probes = Probes(FASTER)
    assert (await tune(store, probes, copy)).tuning.weights == "Q8_0"
    assert probes.asked == [COPY, COPY_EXTRA]


async def test_t100_a_copy_that_can_not_be_made_is_tried_again_but_not_without_end(store, tmp_path):
    copy = ScriptedCopy(tmp_path / "copies", "d", problem="No space left on device")
    probes = Probes(FASTER)
    tries = [await tune(store, probes, copy) for _ in range(5)]
    assert {tuning for tuning, _complete in tries} == {Tuning(False, False, 2)}
    assert [complete for _tuning, complete in tries] == [False, False, True, True, True]
    assert len(copy.made) == 3
    # Saved measurements are not repeated.
    assert probes.asked == [FILE, FILE_EXTRA, FILE, FILE, FILE_EXTRA]
    known = tuning_store.find(store, "d", 2)
    assert known
    assert "weights copied as Q8_0, no copy: No space left on device" in str(known.tried[-1])


async def test_t100_a_copy_is_made_once_there_is_space(store, tmp_path):
    full = ScriptedCopy(tmp_path / "copies", "d", problem="No space left on device")
    assert (await tune(store, Probes(FASTER), full)).complete is False
    assert autotune.known("d", 2, store=store, copy=full) == (Tuning(False, False, 2), False)
    roomy = ScriptedCopy(tmp_path / "copies", "d")
    assert (await tune(store, Probes(FASTER), roomy)).tuning.weights == "Q8_0"


async def test_extra_buffers_that_kill_are_not_tried_on_the_copy(store, copy):
    probes = Probes({FILE: (4.0, 10.0), COPY: (2.0, 8.0)})
    assert (await tune(store, probes, copy)).tuning == Tuning(False, False, 2, weights="Q8_0")
    assert COPY_EXTRA not in probes.asked


async def test_hurry_ends_the_making_of_a_copy(store, tmp_path):
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
