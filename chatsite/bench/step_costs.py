"""What steps cost on this machine, for the capacity planner: an engine child alone."""

from __future__ import annotations

import asyncio
import random
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from django.utils.translation import gettext as _

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
    """Tokens with their arrival, and the ends, of the requests that run together.

    ``reader`` fills both while the engine process lives.
    """

    tokens: list[tuple[float, str, int]] = field(default_factory=list)
    ends: dict[str, asyncio.Future[m.Finished]] = field(default_factory=dict)
    reader: asyncio.Task[None] | None = None


async def measure(spec: ModelSpec, say: Callable[[str], object]) -> StepCosts:
    """Measure the child that the inference host would start, with the stored tuning.

    ``say`` is told how far the measurement is.

    A step's time is the time per token of all sequences together, so it contains what speculative
    decoding saves. Takes about half a minute for a small model. Raises `BadPlan` if the model
    can't answer.
    """
    tuning, _complete = await tuning_of(spec)
    client = EngineClient(spec.name, backend=spec.backend)
    await client.start(spec.load(tuning, PROCESSOR, 0))
    answers = _Answers()
    reader = answers.reader = asyncio.create_task(_read(client, answers))
    try:
        await _ask(client, answers, 1, _QUESTION_WORDS, seed=-1)  # reads the weights from disk
        batches = [size for size in (1, 2, 4, 8, 16, 32) if size <= spec.slots]
        if spec.slots not in batches:
            batches.append(spec.slots)
        decode: list[tuple[int, float]] = []
        rates: list[float] = []
        for size in batches:
            say(
                _("Measuring %(size)s of at most %(slots)s answers at once")
                % {"size": size, "slots": spec.slots}
            )
            runs = [
                await _ask(client, answers, size, _QUESTION_WORDS, seed=seed)
                for seed in range(_RUNS)
            ]
            # A larger batch never has shorter steps; measurements disturb each other.
            floor = decode[-1][1] if decode else 0.0
            decode.append((size, max(floor, statistics.median(step for step, _end in runs))))
        say(_("Measuring answers to long questions"))
        long = [
            await _ask(client, answers, 1, _LONG_WORDS, seed=100 + seed) for seed in range(_RUNS)
        ]
        ends = [end for _step, end in long]
        rates = [
            1e3 * (end.usage.prompt_tokens - end.usage.cached_tokens) / end.usage.prefill_ms
            for end in ends
        ]
        deeper = statistics.median(step for step, _end in long) - decode[0][1]
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
    ends = await _ended(answers)
    # While all run: from the last of the first tokens to the first of the last ones.
    first: dict[str, float] = {}
    last: dict[str, float] = {}
    for at, id, _tokens in answers.tokens:
        first.setdefault(id, at)
        last[id] = at
    began, ended = max(first.values()), min(last.values())
    tokens = sum(count for at, _id, count in answers.tokens if began < at <= ended)
    if not tokens:
        raise BadPlan("the answers were too short to measure a step")
    return 1e3 * (ended - began) * size / tokens, ends[0]


async def _ended(answers: _Answers) -> list[m.Finished]:
    """Wait for all ends. Raises `BadPlan` or `EngineError` if the engine process ends before."""
    together = asyncio.gather(*answers.ends.values())
    waited: set[asyncio.Future[Any]] = {together}
    if answers.reader is not None:
        waited.add(answers.reader)
    await asyncio.wait(waited, return_when=asyncio.FIRST_COMPLETED)
    if together.done():
        return together.result()
    together.cancel()
    if answers.reader is not None:
        answers.reader.result()
    raise BadPlan("the engine process ended during the measurement")
