"""The cost of the API over an engine child alone.

Measures TTFT, throughput, and CPU time per streamed token in all of the site's processes, excluding
llama.cpp.
"""

from __future__ import annotations

import asyncio
import json
import random
import re
import statistics
import time
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Any
from urllib.parse import urlsplit

from asgiref.sync import sync_to_async

from chatsite.bench import load, users
from chatsite.bench.cpu import Cpu, split
from chatsite.bench.engine import engine
from chatsite.bench.load import Record, Shape, Turn, words
from chatsite.conversations import prompt
from chatsite.inference.assemble import resolve

_STREAMS = 8
# Sequential questions, each after a short idle time.
_IDLE_QUESTIONS = 20
_IDLE_SECONDS = 0.1
# Seconds per run without any request, to measure the site's idle cost.
_QUIET_SECONDS = 5.0
_LONGER = 4
_TEXT = re.compile(rb'content":"[^"]')
_TOKENS = re.compile(rb'"completion_tokens":(\d+)')


async def measure(url: str, model: str, runs: int, tokens: int) -> dict[str, Any]:
    """Return medians over ``runs``, site and engine alternately.

    ``ttft_added_ms`` is for one question at a time; ``throughput_ratio`` (site / engine) and
    ``cpu_us_per_token`` are for `_STREAMS` concurrent streams of ``tokens`` tokens each.
    ``cpu_us_NAME`` is the share of each kind of process, absent unless a site of this data
    directory runs on this machine. It includes the cost of requests and of idling: `cpu.split`
    separates them by means of answers that are `_LONGER` times as long.
    """
    spec = await resolve(model)
    shape, longer = (Shape(_STREAMS, 1, tokens=n, think=0) for n in (tokens, tokens * _LONGER))
    user, key = await sync_to_async(users.with_key)()
    figures: list[dict[str, Any]] = []
    errors = 0
    try:
        async with Cpu(model) as idle:
            await asyncio.sleep(_QUIET_SECONDS * runs)
        for seed in range(runs):
            site, alone = Record(), Record()
            async with _streams(url, model, key, tokens) as turn:
                await _one_by_one(turn, site, seed)
                async with Cpu(model) as cpu:
                    ran = await load.run(shape, turn, seed)
            async with _streams(url, model, key, longer.tokens) as turn, Cpu(model) as cpu_longer:
                ran_longer = await load.run(longer, turn, runs + seed)
            async with engine(spec, shape) as turn:
                await _one_by_one(turn, alone, seed)
                ran_alone = await load.run(shape, turn, seed)
            records = (site, alone, ran, ran_longer, ran_alone)
            errors += sum(len(each.errors) for each in records)
            parts = {
                f"cpu_us_{name}": seconds * 1e6 / (ran.tokens or 1)
                for name, seconds in cpu.seconds.items()
            }
            speed, speed_alone = ran.tokens / ran.wall, ran_alone.tokens / ran_alone.wall
            figures.append(
                {
                    "ttft_site_ms": _median_ms(site),
                    "ttft_engine_ms": _median_ms(alone),
                    "ttft_added_ms": _median_ms(site) - _median_ms(alone),
                    "tokens_per_s_site": speed,
                    "tokens_per_s_engine": speed_alone,
                    "throughput_ratio": speed / (speed_alone or 1),
                    **parts,
                    **({"cpu_us_per_token": sum(parts.values())} if parts else {}),
                    **split(
                        idle.used(),
                        cpu.used(ran.tokens),
                        cpu_longer.used(ran_longer.tokens),
                        _STREAMS,
                    ),
                }
            )
    finally:
        await sync_to_async(users.remove)([user])
    medians = load.median(figures)
    return {"streams": _STREAMS, "tokens": tokens, "runs": runs, **medians, "errors": errors}


def _median_ms(record: Record) -> float:
    return statistics.median(record.ttft) * 1000 if record.ttft else 0.0


async def _one_by_one(turn: Turn, record: Record, seed: int) -> None:
    """Ask sequentially. The first question is not counted: its prefix is not yet in the cache."""
    chooser = random.Random(f"idle/{seed}")
    for number in range(_IDLE_QUESTIONS + 1):
        counted = record if number else Record()
        await turn(0, 0, f"({number}) What is {words(chooser, 3)}?", counted)
        await asyncio.sleep(_IDLE_SECONDS)


@asynccontextmanager
async def _streams(url: str, model: str, key: str, tokens: int) -> AsyncIterator[Turn]:
    """Yield a client that costs the measured machine little: it scans bytes and parses nothing.

    It keeps one connection per user open; each question is a new conversation.
    """
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
