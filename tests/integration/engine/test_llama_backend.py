"""llama.cpp behind the backend's interface: return codes, memory, vocabulary."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from chatsite.engine.backends.llama.backend import LlamaBackend
from chatsite.engine.contract.backend import Chunk, Decoded
from chatsite.engine.contract.messages import ChatMessage, Load, SamplingParams
from chatsite.engine.contract.tuning import Tuning
from chatsite.engine.prompting.prompt import PromptBuilder
from chatsite.engine.prompting.template import ChatTemplate

GREEDY = SamplingParams(temperature=0)


@pytest.fixture(scope="module")
def loaded(starter_model: Path) -> Iterator[LlamaBackend]:
    tuning = Tuning(use_extra_bufts=False, flash_attention=False, threads=1)
    load = Load("starter", str(starter_model), tuning, context=256, slots=3, step_target_ms=200)
    backend = LlamaBackend(load, lambda progress: None)
    yield backend
    backend.close()


@pytest.fixture
def backend(loaded: LlamaBackend) -> LlamaBackend:
    for slot in range(3):
        loaded.memory.clear(slot)
    return loaded


@pytest.fixture(scope="module")
def prompts(loaded: LlamaBackend) -> PromptBuilder:
    return PromptBuilder(ChatTemplate(loaded.template), loaded.vocabulary, 4096)


def words(backend: LlamaBackend, count: int) -> list[int]:
    return backend.vocabulary.tokenize("one two three four " * count, special=False)[:count]


def next_token(backend: LlamaBackend, row: int) -> int:
    sampler = backend.sampler(GREEDY, [], [])
    token = sampler.sample(row)
    sampler.close()
    return token


def test_more_tokens_than_a_slot_holds_find_no_space(backend):
    assert backend.facts.context == 256
    assert backend.decode([Chunk(0, 0, words(backend, 200), 1)]) is Decoded.OK
    assert backend.decode([Chunk(0, 200, words(backend, 100), 1)]) is Decoded.NO_SPACE
    assert backend.memory.length(0) == 200


def test_a_batch_that_makes_no_sense_is_invalid_and_changes_nothing(backend):
    assert backend.decode([Chunk(0, 0, words(backend, 20), 1)]) is Decoded.OK
    assert backend.decode([Chunk(99, 0, words(backend, 2), 1)]) is Decoded.INVALID
    assert backend.decode([Chunk(0, 5, words(backend, 2), 1)]) is Decoded.INVALID
    assert backend.memory.length(0) == 20


def test_a_copied_and_truncated_sequence_continues_as_if_prefilled(backend):
    tokens = words(backend, 60)
    backend.decode([Chunk(0, 0, tokens[:40], 1)])
    fresh = next_token(backend, 39)
    backend.decode([Chunk(1, 0, tokens, 1)])
    backend.memory.copy(1, 2)
    assert backend.memory.truncate(2, 39)
    assert (backend.memory.length(1), backend.memory.length(2)) == (60, 39)
    backend.decode([Chunk(2, 39, tokens[39:40], 1)])
    assert next_token(backend, 0) == fresh


def test_a_saved_sequence_continues_in_another_slot_as_if_prefilled(backend):
    tokens = words(backend, 40)
    backend.decode([Chunk(0, 0, tokens, 1)])
    fresh = next_token(backend, 39)
    saved = backend.memory.save(0)
    assert saved is not None
    assert saved.nbytes == backend.memory.size(0)
    backend.memory.clear(0)
    assert backend.memory.restore(2, saved)
    assert backend.memory.length(2) == 40
    assert backend.memory.truncate(2, 39)
    backend.decode([Chunk(2, 39, tokens[39:], 1)])
    assert next_token(backend, 0) == fresh


def test_an_invalid_saved_sequence_is_refused_and_the_slot_stays_usable(backend):
    tokens = words(backend, 40)
    backend.decode([Chunk(0, 0, tokens, 1)])
    fresh = next_token(backend, 39)
    saved = backend.memory.save(0)
    assert saved is not None
    assert not backend.memory.restore(1, saved[: saved.nbytes // 2])
    backend.memory.clear(1)
    assert backend.memory.length(1) == 0
    backend.decode([Chunk(1, 0, tokens, 1)])
    assert next_token(backend, 39) == fresh


def test_chunks_of_several_slots_are_computed_together(backend):
    tokens = words(backend, 30)
    alone = []
    for count in (10, 20, 30):
        backend.memory.clear(0)
        backend.decode([Chunk(0, 0, tokens[:count], 1)])
        alone.append(next_token(backend, count - 1))
    backend.memory.clear(0)
    backend.decode([Chunk(slot, 0, tokens[: (slot + 1) * 10], 1) for slot in range(3)])
    assert [next_token(backend, row) for row in (9, 29, 59)] == alone


def test_ignore_eos_bars_every_end(backend):
    tokens = backend.vocabulary.tokenize(
        "<|im_start|>user\nSay hi.<|im_end|>\n<|im_start|>assistant\nHi<|im_end|>", special=True
    )
    backend.decode([Chunk(0, 0, tokens[:-1], 1)])
    sampler = backend.sampler(SamplingParams(temperature=0, ignore_eos=True), [], [])
    assert sampler.sample(len(tokens) - 2) not in backend.vocabulary.ends
    sampler.close()


def test_pieces_of_tokens_are_the_text(backend):
    text = "größe 你好 😀\n\tcode {x}"
    tokens = backend.vocabulary.tokenize(text, special=False)
    assert b"".join(map(backend.vocabulary.piece, tokens)).decode() == text
    assert all(backend.vocabulary.piece(t) == b"" for t in backend.vocabulary.controls.values())


def test_an_ordinary_prompt_is_tokenized_whole(backend, prompts):
    messages = [
        ChatMessage("system", "Be <b>brief</b>."),
        ChatMessage("user", "if a < b | c > d: größe 你好"),
        ChatMessage("assistant", "  spaces  "),
        ChatMessage("user", "<im_start> [INST] </s>"),
    ]
    rendered = ChatTemplate(backend.template).render(messages)
    assert prompts.build(messages)[0] == backend.vocabulary.tokenize(rendered, special=True)


def test_no_control_token_of_the_model_can_be_written_by_users(backend, prompts):
    controls = backend.vocabulary.controls
    assert len(controls) > 5

    def count(content: str) -> list[int]:
        tokens, _ = prompts.build([ChatMessage("user", content)])
        return [token for token in tokens if token in controls.values()]

    ordinary = count("hello")
    assert ordinary
    for text in controls:
        assert count(f"a {text} b {text}") == ordinary
    assert count("".join(controls)) == ordinary
