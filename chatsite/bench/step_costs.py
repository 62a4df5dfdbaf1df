"""What steps cost on this machine, for the capacity planner: an engine child alone."""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from dataclasses import dataclass, field

from chatsite.bench.load import words
from chatsite.capacity.planner.errors import BadPlan
from chatsite.engine.client import EngineClient
from chatsite.engine.contract import messages as m
from chatsite.engine.contract.offload import PROCESSOR
from chatsite.inference.model_spec import ModelSpec, tuning_of

_RUNS = 3
_TOKENS = 64
_QUESTION_WORDS = 60
_LONG_WORDS = 400


@dataclass
class StepCosts:
    """Prefill in tokens/s, milliseconds per step by batch size, and per 1,000 tokens of context."""

    prefill_tokens_per_s: float
    decode: tuple[tuple[int, float], ...]
    context_ms: float
    slots: int
    context: int


@dataclass
class _Answers:
    """Tokens with their arrival, and the ends, of the requests that run together."""

    tokens: list[tuple[float, str, int]] = field(default_factory=list)
    ends: dict[str, asyncio.Future[m.Finished]] = field(default_factory=dict)


async def measure(spec: ModelSpec) -> StepCosts:
    """Measure the child that the inference host would start, with the stored tuning.

    A step's time is the time per token of all sequences together, so it contains what speculative
    decoding saves. Takes about half a minute for a small model. Raises `BadPlan` if the model
    can't answer.
    """
    tuning, _complete = await tuning_of(spec)
    client = EngineClient(spec.name, backend=spec.backend)
    await client.start(spec.load(tuning, PROCESSOR, 0))
    answers = _Answers()
    reader = asyncio.create_task(_read(client, answers))
    try:
        await _ask(client, answers, 1, _QUESTION_WORDS, seed=-1)  # reads the weights from disk
        batches = [size for size in (1, 2, 4, 8, 16, 32) if size <= spec.slots]
        if spec.slots not in batches:
            batches.append(spec.slots)
        decode: list[tuple[int, float]] = []
        rates: list[float] = []
        for size in batches:
            runs = [
                await _ask(client, answers, size, _QUESTION_WORDS, seed=seed)
                for seed in range(_RUNS)
            ]
            # A larger batch never has shorter steps; measurements disturb each other.
            floor = decode[-1][1] if decode else 0.0
            decode.append((size, max(floor, statistics.median(step for step, _ in runs))))
        long = [
            await _ask(client, answers, 1, _LONG_WORDS, seed=100 + seed) for seed in range(_RUNS)
        ]
        ends = [end for _, end in long]
        rates = [
            1e3 * (end.usage.prompt_tokens - end.usage.cached_tokens) / end.usage.prefill_ms
            for end in ends
        ]
        deeper = statistics.median(step for step, _ in long) - decode[0][1]
        depth = statistics.median(end.usage.prompt_tokens for end in ends) / 1000
    finally:
        await client.stop()
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)
    context_ms = max(0.0, deeper / depth)
    return StepCosts(
        round(statistics.median(rates), 1),
        tuple((size, round(ms, 2)) for size, ms in decode),
        round(context_ms, 3),
        spec.slots,
        spec.context,
    )


async def _read(client: EngineClient, answers: _Answers) -> None:
    async for frame in client:
        now = time.perf_counter()
        match frame:
            case m.Step(deltas):
                answers.tokens += [(now, delta.id, delta.tokens) for delta in deltas]
            case m.Finished(id=id):
                answers.ends[id].set_result(frame)
            case m.Failed(id=id):
                answers.ends[id].set_exception(BadPlan(f"the engine failed: {frame.message}"))


async def _ask(
    client: EngineClient, answers: _Answers, size: int, count: int, *, seed: int
) -> tuple[float, m.Finished]:
    """Return milliseconds per step of ``size`` answers at once, and the end of the first one."""
    answers.tokens.clear()
    answers.ends.clear()
    chooser = random.Random(f"{seed}/{size}")
    for number in range(size):
        id = f"{size}-{seed}-{number}"
        answers.ends[id] = asyncio.get_running_loop().create_future()
        question = m.ChatMessage("user", f"Tell me about {words(chooser, count)}.")
        params = m.SamplingParams(
            temperature=0.8, seed=number + 1, max_tokens=_TOKENS, ignore_eos=True
        )
        await client.send(m.Generate(id, f"{seed}/{number}", (question,), params))
    ends = await asyncio.gather(*answers.ends.values())
    # While all run: from the last of the first tokens to the first of the last ones.
    first: dict[str, float] = {}
    last: dict[str, float] = {}
    for at, id, _ in answers.tokens:
        first.setdefault(id, at)
        last[id] = at
    began, ended = max(first.values()), min(last.values())
    tokens = sum(count for at, _, count in answers.tokens if began < at <= ended)
    if not tokens:
        raise BadPlan("the answers were too short to measure a step")
    return 1e3 * (ended - began) * size / tokens, ends[0]
