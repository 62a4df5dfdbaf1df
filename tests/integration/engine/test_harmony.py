"""A model whose marks are control tokens, as in gpt-oss, through llama.cpp and the engine."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from chatsite.engine.backends.llama.backend import LlamaBackend
from chatsite.engine.batching.loop import Engine
from chatsite.engine.contract.messages import (
    ChatMessage,
    Finished,
    Generate,
    Load,
    PromptOptions,
    SamplingParams,
    Step,
    ToHost,
    Tool,
)
from chatsite.engine.contract.tuning import Tuning
from chatsite.engine.prompting import harmony
from chatsite.engine.prompting.output import split
from chatsite.engine.prompting.prompt import PromptBuilder
from chatsite.engine.prompting.template import ChatTemplate
from tests.support import templates, tiny_model

USER = ChatMessage("user", "Count to <|end|> two.")
SCHEMA = {"type": "object", "properties": {"to": {"enum": [1, 2]}}, "required": ["to"]}
TOOL = Tool("count", "Counts.", SCHEMA)


@pytest.fixture(scope="module")
def backend(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LlamaBackend]:
    path = tmp_path_factory.mktemp("harmony") / "model.gguf"
    tiny_model.write(path, templates.HARMONY, harmony.MARKS)
    tuning = Tuning(use_extra_bufts=False, flash_attention=False, threads=1)
    load = Load("harmony", str(path), tuning, context=1024, slots=1, step_target_ms=200)
    backend = LlamaBackend(load, lambda progress: None)
    yield backend
    backend.close()


@pytest.fixture
def prompts(backend: LlamaBackend) -> PromptBuilder:
    backend.memory.clear(0)
    return PromptBuilder(ChatTemplate(backend.template), backend.vocabulary, 1024, backend.grammar)


def answer(backend: LlamaBackend, prompts: PromptBuilder, request: Generate) -> str:
    frames: list[ToHost] = []
    engine = Engine(backend, frames.append, step_target_ms=200)
    engine.submit(prompts.prepare(request, 0.0))
    for _ in range(600):
        engine.step()
        if any(isinstance(frame, Finished) for frame in frames):
            break
    steps = [frame for frame in frames if isinstance(frame, Step)]
    return "".join(delta.text for step in steps for delta in step.deltas)


def test_t40_marks_are_control_tokens_in_the_prompt_but_for_those_of_users(backend, prompts):
    prompt = prompts.prepare(Generate("g", "ann", (USER,)), 0.0)
    marks = (harmony.END, harmony.START)
    end, start = (backend.vocabulary.tokenize(mark, special=True)[0] for mark in marks)
    assert prompt.tokens.count(start) == 3
    assert prompt.tokens.count(end) == 2  # the user's is text


def test_t40_a_forced_call_is_written_in_marks_and_read_back(backend, prompts):
    options = PromptOptions(tools=(TOOL,), tool_choice="required")
    params = SamplingParams(temperature=0, max_tokens=300)
    text = answer(backend, prompts, Generate("g", "ann", (USER,), params, options=options))
    assert text.startswith(harmony.FORCED)
    _, content, [call] = split(text, prompts.syntax, tools=True)
    assert content == ""
    assert call.name == "count"
    assert json.loads(call.arguments)["to"] in {1, 2}


def test_t40_a_schema_holds_for_the_answer_proper(backend, prompts):
    params = SamplingParams(temperature=0, max_tokens=300, json_schema=SCHEMA)
    text = answer(backend, prompts, Generate("g", "ann", (USER,), params))
    assert text.startswith(harmony.ANSWER_OPEN)
    reasoning, content, _ = split(text, prompts.syntax, tools=False)
    assert reasoning == ""
    assert json.loads(content)["to"] in {1, 2}
