"""The engine over llama.cpp, for each kind of model memory.

These are full attention, a sliding window, a recurrent state, and mixtures.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from chatsite.engine.backends.llama.backend import LlamaBackend
from chatsite.engine.batching.loop import Engine
from chatsite.engine.contract.backend import Chunk, Decoded
from chatsite.engine.contract.messages import (
    ChatMessage,
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
from tests.support import families

# Longer than the sliding window of the model that has one.
LONG = "one two three four five six seven eight nine ten eleven twelve "
PARAMS = SamplingParams(temperature=0, max_tokens=12, ignore_eos=True)
Talk = tuple[ChatMessage, ...]


class Site:
    """An engine with an empty cache, over a backend that other engines have used."""

    def __init__(self, backend: LlamaBackend, cache_bytes: int) -> None:
        for slot in range(backend.facts.slots):
            backend.memory.clear(slot)
        self.frames: list[ToHost] = []
        self.engine = Engine(
            backend, self.frames.append, step_target_ms=200, cache_bytes=cache_bytes
        )
        template = ChatTemplate(backend.template)
        self.prompts = PromptBuilder(template, backend.vocabulary, backend.facts.context)
        self.asked = 0

    def submit(self, messages: Talk, owner: str = "ann") -> str:
        self.asked += 1
        request = Generate(str(self.asked), owner, messages, PARAMS)
        self.engine.submit(self.prompts.prepare(request, 0.0))
        return request.id

    def answer(self, messages: Talk, owner: str = "ann") -> tuple[str, int]:
        """Return the text, and how many tokens of the prompt were cached."""
        id = self.submit(messages, owner)
        return self.text_of(id), self.started(id).cached_tokens

    def text_of(self, id: str) -> str:
        for _ in range(400):
            if any(isinstance(frame, Finished) and frame.id == id for frame in self.frames):
                break
            self.engine.step()
        steps = [frame for frame in self.frames if isinstance(frame, Step)]
        return "".join(d.text for step in steps for d in step.deltas if d.id == id)

    def started(self, id: str) -> Started:
        return next(f for f in self.frames if isinstance(f, Started) and f.id == id)


@pytest.fixture(scope="module", params=families.FAMILIES)
def family(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture(scope="module", params=[False, True], ids=["plain", "flash"])
def backend(
    family: str, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LlamaBackend]:
    path = families.write(tmp_path_factory.mktemp("models") / family, family)
    tuning = Tuning(use_extra_bufts=False, flash_attention=request.param, threads=1)
    load = Load(family, str(path), tuning, context=512, slots=2, step_target_ms=200)
    backend = LlamaBackend(load, lambda progress: None)
    yield backend
    backend.close()


MakeSite = Callable[[int], Site]


@pytest.fixture
def make(backend: LlamaBackend) -> MakeSite:
    return lambda cache_bytes: Site(backend, cache_bytes)


def user(text: str) -> ChatMessage:
    return ChatMessage("user", text)


def test_the_family_is_described(backend: LlamaBackend, family: str) -> None:
    assert backend.facts.architecture == family
    assert backend.facts.supports_truncation == (family not in families.GROWING)


def test_a_conversation_continues_as_if_prefilled_again(make: MakeSite, family: str) -> None:
    first = (user(LONG * 2),)
    site = make(0)
    said, cached = site.answer(first)
    assert said
    assert cached == 0
    talk = (*first, ChatMessage("assistant", said), user("and then " + LONG))
    again, cached = site.answer(talk)
    assert again == make(0).answer(talk)[0]
    if family not in families.GROWING:
        assert cached > 100


def test_an_edited_question_reuses_the_common_prefix(make: MakeSite, family: str) -> None:
    site = make(0)
    site.answer((user(LONG * 2 + "red"),))
    edited = (user(LONG * 2 + "blue and some more"),)
    said, cached = site.answer(edited)
    assert said == make(0).answer(edited)[0]
    assert (cached > 100) == (family not in families.GROWING)


def test_a_conversation_that_lost_its_slot_comes_back(make: MakeSite, family: str) -> None:
    site = make(64 << 20)
    first = (user(LONG * 2),)
    said, _ = site.answer(first)
    for other in ("bob", "eve", "joe"):
        site.answer((user(other + LONG * 2),), owner=other)
    talk = (*first, ChatMessage("assistant", said), user("and then " + LONG))
    again, cached = site.answer(talk)
    assert again == make(0).answer(talk)[0]
    # Random text is not tokenized as it was generated, so the cache has to be truncated, which not
    # every model supports.
    assert (cached > 100) == (family not in {*families.GROWING, "gemma3"})


def test_a_saved_sequence_continues_at_its_end(backend: LlamaBackend) -> None:
    tokens = backend.vocabulary.tokenize(LONG * 2, special=False)
    greedy = backend.sampler(PARAMS, [], [])

    def after_the_last() -> int:
        assert backend.decode([Chunk(1, len(tokens) - 1, tokens[-1:], 1)]) is Decoded.OK
        return greedy.sample(0)

    found = []
    for save in (False, True):
        for slot in range(2):
            backend.memory.clear(slot)
        assert backend.decode([Chunk(int(not save), 0, tokens[:-1], 1)]) is Decoded.OK
        if save:
            data = backend.memory.save(0)
            assert data is not None
            backend.memory.clear(0)
            assert backend.memory.restore(1, data)
            assert backend.memory.length(1) == len(tokens) - 1
        found.append(after_the_last())
    greedy.close()
    assert found[0] == found[1]


def test_two_concurrent_requests_get_the_same_text_as_alone(make: MakeSite) -> None:
    talks = [(user(LONG + "red"),), (user("Something else. " + LONG),)]
    alone = [make(0).answer(talk)[0] for talk in talks]
    site = make(0)
    ids = [site.submit(talk, owner) for talk, owner in zip(talks, ("ann", "bob"), strict=True)]
    assert [site.text_of(id) for id in ids] == alone


def test_the_cache_is_not_shared_between_owners(make: MakeSite) -> None:
    site = make(64 << 20)
    site.answer((user(LONG * 2),))
    assert site.answer((user(LONG * 2),), owner="bob")[1] == 0
