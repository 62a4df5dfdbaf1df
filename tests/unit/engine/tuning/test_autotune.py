"""Tuning with children that crash, hang and answer garbage.

The probes are scripted here; `tests/integration/engine` runs real ones.
"""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Mapping
from pathlib import Path

import pytest

from chatsite.engine.contract.offload import Offload
from chatsite.engine.contract.tuning import Tuning
from chatsite.engine.tuning import autotune
from chatsite.engine.tuning import store as tuning_store
from chatsite.engine.tuning.autotune import NoTuningWorks, TuneProgress
from chatsite.engine.tuning.probe import Measured
from chatsite.engine.tuning.store import Tried
from chatsite.sandbox.spawn import Result

PLAIN, EXTRA, FLASH, BOTH = (False, False), (True, False), (False, True), (True, True)


class Probes:
    """Scripted probes.

    ``results`` are by (extra buffers, flash attention): ms per prompt token and per answer token,
    or the child's end. ``asked`` has what was probed, ``depths`` at which depth.
    """

    def __init__(self, results: Mapping[tuple[bool, bool], tuple[float, float] | str]) -> None:
        self.results = results
        self.asked: list[tuple[bool, bool]] = []
        self.depths: list[int] = []

    async def __call__(self, tuning: Tuning, depth: int, bulk: int) -> Tried:
        assert not bulk
        key = (tuning.use_extra_bufts, tuning.flash_attention)
        self.asked.append(key)
        self.depths.append(depth)
        result = self.results[key]
        if isinstance(result, str):
            return Tried(tuning, problem=result)
        return Tried(tuning, measured=Measured(*result, depth=min(depth, 300)))


@pytest.fixture
def store(tmp_path: Path) -> Path:
    return tmp_path / "deep" / "tuning.json"


async def tune(probes: Probes, store: Path, digest: str = "d1", threads: int = 2) -> tuple:
    tuning, complete = await autotune.tune(Path("/m"), digest, threads, store=store, prober=probes)
    assert complete
    assert tuning.threads == threads
    return (tuning.use_extra_bufts, tuning.flash_attention)


async def test_the_fastest_wins(store):
    probes = Probes({PLAIN: (3, 10), EXTRA: (2, 8), BOTH: (2, 5)})
    assert await tune(probes, store) == BOTH
    assert probes.asked == [PLAIN, EXTRA, BOTH]


async def test_flash_attention_is_tried_on_the_better_of_the_buffers(store):
    probes = Probes({PLAIN: (3, 10), EXTRA: (3, 14), FLASH: (2.8, 20)})
    assert await tune(probes, store) == PLAIN
    assert probes.asked == [PLAIN, EXTRA, FLASH]


async def test_a_candidate_that_dies_is_out(store):
    probes = Probes({PLAIN: (3, 10), EXTRA: "killed by SIGSEGV", FLASH: (3, 20)})
    assert await tune(probes, store) == PLAIN


async def test_three_per_cent_are_not_worth_leaving_the_plain_one(store):
    probes = Probes({PLAIN: (3, 10), EXTRA: (2.95, 9.9), FLASH: (3, 9.9)})
    assert await tune(probes, store) == PLAIN


async def test_prefill_and_decode_both_count(store):
    turn = tuning_store.TURN_DECODE / tuning_store.TURN_PREFILL
    probes = Probes({PLAIN: (10, 10), EXTRA: (10 - turn * 2, 11), BOTH: (99, 99)})
    assert await tune(probes, store) == EXTRA


async def test_where_only_flash_attention_lives_it_is_found(store):
    probes = Probes({PLAIN: "exit", EXTRA: "exit", FLASH: "exit", BOTH: (3, 3)})
    assert await tune(probes, store) == BOTH
    assert probes.asked == [PLAIN, EXTRA, FLASH, BOTH]


async def test_when_every_candidate_dies_the_error_lists_their_ends(store):
    probes = Probes(
        {PLAIN: "killed by SIGILL", EXTRA: "killed by SIGSEGV", FLASH: "no answer", BOTH: "exit 1"}
    )
    with pytest.raises(NoTuningWorks) as caught:
        await tune(probes, store)
    for word in ("SIGILL", "SIGSEGV", "no answer", "exit 1"):
        assert word in str(caught.value)
    assert not store.exists()


async def test_candidates_are_measured_at_the_depth_that_the_first_reached(store):
    probes = Probes({PLAIN: (3, 10), EXTRA: (3, 20), FLASH: (3, 30)})
    await tune(probes, store)
    assert probes.depths == [512, 300, 300]


async def test_the_choice_is_remembered_by_model_and_threads(store):
    probes = Probes({PLAIN: (3, 10), EXTRA: (2, 5), BOTH: (9, 9)})
    assert await tune(probes, store) == EXTRA
    assert await tune(probes, store) == EXTRA
    assert len(probes.asked) == 3
    await tune(probes, store, digest="d2")
    await tune(probes, store, threads=3)
    assert len(probes.asked) == 9
    known = tuning_store.find(store, "d1", 2)
    assert known
    assert known.tuning == Tuning(True, False, 2)
    assert tuning_store.find(store, "d3", 2) is None
    # Layers on a device are measured separately.
    assert tuning_store.find(store, "d1", 2, Offload(("GPU0",), (4,))) is None


@pytest.mark.parametrize("content", ["", "{", "[]", '{"%s": 3}', '{"%s": {"tuning": {}}}'])
async def test_a_damaged_store_is_measured_again(store, content):
    store.parent.mkdir()
    key = f"d1:{tuning_store.host_fingerprint(2)}"
    store.write_text(content % key if "%s" in content else content)
    probes = Probes({PLAIN: (3, 10), EXTRA: "exit", FLASH: "exit"})
    assert await tune(probes, store) == PLAIN
    assert json.loads(store.read_text())[key]["tuning"]["threads"] == 2


async def test_no_temporary_file_is_left_beside_the_store(store):
    await tune(Probes({PLAIN: (3, 10), EXTRA: "exit", FLASH: "exit"}), store)
    assert list(store.parent.iterdir()) == [store]


async def test_progress_is_reported_after_each_probe(store):
    told: list[TuneProgress] = []
    probes = Probes({PLAIN: (3, 10), EXTRA: "exit", FLASH: (3, 20)})

    async def on_progress(progress: TuneProgress) -> None:
        told.append(progress)

    await autotune.tune(Path("/m"), "d", 2, store=store, prober=probes, on_progress=on_progress)
    assert [(progress.done, progress.total) for progress in told] == [(1, 3), (2, 3), (3, 3)]
    assert str(told[1].last) == "extra buffers on, flash attention off, threads 2, exit"


async def test_many_threads_are_compared_with_fewer(store):
    asked: list[int] = []

    async def prober(tuning: Tuning, depth: int, bulk: int) -> Tried:
        asked.append(tuning.threads)
        speed = {8: 10.0, 4: 6.0, 7: 9.0}[tuning.threads]
        return Tried(tuning, measured=Measured(2.0, speed, depth))

    tuning, _complete = await autotune.tune(Path("/m"), "d", 8, store=store, prober=prober)
    assert asked == [8, 8, 8, 8, 8, 4, 7]  # two results are close, so both run twice
    assert tuning.threads == 4
    known = tuning_store.find(store, "d", 8)
    assert known
    assert known.tuning == tuning


async def test_all_candidates_are_saved_with_reasons(store):
    await tune(Probes({PLAIN: (3, 10), EXTRA: "killed by SIGSEGV", FLASH: (3, 20)}), store)
    (known,) = tuning_store.history(store, "d1")
    assert known.tuning == Tuning(False, False, 2)
    assert [one.problem for one in known.tried] == ["", "killed by SIGSEGV", ""]
    assert "66 prompt tokens" in known.why_ubatch  # 200 ms at 3 ms each
    assert tuning_store.history(store, "d2") == []


class BulkProbes:
    """``speeds`` are ms per prompt token by micro-batch; ``fast`` is the speed otherwise."""

    def __init__(self, fast: float, speeds: dict[int, float]) -> None:
        self.fast = fast
        self.speeds = speeds
        self.asked: list[tuple[int, int]] = []

    async def __call__(self, tuning: Tuning, depth: int, bulk: int) -> Tried:
        if not bulk:
            return Tried(tuning, Measured(self.fast, 10.0, depth))
        self.asked.append((tuning.ubatch, bulk))
        if tuning.ubatch not in self.speeds:
            return Tried(tuning, problem="killed by SIGSEGV", bulk=bulk)
        return Tried(tuning, Measured(self.speeds[tuning.ubatch], 0.0, bulk), bulk=bulk)


@pytest.mark.parametrize(
    ("fast", "speeds", "asked", "chosen"),
    [
        # 200 tokens fit a step of 200 ms: larger sizes would make no difference.
        (1.0, {512: 1.0, 128: 0.9}, [(512, 200), (128, 200)], 128),
        (1.0, {512: 1.0, 128: 0.98}, [(512, 200), (128, 200)], 512),
        (0.1, {512: 0.1, 128: 0.1, 1024: 0.09, 2048: 0.07}, None, 2048),
        (0.1, {512: 0.1, 128: 0.1}, None, 512),
        (0.1, {}, None, 512),
    ],
)
async def test_sizes_of_the_micro_batch_are_tried_where_a_step_has_so_many_tokens(
    store, fast, speeds, asked, chosen
):
    probes = BulkProbes(fast, speeds)
    tuning, _complete = await autotune.tune(Path("/m"), "d", 2, store=store, prober=probes)
    assert tuning.ubatch == chosen
    wanted = asked or [(512, 2000), (128, 2000), (1024, 2000), (2048, 2000)]
    assert probes.asked == wanted
    (known,) = tuning_store.history(store, "d")
    assert known.why_ubatch


class TestHurry:
    async def tune(self, store: Path, probes: Probes, hurry: asyncio.Event) -> autotune.Tuned:
        return await autotune.tune(Path("/m"), "d1", 2, store=store, prober=probes, hurry=hurry)

    async def test_hurry_ends_a_probe_and_the_rest_is_measured_later(self, store):
        hurry = asyncio.Event()
        ended = asyncio.Event()

        class Slow(Probes):
            async def __call__(self, tuning: Tuning, depth: int, bulk: int) -> Tried:
                if tuning.flash_attention:
                    hurry.set()
                    try:
                        await asyncio.Event().wait()
                    finally:
                        ended.set()
                return await super().__call__(tuning, depth, bulk)

        results = {PLAIN: (3.0, 10.0), EXTRA: (2.0, 8.0), BOTH: (2.0, 5.0)}
        found = await self.tune(store, Slow(results), hurry)
        assert found == (Tuning(True, False, 2), False)
        assert ended.is_set()
        again = Probes(results)
        assert await self.tune(store, again, asyncio.Event()) == (Tuning(True, True, 2), True)
        assert again.asked == [BOTH]

    async def test_before_any_measurement_it_is_the_safe_tuning(self, store):
        hurry = asyncio.Event()
        hurry.set()
        found = await self.tune(store, Probes({PLAIN: (3, 10), EXTRA: "x", FLASH: "x"}), hurry)
        assert found == (autotune.plain(2), False)


async def test_t100_a_close_race_between_the_files_own_settings_is_run_twice(store):
    """The machine was slow when flash attention was first measured."""
    results = {PLAIN: (3.0, 10.0), EXTRA: (9.0, 30.0), FLASH: (3.0, 11.0)}
    probes = Probes(results)
    asked = probes.__call__

    async def prober(tuning: Tuning, depth: int, bulk: int) -> Tried:
        found = await asked(tuning, depth, bulk)
        if tuning.flash_attention:
            results[FLASH] = (2.0, 8.0)
        return found

    tuning, _complete = await autotune.tune(Path("/m"), "d", 2, store=store, prober=prober)
    assert tuning.flash_attention
    assert probes.asked == [PLAIN, EXTRA, FLASH, PLAIN, FLASH]
    known = tuning_store.find(store, "d", 2)
    assert known
    assert [one.runs for one in known.tried] == [2, 1, 2]


class TestInTheBackground:
    """With ``hurry``: a disturbed or temporarily failed measurement is retried, boundedly."""

    async def tune(self, store: Path, prober, **options) -> autotune.Tuned:
        return await autotune.tune(
            Path("/m"), "d", 2, store=store, prober=prober, hurry=asyncio.Event(), **options
        )

    def known(self, store: Path, **options) -> autotune.Tuned:
        return autotune.known("d", 2, store=store, **options)

    async def test_t100_a_disturbed_measurement_is_discarded_and_repeated(self, store):
        disturbed = {EXTRA}
        asked = []

        async def prober(tuning: Tuning, depth: int, bulk: int) -> Tried:
            key = (tuning.use_extra_bufts, tuning.flash_attention)
            asked.append(key)
            share = 0.9 if key in disturbed else 0.1
            return Tried(tuning, Measured(3.0, 5.0 if key == EXTRA else 10.0, depth, share))

        assert await self.tune(store, prober) == (autotune.plain(2), False)
        known = tuning_store.find(store, "d", 2)
        assert known
        assert [one.tuning for one in known.tried] == [autotune.plain(2)]
        assert self.known(store) == (autotune.plain(2), False)
        disturbed.clear()
        assert await self.tune(store, prober) == (Tuning(True, False, 2), True)
        assert self.known(store) == (Tuning(True, False, 2), True)
        assert asked == [PLAIN, EXTRA, EXTRA, BOTH]

    async def test_t100_a_machine_that_is_never_quiet_is_not_measured_without_end(self, store):
        count = 0

        async def prober(tuning: Tuning, depth: int, bulk: int) -> Tried:
            nonlocal count
            count += 1
            return Tried(tuning, Measured(3.0, 10.0, depth, 0.9))

        tries = [(await self.tune(store, prober)).complete for _ in range(5)]
        assert tries == [False, False, True, True, True]
        assert count <= 2 + 5

    @pytest.mark.parametrize("problem", ["killed by SIGKILL", "not enough memory"])
    async def test_t100_a_candidate_that_lacked_memory_is_retried(self, store, problem):
        results = {PLAIN: (3.0, 20.0), EXTRA: (9.0, 30.0)}
        asked = []

        async def prober(tuning: Tuning, depth: int, bulk: int) -> Tried:
            key = (tuning.use_extra_bufts, tuning.flash_attention)
            asked.append(key)
            if key not in results:
                return Tried(tuning, problem=problem, passing=True)
            return Tried(tuning, Measured(*results[key], depth))

        assert await self.tune(store, prober) == (autotune.plain(2), False)
        assert self.known(store) == (autotune.plain(2), False)
        results[FLASH] = (3.0, 10.0)
        assert await self.tune(store, prober) == (Tuning(False, True, 2), True)
        assert asked == [PLAIN, EXTRA, FLASH, FLASH]

    async def test_t100_a_failure_that_never_passes_is_tried_three_times(self, store):
        asked = []

        async def prober(tuning: Tuning, depth: int, bulk: int) -> Tried:
            key = (tuning.use_extra_bufts, tuning.flash_attention)
            asked.append(key)
            if key == PLAIN:
                return Tried(tuning, Measured(3.0, 10.0, depth))
            return Tried(tuning, problem="out of memory", passing=True)

        tries = [(await self.tune(store, prober)).complete for _ in range(5)]
        assert tries == [False, False, True, True, True]
        assert asked == [PLAIN, *(EXTRA, FLASH) * 3]

    async def test_t100_when_all_candidates_lack_memory_the_model_is_not_given_up_immediately(
        self, store
    ):
        async def prober(tuning: Tuning, depth: int, bulk: int) -> Tried:
            return Tried(tuning, problem="killed by SIGKILL", passing=True)

        for _ in range(2):
            assert await self.tune(store, prober) == (autotune.plain(2), False)
        with pytest.raises(NoTuningWorks):
            await self.tune(store, prober)

    async def test_t100_a_larger_context_is_measured_again(self, store):
        probes = Probes({PLAIN: (3, 10), EXTRA: "exit", FLASH: "exit"})
        await self.tune(store, probes, context=4096, slots=8)
        assert probes.depths == [1024, 300, 300]
        assert self.known(store, context=8192, slots=8).complete
        assert not self.known(store, context=16384, slots=8).complete
        assert not self.known(store, context=4096, slots=32).complete
        await self.tune(store, probes, context=16384, slots=8)
        assert probes.depths[3:] == [2048, 300, 300]
        assert self.known(store, context=16384, slots=8).complete


class TestSurvivor:
    """For a model whose child died before it answered."""

    async def survivor(self, store: Path, prober) -> Tuning:
        return await autotune.survivor(Path("/m"), "d1", 2, store=store, prober=prober)

    async def test_t100_the_first_that_lives_is_taken_and_its_speed_does_not_count(self, store):
        probes = Probes({PLAIN: "exit", FLASH: (9.0, 99.0)})
        assert await self.survivor(store, probes) == Tuning(False, True, 2)
        assert probes.asked == [PLAIN, FLASH]
        assert not store.exists()

    async def test_a_saved_choice_is_not_probed(self, store):
        await tune(Probes({PLAIN: (3, 10), EXTRA: (2, 5), BOTH: (9, 9)}), store)
        probes = Probes({})
        assert await self.survivor(store, probes) == Tuning(True, False, 2)
        assert probes.asked == []

    async def test_when_every_candidate_dies_an_error_is_raised(self, store):
        dead = Probes(dict.fromkeys((PLAIN, EXTRA, FLASH, BOTH), "killed by SIGILL"))
        with pytest.raises(NoTuningWorks):
            await self.survivor(store, dead)


@pytest.mark.parametrize(
    ("signal_or_code", "words", "lacked"),
    [
        (-signal.SIGKILL, [], True),
        (1, ["load", "failed to allocate CPU buffer"], True),
        (-signal.SIGABRT, ["ggml: not enough memory"], True),
        (1, ["no space in the KV cache"], True),
        # A crash on this CPU after lines that mention buffers.
        (-signal.SIGSEGV, ["alloc compute buffer"], False),
        (-signal.SIGILL, ["alloc compute buffer"], False),
        (1, ["unknown architecture"], False),
    ],
)
def test_t100_only_a_lack_of_memory_is_tried_again(
    signal_or_code: int, words: list[str], lacked: bool
) -> None:
    assert autotune.lacked_memory(Result(signal_or_code, b"", words)) is lacked
