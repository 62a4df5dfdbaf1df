"""Embeddings on the scripted backend: batches, order, failures."""

from __future__ import annotations

import math
import os
import struct
import time
from collections.abc import Sequence
from queue import SimpleQueue

import pytest

from chatsite.engine.backends.scripted.backend import ScriptedVocabulary
from chatsite.engine.backends.scripted.embedder import ScriptedEmbedder
from chatsite.engine.batching.embedding import EmbedQueue
from chatsite.engine.batching.loop import Item
from chatsite.engine.batching.speed import SpeedMeter
from chatsite.engine.contract import frames
from chatsite.engine.contract.backend import BadParameters, ComputeError, InputChunk, LoadError
from chatsite.engine.contract.messages import (
    Embed,
    Embedded,
    EmbeddedPart,
    Failed,
    Finished,
    Step,
    ToHost,
)
from chatsite.engine.embed_inputs import EmbedBuilder, Pace
from chatsite.engine.intake import Intake
from chatsite.engine.prompting.prompt import ContextExceeded
from chatsite.engine.token_counts import Meter

LIMIT = 1200


class Recorder(ScriptedEmbedder):
    """Records its batches; fails for a batch of several with the word ``rotten``."""

    def __init__(self, vocabulary: ScriptedVocabulary) -> None:
        super().__init__(vocabulary, LIMIT)
        self.batches: list[list[InputChunk]] = []
        self.opened = 0
        self.rotten = vocabulary.tokenize("rotten", special=False)[0]

    def open(self) -> None:
        self.opened += 1

    def compute(self, pieces: Sequence[InputChunk]) -> list[bytes]:
        self.batches.append(list(pieces))
        if len(pieces) > 1 and any(self.rotten in piece.tokens for piece in pieces):
            raise ComputeError("rotten together")
        return super().compute(pieces)


class Queue:
    """A queue whose clock advances by 1 ms per read; records every frame it emits."""

    def __init__(self, target_ms: float = 1000) -> None:
        self.vocabulary = ScriptedVocabulary()
        self.embedder = Recorder(self.vocabulary)
        self.frames: list[ToHost] = []
        self._now = 0.0
        self.queue = EmbedQueue(
            self.embedder,
            self.frames.append,
            target_ms=target_ms,
            clock=self._clock,
            speed=SpeedMeter(),
        )
        self.builder = EmbedBuilder(self.vocabulary, self.embedder)

    def _clock(self) -> float:
        self._now += 0.001
        return self._now

    def submit(self, id: str, *inputs: str | tuple[int, ...], truncate: bool = False) -> None:
        self.queue.submit(self.builder.prepare(Embed(id, "ann", inputs, truncate), 0.0))

    def submit_batch(self, id: str, *inputs: str) -> None:
        self.queue.submit(self.builder.prepare(Embed(id, "0", inputs, batch=True), 0.0))

    def finish(self) -> None:
        for _ in range(500):
            if self.queue.idle:
                return
            self.queue.step(None)
        raise AssertionError("the queue does not come to an end")

    def vectors(self, id: str) -> list[tuple[float, ...]]:
        (end,) = [frame for frame in self.frames if isinstance(frame, Embedded) and frame.id == id]
        return list(struct.iter_unpack(f"<{end.size}f", end.vectors))


@pytest.fixture
def embeds() -> Queue:
    return Queue()


class Timed(Recorder):
    """Takes 10 ms per token, on its own clock."""

    TOKEN_MS = 10
    now = 0.0

    def cost_ms(self, pieces: Sequence[InputChunk]) -> float:
        return sum(len(piece.tokens) for piece in pieces) * self.TOKEN_MS

    def compute(self, pieces: Sequence[InputChunk]) -> list[bytes]:
        self.now += self.cost_ms(pieces) / 1e3
        return super().compute(pieces)


def timed_queue(target_ms: float) -> Queue:
    queue = Queue()
    embedder = queue.embedder = Timed(queue.vocabulary)
    queue.queue = EmbedQueue(
        embedder,
        queue.frames.append,
        target_ms=target_ms,
        clock=lambda: embedder.now,
        speed=SpeedMeter(),
    )
    return queue


@pytest.fixture
def timed() -> Queue:
    return timed_queue(1000)


@pytest.fixture
def paced() -> Queue:
    """Return a queue with the default step target."""
    return timed_queue(200)


@pytest.fixture
def slow() -> Queue:
    """Return a queue whose batches have the minimum size."""
    return Queue(target_ms=0.01)


def test_vectors_come_in_the_order_of_the_inputs_with_length_one(embeds):
    embeds.submit("e", "red apples", "green pears", "apples red")
    embeds.finish()
    first, second, third = embeds.vectors("e")
    assert first == third != second
    assert math.dist(first, (0.0,) * len(first)) == pytest.approx(1)
    (end,) = embeds.frames
    assert isinstance(end, Embedded)
    assert (end.tokens, end.size) == (6, 64)


def test_short_inputs_are_computed_together(embeds):
    embeds.submit("warm", "word " * 600)  # by now the queue knows its speed
    embeds.finish()
    embeds.embedder.batches.clear()
    embeds.submit("e", *[f"number {n}" for n in range(16)])
    embeds.finish()
    (batch,) = embeds.embedder.batches
    assert len({piece.sequence for piece in batch}) == 16


def test_a_long_input_in_pieces_is_the_same_vector(slow):
    text = "one two three " * 300
    slow.submit("whole", text)
    slow.finish()
    slow.embedder.batches.clear()
    slow.submit("e", "before", text, "after")
    slow.finish()
    sizes = [sum(len(piece.tokens) for piece in batch) for batch in slow.embedder.batches]
    assert max(sizes) <= 16
    assert slow.vectors("e")[1] == slow.vectors("whole")[0]


def test_requests_take_turns(slow):
    slow.submit("library", *["word " * 15] * 40)
    slow.submit("question", "what is it")
    slow.finish()
    assert [frame.id for frame in slow.frames] == ["question", "library"]


def test_no_inputs_are_no_vectors(embeds):
    embeds.submit("e")
    assert embeds.frames == [Embedded("e", b"", 64, 0)]
    assert embeds.queue.idle


def test_one_that_fails_alone_ends_its_request_and_no_other(embeds):
    embeds.submit("warm", "word " * 600)
    embeds.finish()
    embeds.submit("good", "fine", "well")
    embeds.submit("bad", "fine", "@embed-fail")
    embeds.submit("lonely", "rotten")
    embeds.finish()
    assert len(embeds.vectors("good")) == 2
    assert len(embeds.vectors("lonely")) == 1
    (end,) = [frame for frame in embeds.frames if frame.id == "bad"]
    assert isinstance(end, Failed)
    assert end.code == "engine_error"
    assert "input 2" in end.message


def test_a_failed_long_input_restarts(slow):
    slow.submit("e", "word " * 40 + "rotten " + "word " * 40, "other", "third")
    slow.finish()
    slow.submit("again", "word " * 40 + "rotten " + "word " * 40)
    slow.finish()
    assert slow.vectors("e")[0] == slow.vectors("again")[0]


def test_many_vectors_leave_in_parts_while_they_are_computed(embeds):
    texts = [f"word {number}" for number in range(1000)]
    embeds.submit("e", *texts)
    embeds.finish()
    *parts, end = embeds.frames
    assert isinstance(end, Embedded)
    assert all(isinstance(part, EmbeddedPart) for part in parts)
    batch = embeds.embedder.sequences * end.size * 4
    assert max(len(frame.vectors) for frame in embeds.frames) < (64 << 10) + batch
    together = b"".join(frame.vectors for frame in embeds.frames)
    assert len(together) == 1000 * end.size * 4
    for index in (0, 500, 999):
        embeds.submit(f"{index}", texts[index])
        embeds.finish()
        at = index * end.size * 4
        assert embeds.frames[-1].vectors == together[at : at + end.size * 4]
    assert end.tokens == 2000


def test_the_thread_that_prepares_makes_the_embedder_ready(embeds):
    job = embeds.builder.prepare(Embed("e", "ann", ("word",)), 0.0)
    assert embeds.embedder.opened == 1
    assert embeds.embedder.batches == []
    embeds.queue.submit(job)
    embeds.finish()
    assert embeds.vectors("e")


def test_no_memory_for_vectors_fails_the_request_alone(embeds):
    def refuse() -> None:
        raise LoadError("not enough memory for embeddings of 2048 tokens")

    embeds.embedder.open = refuse
    read, write = os.pipe()
    inbox: SimpleQueue[Item] = SimpleQueue()
    builder = EmbedBuilder(embeds.vocabulary, embeds.embedder)
    meter = Meter(embeds.vocabulary)
    intake = Intake(read, None, builder, lambda _params: None, inbox, time.monotonic, meter)
    intake.start()
    os.write(write, frames.encode(Embed("e", "ann", ("word",))))
    failed = inbox.get(timeout=20)
    os.close(write)
    intake.join(20)
    os.close(read)
    assert isinstance(failed, Failed)
    assert (failed.id, failed.code) == ("e", "engine_error")
    assert "not enough memory" in failed.message


def test_cancel_leaves_nothing_behind(embeds):
    embeds.submit("e", "word " * 100)
    embeds.queue.step(None)
    embeds.queue.cancel("e")
    embeds.queue.cancel("nobody")
    (end,) = embeds.frames
    assert isinstance(end, Finished)
    assert end.reason == "cancelled"
    assert embeds.queue.idle
    embeds.submit("f", "word")
    embeds.finish()
    assert embeds.vectors("f")


class TestInputs:
    def test_an_input_that_is_too_long_is_refused_with_its_figures(self, embeds):
        with pytest.raises(ContextExceeded) as caught:
            embeds.submit("e", "short", "word " * (LIMIT + 1))
        assert caught.value.details == {"prompt_tokens": LIMIT + 2, "context": LIMIT}
        assert "input 2" in str(caught.value)

    def test_or_it_is_cut(self, embeds):
        embeds.submit("e", "word " * 2000, tuple(range(97, 122)) * 100, truncate=True)
        embeds.finish()
        (end,) = embeds.frames
        assert end.tokens == 2 * LIMIT

    def test_tokens_are_taken_as_they_are(self, embeds):
        embeds.submit("e", "a", (97,))
        embeds.finish()
        first, second = embeds.vectors("e")
        assert first == second

    @pytest.mark.parametrize("one", ["", (), (1 << 30,)], ids=["text", "tokens", "unknown"])
    def test_an_input_without_a_vector_is_refused_by_name(self, embeds, one):
        with pytest.raises(BadParameters, match="input 2"):
            embeds.submit("e", "fine", one)

    def test_more_vectors_than_a_frame_holds_are_refused(self, embeds):
        embeds.embedder.size = 8192
        builder = EmbedBuilder(embeds.vocabulary, embeds.embedder)
        with pytest.raises(BadParameters, match="too many"):
            builder.prepare(Embed("e", "ann", ("word",) * 2000), 0.0)


class TestPace:
    """Texts that take 0.5 ms of work each."""

    def prepare(self, embeds: Queue, texts: int, *, answering: bool) -> tuple[float, list[float]]:
        worked = 0.0
        rests: list[float] = []

        class Working(ScriptedVocabulary):
            def tokenize(self, text: str, *, special: bool) -> list[int]:
                nonlocal worked
                worked += 0.0005
                return super().tokenize(text, special=special)

        pace = Pace(lambda: answering, lambda: worked, rests.append)
        builder = EmbedBuilder(Working(), embeds.embedder, pace)
        job = builder.prepare(Embed("e", "ann", ("word",) * texts), 0.0)
        assert len(job.inputs) == texts
        return worked, rests

    def test_many_texts_are_tokenized_in_slices_with_rests_while_answers_run(self, embeds):
        worked, rests = self.prepare(embeds, 2000, answering=True)
        assert max(rests) < 0.01  # after slices of about 2 ms
        assert sum(rests) >= 2.9 * worked

    def test_a_few_texts_are_not_delayed(self, embeds):
        assert self.prepare(embeds, 3, answering=True)[1] == []

    def test_nor_are_many_while_no_answer_runs(self, embeds):
        assert self.prepare(embeds, 2000, answering=False)[1] == []

    def test_rests_end_before_the_deadline_of_a_request_does(self, embeds):
        embeds.embedder.size = 1
        _worked, rests = self.prepare(embeds, 20_000, answering=True)
        assert 5 <= sum(rests) < 5.1


class TestBesideAnswers:
    def test_a_batch_waits_until_answers_had_as_much_time(self, timed):
        timed.submit("e", "word " * 400)
        steps = 0
        while not timed.queue.idle:
            timed.queue.step(20)
            steps += 1
        assert max(len(batch[0].tokens) for batch in timed.embedder.batches) <= 18
        computed_ms = 401 * timed.embedder.TOKEN_MS
        assert computed_ms <= steps * 20 <= computed_ms + 1000 + 26 * 20

    def test_a_step_and_the_batch_behind_it_keep_to_the_target_from_the_first_one(self, paced):
        paced.submit("e", *["word " * 200] * 40)
        for spent_ms in [40] * 200 + [200] * 100 + [2000] * 20:
            batches = len(paced.embedder.batches)
            paced.queue.step(spent_ms)
            took_ms = sum(map(paced.embedder.cost_ms, paced.embedder.batches[batches:]))
            assert took_ms <= 100
            assert took_ms + spent_ms <= max(200, spent_ms + 50)
        assert sum(len(piece.tokens) for batch in paced.embedder.batches for piece in batch) > 500

    def test_one_token_is_computed_where_no_more_can_be_afforded(self, paced):
        paced.embedder.TOKEN_MS = 150
        paced.submit("e", "word " * 20)
        steps = 0
        while not paced.queue.idle:
            paced.queue.step(40)
            steps += 1
        assert all(len(batch[0].tokens) <= 1 for batch in paced.embedder.batches[1:])
        assert steps * 40 >= 15 * 150  # a batch that exceeded its share is compensated

    def test_only_one_batch_is_too_long_when_the_machine_becomes_slow(self, paced):
        paced.embedder.TOKEN_MS = 1
        paced.submit("e", *["word " * 200] * 40)
        for _ in range(60):
            paced.queue.step(40)
        usual = len(paced.embedder.batches)
        paced.embedder.TOKEN_MS = 4
        for _ in range(60):
            paced.queue.step(40)
        costs = [paced.embedder.cost_ms(batch) for batch in paced.embedder.batches[usual:]]
        assert sum(cost > 100 for cost in costs) == 1

    def test_without_running_answers_embedding_does_not_wait(self, timed):
        timed.submit("e", "word " * 10)
        timed.queue.step(None)
        assert timed.queue.idle

    def test_answers_keep_running_while_vectors_are_computed(self, harness):
        builder = EmbedBuilder(harness.backend.vocabulary, harness.backend.embedder)
        harness.ask("g", "@tokens 400")
        harness.steps(2)
        harness.engine.embed(builder.prepare(Embed("e", "bob", ("word " * 200,) * 4), 0.0))
        told = len(harness.frames)
        harness.finish()
        assert harness.reason("g") == "stop"
        kinds = [type(frame) for frame in harness.frames[told:]]
        at = kinds.index(Embedded)
        assert Step in kinds[:at]
        assert Step in kinds[at:]

    def test_cancel_reaches_them(self, harness):
        builder = EmbedBuilder(harness.backend.vocabulary, harness.backend.embedder)
        harness.engine.embed(builder.prepare(Embed("e", "bob", ("word " * 200,)), 0.0))
        harness.engine.cancel("e")
        assert harness.reason("e") == "cancelled"
        assert harness.engine.idle

    def test_a_model_for_vectors_alone_is_warmed_up(self, make_harness):
        harness = make_harness(directives="@embeds")
        harness.engine.warm_up()
        assert harness.backend.chunks == []


def test_inputs_of_users_are_computed_before_those_of_a_batch(embeds: Queue) -> None:
    embeds.submit_batch("batch", *(f"word{number} " * 300 for number in range(8)))
    embeds.queue.step(None)
    embeds.submit("user", "a question")
    embeds.queue.step(None)
    ended = [frame.id for frame in embeds.frames if isinstance(frame, Embedded)]
    assert ended == ["user"]
    embeds.finish()
    assert len(embeds.vectors("batch")) == 8


def test_a_held_batch_waits_and_lets_the_engine_sleep(embeds: Queue) -> None:
    embeds.queue.hold_batches(True)
    embeds.submit_batch("batch", "one", "two")
    assert embeds.queue.idle
    embeds.queue.step(None)
    assert embeds.embedder.batches == []
    embeds.submit("user", "a question")
    embeds.finish()
    assert [len(batch) for batch in embeds.embedder.batches] == [1]
    embeds.queue.hold_batches(False)
    assert not embeds.queue.idle
    embeds.finish()
    assert len(embeds.vectors("batch")) == 2


def test_a_held_batch_can_be_cancelled(embeds: Queue) -> None:
    embeds.queue.hold_batches(True)
    embeds.submit_batch("batch", "one")
    embeds.queue.cancel("batch")
    embeds.queue.hold_batches(False)
    assert embeds.queue.idle
    assert [type(frame) for frame in embeds.frames] == [Finished]


def test_a_reranker_scores_pairs_and_refuses_texts_alone() -> None:
    vocabulary = ScriptedVocabulary()
    embedder = ScriptedEmbedder(vocabulary, 12, ranks=True)
    frames: list[ToHost] = []
    queue = EmbedQueue(
        embedder, frames.append, target_ms=1000, clock=time.perf_counter, speed=SpeedMeter()
    )
    builder = EmbedBuilder(vocabulary, embedder)
    texts = ("red boats", "blue sky", "a red sky " * 20)
    queue.submit(builder.prepare(Embed("r", "ann", texts, True, query="red sky"), 0.0))
    queue.step(None)
    (end,) = frames
    assert isinstance(end, Embedded)
    assert end.size == 1
    assert struct.unpack("<3f", end.vectors) == (1, 1, 2)
    with pytest.raises(BadParameters, match="is a reranker"):
        builder.prepare(Embed("e", "ann", ("red",)), 0.0)
    with pytest.raises(ContextExceeded):
        builder.prepare(Embed("l", "ann", ("red",), True, query="long " * 20), 0.0)


def test_a_query_for_an_embedding_model_is_refused(embeds: Queue) -> None:
    with pytest.raises(BadParameters, match="not a reranker"):
        embeds.builder.prepare(Embed("e", "ann", ("red",), query="blue"), 0.0)
