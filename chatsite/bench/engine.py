"""The same load on an engine child alone: only frames on its pipe."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import pairwise

from chatsite.bench.load import Record, Shape, Turn
from chatsite.conversations import prompt
from chatsite.engine.client import EngineClient
from chatsite.engine.contract import messages as m
from chatsite.engine.contract.offload import PROCESSOR
from chatsite.inference.model_spec import ModelSpec, tuning_of


@dataclass
class _Open:
    sent_at: float
    text: list[str] = field(default_factory=list)
    stamps: list[float] = field(default_factory=list)
    end: asyncio.Future[m.Finished | m.Failed] = field(
        default_factory=lambda: asyncio.get_running_loop().create_future()
    )


@asynccontextmanager
async def engine(spec: ModelSpec, shape: Shape) -> AsyncIterator[Turn]:
    """Start an engine child as the inference host does, with the saved tuning.

    Yields a function that runs one turn.
    """
    tuning, _complete = await tuning_of(spec)
    client = EngineClient(spec.name, backend=spec.backend)
    await client.start(spec.load(tuning, PROCESSOR, spec.cache_bytes))
    open_requests: dict[str, _Open] = {}
    histories: dict[int, list[m.ChatMessage]] = {}

    async def read() -> None:
        async for frame in client:
            now = time.perf_counter()
            match frame:
                case m.Step(deltas):
                    for delta in deltas:
                        open_requests[delta.id].text.append(delta.text)
                        open_requests[delta.id].stamps.append(now)
                case m.Finished(id=id) | m.Failed(id=id):
                    open_requests[id].end.set_result(frame)

    async def turn(user: int, index: int, question: str, record: Record) -> None:
        if index == 0:
            histories[user] = list(prompt.opening())
        histories[user].append(m.ChatMessage("user", question))
        id = f"{user}-{index}-{time.perf_counter_ns()}"
        request = open_requests[id] = _Open(time.perf_counter())
        params = m.SamplingParams(temperature=0.0, max_tokens=shape.tokens, ignore_eos=True)
        await client.send(m.Generate(id, str(user), tuple(histories[user]), params))
        end = await request.end
        if isinstance(end, m.Failed):
            record.errors.append(end.message)
            return
        histories[user].append(m.ChatMessage("assistant", "".join(request.text)))
        record.ttft.append(request.stamps[0] - request.sent_at)
        record.gaps.extend(b - a for a, b in pairwise(request.stamps))
        record.tokens += end.usage.completion_tokens

    reader = asyncio.create_task(read())
    try:
        yield turn
    finally:
        await client.stop()
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)
