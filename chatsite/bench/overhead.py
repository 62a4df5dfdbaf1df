"""What the API costs over an engine child alone: time to the first token, speed, and processor
time of a streamed token in all of the site's processes beside llama.cpp."""

from __future__ import annotations

import asyncio
import json
import random
import re
import statistics
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

import psutil
from django.conf import settings

from chatsite.bench import load
from chatsite.bench.compare import new_key
from chatsite.bench.engine import engine
from chatsite.bench.load import Record, Shape, Turn, words
from chatsite.chat import prompt
from chatsite.dispatch.connection import connect
from chatsite.engine.messages import Stats
from chatsite.inference import status
from chatsite.inference.assemble import resolve
from chatsite.supervisor.leftovers import Register

_STREAMS = 8
# Questions one after another, each when the machine has been idle for a moment.
_IDLE_QUESTIONS = 20
_IDLE_SECONDS = 0.1
_TEXT = re.compile(rb'content":"[^"]')
_TOKENS = re.compile(rb'"completion_tokens":(\d+)')
_SETTLE_SECONDS = 5.0
# What a command line shows of each process; `manage.py up` itself is the rest.
_ROLES = {
    "redis-server": "redis",
    "daphne": "daphne",
    "celery": "celery",
    " inference": "inference",
    "chatsite.engine": "engine",
}


async def measure(url: str, model: str, runs: int, tokens: int) -> dict[str, Any]:
    """Medians over ``runs``, site and engine in turn. ``ttft_added_ms`` of one question at a time;
    ``throughput_ratio`` (site / engine) and ``cpu_us_per_token`` of `_STREAMS` streams at once, of
    ``tokens`` each. ``cpu_us_NAME`` is the part of each kind of process; without a site of this
    data folder on this machine there are none. Work that is there without any stream counts too.
    """
    spec = await resolve(model)
    shape = Shape(_STREAMS, turns=1, tokens=tokens, think=0)
    user, key = await new_key()
    figures: list[dict[str, Any]] = []
    errors = 0
    try:
        for seed in range(runs):
            site, alone = Record(), Record()
            async with _streams(url, model, key, tokens) as turn:
                await _one_by_one(turn, site, seed)
                async with _Cpu(model) as cpu:
                    ran = await load.run(shape, turn, seed)
            async with engine(spec, shape) as turn:
                await _one_by_one(turn, alone, seed)
                ran_alone = await load.run(shape, turn, seed)
            errors += sum(len(each.errors) for each in (site, alone, ran, ran_alone))
            figures.append(
                {
                    "ttft_site_ms": _median_ms(site),
                    "ttft_engine_ms": _median_ms(alone),
                    "ttft_added_ms": _median_ms(site) - _median_ms(alone),
                    "tokens_per_s_site": ran.tokens / ran.wall,
                    "tokens_per_s_engine": ran_alone.tokens / ran_alone.wall,
                    "throughput_ratio": ran.tokens
                    * ran_alone.wall
                    / ran.wall
                    / (ran_alone.tokens or 1),
                    **{
                        f"cpu_us_{name}": seconds * 1e6 / (ran.tokens or 1)
                        for name, seconds in cpu.seconds.items()
                    },
                }
            )
    finally:
        await user.adelete()
    medians = load.median(figures)
    if cpu.seconds:
        medians["cpu_us_per_token"] = round(
            statistics.median(
                sum(value for name, value in one.items() if name.startswith("cpu_us_"))
                for one in figures
            ),
            1,
        )
    return {"streams": _STREAMS, "tokens": tokens, "runs": runs, **medians, "errors": errors}


def _median_ms(record: Record) -> float:
    return statistics.median(record.ttft) * 1000 if record.ttft else 0.0


async def _one_by_one(turn: Turn, record: Record, seed: int) -> None:
    """The first question is not counted: it finds no beginning of a prompt in the cache."""
    chooser = random.Random(f"idle/{seed}")
    for number in range(_IDLE_QUESTIONS + 1):
        counted = record if number else Record()
        await turn(0, 0, f"({number}) What is {words(chooser, 3)}?", counted)
        await asyncio.sleep(_IDLE_SECONDS)


@asynccontextmanager
async def _streams(url: str, model: str, key: str, tokens: int) -> AsyncIterator[Turn]:
    """A client that takes little of the machine that it measures: bytes are looked at, not
    parsed. A connection per user, kept open; each question is a conversation."""
    host, port = urlsplit(url).hostname, urlsplit(url).port
    opening = [{"role": one.role, "content": one.content} for one in prompt.opening()]
    async with AsyncExitStack() as stack:
        connections: dict[int, tuple[asyncio.StreamReader, asyncio.StreamWriter]] = {}

        async def turn(user: int, index: int, question: str, record: Record) -> None:
            if user not in connections:
                connections[user] = await asyncio.open_connection(host, port)
                stack.callback(connections[user][1].close)
            reader, writer = connections[user]
            fields = {
                "model": model,
                "messages": [*opening, {"role": "user", "content": question}],
                "max_tokens": tokens,
                "temperature": 0,
                "ignore_eos": True,
                "stream": True,
                "stream_options": {"include_usage": True},
            }
            body = json.dumps(fields).encode()
            head = (
                f"POST /v1/chat/completions HTTP/1.1\r\nHost: {host}:{port}\r\n"
                f"Authorization: Bearer {key}\r\nContent-Length: {len(body)}\r\n\r\n"
            )
            began = time.perf_counter()
            writer.write(head.encode() + body)
            if b" 200 " not in await reader.readline():
                record.errors.append((await reader.read(2000)).decode(errors="replace"))
                return
            end = b""
            first: float | None = None
            while not end.endswith(b"\r\n0\r\n\r\n"):
                came = await reader.read(1 << 16)
                if not came:
                    break
                end = end[-1000:] + came
                if first is None and _TEXT.search(end):
                    first = time.perf_counter()
            counted = _TOKENS.search(end)
            if first is None or counted is None:
                record.errors.append(end.decode(errors="replace"))
                return
            record.ttft.append(first - began)
            record.tokens += int(counted[1])

        yield turn


class _Cpu:
    """Processor seconds of the site's processes during the block, by kind; of an engine child
    only what its thread does outside of model and sampling."""

    def __init__(self, model: str) -> None:
        self._model = model
        self._before: Counter[str] = Counter()
        self.seconds: dict[str, float] = {}

    async def __aenter__(self) -> _Cpu:
        self._engine = await self._own_seconds()
        self._before = _used()
        return self

    async def __aexit__(self, *_: object) -> None:
        used = _used()
        used.subtract(self._before)
        self.seconds = {name: seconds for name, seconds in used.items() if name != "engine"}
        if used:
            self.seconds["engine"] = await self._own_seconds() - self._engine

    async def _own_seconds(self) -> float:
        """As the engines that serve the model tell it when nothing runs any more."""
        async with asyncio.timeout(_SETTLE_SECONDS), connect() as redis:
            told: list[Stats] = []
            while True:
                found = [
                    model.stats
                    for host in await status.alive(redis)
                    for model in host.models
                    if model.name == self._model and model.stats
                ]
                if found == told and not any(one.running for one in found):
                    return sum(one.own_seconds for one in found)
                told = found
                await asyncio.sleep(1.5 * status.ANNOUNCE_SECONDS)


def _used() -> Counter[str]:
    used: Counter[str] = Counter()
    for process in _site():
        try:
            line, times = " ".join(process.cmdline()), process.cpu_times()
        except psutil.NoSuchProcess:
            continue
        name = next((role for word, role in _ROLES.items() if word in line), "up")
        used[name] += times.user + times.system
    return used


def _site() -> Iterator[psutil.Process]:
    """The processes of the site on this data folder: the supervisor and all below it."""
    for child in Register(settings.ENV.data_dir / "run" / "children.json").alive():
        supervisor = child.parent()
        if supervisor is not None:
            yield supervisor
            yield from supervisor.children(recursive=True)
        return
