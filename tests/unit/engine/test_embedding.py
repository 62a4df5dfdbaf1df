"""Vectors on the scripted backend: batches, turns, failures."""

from __future__ import annotations

import math
import struct
from collections.abc import Sequence

import pytest

from chatsite.engine.backend import BadParameters, ComputeError, Piece
from chatsite.engine.embed_inputs import EmbedBuilder
from chatsite.engine.embedding import EmbedQueue
from chatsite.engine.messages import Embed, Embedded, Failed, Finished, Step, ToHost
from chatsite.engine.prompt import ContextExceeded
from chatsite.engine.scripted_backend import ScriptedVocabulary
from chatsite.engine.scripted_embedder import ScriptedEmbedder

LIMIT = 1200


class Recorder(ScriptedEmbedder):
    """Keeps what it was asked for; fails where a batch of several has the word ``rotten``."""

    def __init__(self, vocabulary: ScriptedVocabulary) -> None:
        super().__init__(vocabulary, LIMIT)
        self.batches: list[list[Piece]] = []
        self.rotten = vocabulary.tokenize("rotten", special=False)[0]

    def compute(self, pieces: Sequence[Piece]) -> list[bytes]:
        self.batches.append(list(pieces))
        if len(pieces) > 1 and any(self.rotten in piece.tokens for piece in pieces):
            raise ComputeError("rotten together")
        return super().compute(pieces)


class Queue:
    """A queue whose clock moves by a millisecond a look; every frame it emits."""

    def __init__(self, target_ms: float = 1000) -> None:
        self.vocabulary = ScriptedVocabulary()
        self.embedder = Recorder(self.vocabulary)
        self.frames: list[ToHost] = []
        self._now = 0.0
        self.queue = EmbedQueue(
            self.embedder, self.frames.append, target_ms=target_ms, clock=self._clock
        )
        self.builder = EmbedBuilder(self.vocabulary, self.embedder)

    def _clock(self) -> float:
        self._now += 0.001
        return self._now

    def submit(self, id: str, *inputs: str | tuple[int, ...], truncate: bool = False) -> None:
        self.queue.submit(self.builder.prepare(Embed(id, "ann", inputs, truncate), 0.0))

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
    """Takes ten milliseconds for a token, on its own clock."""

    TOKEN_MS = 10
    now = 0.0

    def compute(self, pieces: Sequence[Piece]) -> list[bytes]:
        self.now += sum(len(piece.tokens) for piece in pieces) * self.TOKEN_MS / 1e3
        return super().compute(pieces)


@pytest.fixture
def timed() -> Queue:
    queue = Queue()
    embedder = queue.embedder = Timed(queue.vocabulary)
    queue.queue = EmbedQueue(
        embedder, queue.frames.append, target_ms=1000, clock=lambda: embedder.now
    )
    return queue


@pytest.fixture
def slow() -> Queue:
    """Its batches have the least size."""
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
    embeds.submit("warm", "word " * 600)  # by then the queue knows how fast it is
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


def test_a_failed_long_input_begins_again_from_its_start(slow):
    slow.submit("e", "word " * 40 + "rotten " + "word " * 40, "other", "third")
    slow.finish()
    slow.submit("again", "word " * 40 + "rotten " + "word " * 40)
    slow.finish()
    assert slow.vectors("e")[0] == slow.vectors("again")[0]


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
    def test_what_gives_no_vector_is_refused_by_name(self, embeds, one):
        with pytest.raises(BadParameters, match="input 2"):
            embeds.submit("e", "fine", one)

    def test_more_vectors_than_a_frame_holds_are_refused(self, embeds):
        embeds.embedder.size = 8192
        builder = EmbedBuilder(embeds.vocabulary, embeds.embedder)
        with pytest.raises(BadParameters, match="too many"):
            builder.prepare(Embed("e", "ann", ("word",) * 2000), 0.0)


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

    def test_nobody_to_wait_for_means_no_waiting(self, timed):
        timed.submit("e", "word " * 10)
        timed.queue.step(None)
        assert timed.queue.idle

    def test_answers_go_on_while_vectors_are_computed(self, harness):
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
