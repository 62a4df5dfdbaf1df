"""An engine over the scripted backend, driven step by step, with every frame it emits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import pytest

from chatsite.engine.backends.scripted.backend import ScriptedBackend
from chatsite.engine.batching.loop import Engine
from chatsite.engine.contract.backend import Chunk, Decoded
from chatsite.engine.contract.messages import (
    ChatMessage,
    Failed,
    Finished,
    Generate,
    Load,
    SamplingParams,
    Started,
    Step,
    ToHost,
)
from chatsite.engine.contract.tuning import Tuning
from chatsite.engine.prompting.prompt import PromptBuilder
from chatsite.engine.prompting.template import ChatTemplate


class FaultyBackend(ScriptedBackend):
    """Returns the outcomes in ``outcomes``, one per decode, then computes.

    ``chunks`` records what was decoded, successfully or not.
    """

    def __init__(self, load: Load) -> None:
        super().__init__(load, lambda progress: None)
        self.outcomes: list[Decoded] = []
        self.chunks: list[list[Chunk]] = []

    def decode(self, chunks: Sequence[Chunk]) -> Decoded:
        self.chunks.append(list(chunks))
        outcome = self.outcomes.pop(0) if self.outcomes else Decoded.OK
        if outcome in {Decoded.NO_SPACE, Decoded.INVALID}:
            return outcome
        computed = super().decode(chunks)
        return computed if outcome is Decoded.OK else outcome


class Harness:
    """``frames`` has all emitted frames; the clock advances by 1 ms per read."""

    def __init__(self, load: Load) -> None:
        self.frames: list[ToHost] = []
        self.backend = FaultyBackend(load)
        self._now = 0.0
        self.engine = Engine(
            self.backend,
            self.frames.append,
            step_target_ms=load.step_target_ms,
            clock=self._clock,
        )
        self.prompts = PromptBuilder(
            ChatTemplate(self.backend.template), self.backend.vocabulary, self.backend.facts.context
        )

    def _clock(self) -> float:
        self._now += 0.001
        return self._now

    def ask(
        self,
        id: str,
        text: str,
        owner: str = "ann",
        params: SamplingParams | None = None,
        prefix: str = "",
        generated: int = 0,
        history: Sequence[ChatMessage] = (),
    ) -> None:
        messages = (*history, ChatMessage("user", text))
        params = params or SamplingParams()
        request = Generate(id, owner, messages, params, prefix, generated)
        self.engine.submit(self.prompts.prepare(request, self._clock()))

    def steps(self, count: int) -> None:
        for _ in range(count):
            self.engine.step()

    def finish(self, limit: int = 2000) -> None:
        for _ in range(limit):
            if self.engine.idle:
                return
            self.engine.step()
        raise AssertionError("the engine does not come to an end")

    def text(self, id: str) -> str:
        return "".join(
            delta.text
            for frame in self.frames
            if isinstance(frame, Step)
            for delta in frame.deltas
            if delta.id == id
        )

    def started(self, id: str) -> Started:
        return next(f for f in self.frames if isinstance(f, Started) and f.id == id)

    def ends(self, id: str) -> list[Finished | Failed]:
        return [f for f in self.frames if isinstance(f, Finished | Failed) and f.id == id]

    def reason(self, id: str) -> str:
        (end,) = self.ends(id)
        return end.reason if isinstance(end, Finished) else end.code


MakeHarness = Callable[..., Harness]


@pytest.fixture
def make_harness(tmp_path: Path) -> MakeHarness:
    def make(context: int = 512, slots: int = 8, directives: str = "") -> Harness:
        path = tmp_path / "model"
        path.write_text(f"scripted\n{directives}\n")
        return Harness(Load("m", str(path), Tuning(False, False, 1), context, slots, 200))

    return make


@pytest.fixture
def harness(make_harness: MakeHarness) -> Harness:
    return make_harness()
