"""Concurrent preparation of many owners' requests, and what a slow one may delay."""

from __future__ import annotations

import os
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from queue import Empty, SimpleQueue

import pytest

from chatsite.engine.backends.scripted.backend import ScriptedVocabulary
from chatsite.engine.backends.scripted.embedder import ScriptedEmbedder
from chatsite.engine.batching.loop import Item
from chatsite.engine.contract import frames
from chatsite.engine.contract.messages import (
    Cancel,
    ChatMessage,
    CountTokens,
    Failed,
    Finished,
    Generate,
    SamplingParams,
    Shutdown,
    TokenCounts,
)
from chatsite.engine.embed_inputs import EmbedBuilder
from chatsite.engine.intake import Intake
from chatsite.engine.preparation import Preparation, Request
from chatsite.engine.prompting.prompt import Prompt, PromptBuilder
from chatsite.engine.prompting.template import CHATML, ChatTemplate
from chatsite.engine.token_counts import Meter

WAIT_S = 20


def ask(id: str, owner: str) -> Generate:
    return Generate(id, owner, (ChatMessage("user", "hi"),))


class Bench:
    """A preparation whose requests wait for `release`; ``log`` has the order of their starts."""

    def __init__(self, threads: int = 8, deadline: float = 60.0) -> None:
        self.inbox: SimpleQueue[Item] = SimpleQueue()
        self.log: list[str] = []
        self._begun: defaultdict[str, threading.Event] = defaultdict(threading.Event)
        self._gates: defaultdict[str, threading.Event] = defaultdict(threading.Event)
        self.preparation = Preparation(
            self._prepare, self.inbox, time.monotonic, threads=threads, deadline=deadline
        )

    def _prepare(self, request: Request, arrived: float) -> Item:
        self.log.append(request.id)
        self._begun[request.id].set()
        assert self._gates[request.id].wait(WAIT_S)
        return TokenCounts(request.id, 1, 0, ())

    def submit(self, *requests: Request) -> None:
        for one in requests:
            self.preparation.submit(one)

    def release(self, *ids: str) -> None:
        for id in ids:
            self._gates[id].set()

    def begun(self, id: str) -> None:
        assert self._begun[id].wait(WAIT_S)

    def take(self) -> Item:
        return self.inbox.get(timeout=WAIT_S)

    def close(self) -> None:
        self.preparation.close()
        for gate in list(self._gates.values()):
            gate.set()


@pytest.fixture
def make_bench() -> Iterator[type[Bench]]:
    made: list[Bench] = []

    class Made(Bench):
        def __init__(self, *arguments: object, **options: object) -> None:
            super().__init__(*arguments, **options)  # type: ignore[arg-type]
            made.append(self)

    yield Made
    for one in made:
        one.close()


def test_h5_a_slow_request_does_not_delay_other_owners(make_bench):
    bench = make_bench()
    bench.submit(*[ask(f"m{n}", "mallory") for n in range(20)])
    bench.begun("m0")
    bench.release("c")
    bench.submit(ask("c", "carol"))
    assert bench.take() == TokenCounts("c", 1, 0, ())
    assert bench.log == ["m0", "c"]


def test_h5_an_owner_has_one_request_in_work_and_keeps_its_order(make_bench):
    bench = make_bench()
    bench.submit(*[ask(f"m{n}", "mallory") for n in range(5)])
    bench.release(*[f"m{n}" for n in range(5)])
    assert [bench.take().id for _ in range(5)] == [f"m{n}" for n in range(5)]


def test_h5_owners_take_turns_where_threads_are_short(make_bench):
    bench = make_bench(threads=1)
    bench.submit(ask("m0", "mallory"))
    bench.begun("m0")
    bench.submit(
        *[ask(f"m{n}", "mallory") for n in range(1, 4)], ask("c", "carol"), ask("b", "bob")
    )
    ids = ["m0", "m1", "m2", "m3", "c", "b"]
    bench.release(*ids)
    assert {bench.take().id for _ in ids} == set(ids)
    assert bench.log == ["m0", "c", "b", "m1", "m2", "m3"]


def test_h5_a_request_beyond_its_deadline_fails_and_frees_its_place(make_bench):
    bench = make_bench(threads=1, deadline=0.05)
    bench.submit(ask("slow", "mallory"), ask("next", "mallory"))
    bench.begun("slow")
    failed = [bench.take(), bench.take()]
    assert [(one.id, one.code) for one in failed] == [
        ("slow", "request_refused"),
        ("next", "request_refused"),
    ]
    bench.submit(ask("more", "mallory"))
    refused = bench.take()
    assert isinstance(refused, Failed)
    assert "still being prepared" in refused.message
    bench.release("c")
    bench.submit(ask("c", "carol"))
    assert bench.take() == TokenCounts("c", 1, 0, ())
    bench.release("slow")  # its result comes too late
    bench.release("later")
    while True:
        bench.submit(ask("later", "mallory"))
        item = bench.take()
        if isinstance(item, TokenCounts):
            break
        assert isinstance(item, Failed)
    assert item.id == "later"


def test_a_queued_request_is_cancelled_immediately(make_bench):
    bench = make_bench()
    bench.submit(ask("m0", "mallory"), ask("m1", "mallory"))
    bench.begun("m0")
    bench.preparation.cancel("m1")
    ended = bench.take()
    assert isinstance(ended, Finished)
    assert (ended.id, ended.reason) == ("m1", "cancelled")
    bench.release("m0")
    assert bench.take() == TokenCounts("m0", 1, 0, ())
    assert bench.log == ["m0"]


def test_a_request_in_work_is_cancelled_behind_its_prompt(make_bench):
    bench = make_bench()
    bench.submit(ask("m0", "mallory"))
    bench.begun("m0")
    bench.preparation.cancel("m0")
    bench.release("m0")
    assert [bench.take(), bench.take()] == [TokenCounts("m0", 1, 0, ()), Cancel("m0")]
    bench.preparation.cancel("m0")
    assert bench.take() == Cancel("m0")


def test_h5_the_engines_intake_prepares_owners_apart():
    """The real reader, over a pipe: the first request's schema never finishes compiling."""
    vocabulary = ScriptedVocabulary()
    prompts = PromptBuilder(ChatTemplate(CHATML), vocabulary, 512)
    gate = threading.Event()

    def check(params: SamplingParams) -> None:
        if params.grammar:
            gate.wait(3 * WAIT_S)

    inbox: SimpleQueue[Item] = SimpleQueue()
    reading, writing = os.pipe()
    embeds = EmbedBuilder(vocabulary, ScriptedEmbedder(vocabulary, 512))
    intake = Intake(reading, prompts, embeds, check, inbox, time.monotonic, Meter(vocabulary))
    intake.start()
    slow = Generate("slow", "mallory", (ChatMessage("user", "hi"),), SamplingParams(grammar="x"))
    try:
        os.write(writing, frames.encode(slow))
        os.write(writing, frames.encode(ask("hello", "carol")))
        os.write(writing, frames.encode(CountTokens("count", texts=("one two",), owner="bob")))
        try:
            first, second = inbox.get(timeout=WAIT_S), inbox.get(timeout=WAIT_S)
        except Empty:
            pytest.fail("the slow request holds up the others")
        assert {first.id, second.id} == {"hello", "count"}  # type: ignore[union-attr]
        gate.set()
        third = inbox.get(timeout=WAIT_S)
        assert isinstance(third, Prompt)
        assert third.id == "slow"
        os.write(writing, frames.encode(Shutdown()))
        assert inbox.get(timeout=WAIT_S) is None
    finally:
        gate.set()
        os.close(writing)
        intake.join(WAIT_S)
        os.close(reading)
