"""Measures how hostile inputs affect other users.

Two well-behaved users stream, one through the page's socket and one through the API, while an
attacker sends each of `hostile_inputs` in turn.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final

import httpx
import psutil
from asgiref.sync import sync_to_async
from django.conf import settings

from chatsite.bench import users
from chatsite.bench.chat_client import ChatClient
from chatsite.bench.cpu import processes
from chatsite.bench.hostile_inputs import ATTACKS

# Long enough that a stream covers most of an attack.
_TOKENS: Final = 400
_SAMPLE_SECONDS: Final = 0.25
_PROBE_SECONDS: Final = 0.5
# Work that an attack left behind may continue for this long after its end.
_TAIL_SECONDS: Final = 3.0
_RECOVERY_SECONDS: Final = 90.0
_QUESTION: Final = "Write a long story about a lighthouse."


@dataclass
class Watch:
    """What the two users saw, as pairs of an end time and the duration in seconds.

    ``gaps`` are between two arrivals of text of a running answer, by user; ``waits`` the times to
    first text, of both; ``page`` the load times of the sign-in page. ``memory`` is the peak
    resident size in bytes by kind of process.
    """

    gaps: dict[str, list[tuple[float, float]]] = field(
        default_factory=lambda: {"page": [], "api": []}
    )
    waits: list[tuple[float, float]] = field(default_factory=list)
    page: list[tuple[float, float]] = field(default_factory=list)
    memory: dict[str, int] = field(default_factory=dict)
    errors: list[str] = field(default_factory=list)


def _most(times: list[tuple[float, float]], since: float) -> int:
    """Return the longest of ``times`` that ended after ``since``, in ms."""
    return round(max((took for at, took in times if at >= since), default=0.0) * 1000)


async def measure(
    url: str, model: str, seconds: float, names: Sequence[str], say: Callable[[str], object]
) -> dict[str, Any]:
    """Return the baseline and a row per input of ``names`` (all if empty).

    A row has the input's statuses, the longest gaps in ms and their increase over the baseline, the
    slowest sign-in page in ms, and the peak resident memory in MiB by kind of process. ``seconds``
    limits the baseline and each input.
    """
    watch = Watch()
    people = await _people()
    try:
        async with _neighbours(url, model, people, watch):
            await _until_both_stream(watch)
            began = time.monotonic()
            await asyncio.sleep(seconds)
            base = _figures(watch, began)
            rows = []
            for name in names or ATTACKS:
                say(name)
                row = await _attacked(name, url, model, seconds, people, watch)
                for user in ("page", "api"):
                    row[f"gap_{user}_added_ms"] = max(
                        0, row[f"gap_{user}_ms"] - base[f"gap_{user}_ms"]
                    )
                rows.append(row)
                if not await _until_both_stream(watch):
                    watch.errors.append(f"{name}: no text for {_RECOVERY_SECONDS:.0f} s after it")
                    break
    finally:
        await sync_to_async(users.remove)(people["users"])
    return {"baseline": base, "inputs": rows, "errors": watch.errors}


async def _attacked(
    name: str, url: str, model: str, seconds: float, people: dict[str, Any], watch: Watch
) -> dict[str, Any]:
    target = {
        "url": url,
        "model": model,
        "key": people["attacker_key"],
        "cookie": people["attacker_cookie"],
        "seconds": seconds,
    }
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "chatsite.bench.hostile_inputs", name),
        stdin=PIPE,
        stdout=PIPE,
        cwd=settings.BASE_DIR,
    )
    try:
        await _write(process, json.dumps(target))
        if await _line(process) != "ready":
            raise RuntimeError(f"{name}: the input could not be built")
        watch.memory.clear()
        began = time.monotonic()
        await _write(process, "go")
        statuses = json.loads(await _line(process) or "{}")
        took = time.monotonic() - began
        await asyncio.sleep(_TAIL_SECONDS)
    finally:
        if process.returncode is None:
            process.kill()
        await process.wait()
    return {"input": name, "statuses": statuses, "seconds": round(took, 1)} | _figures(watch, began)


async def _write(process: Process, line: str) -> None:
    assert process.stdin is not None  # noqa: S101  (it was asked for)
    process.stdin.write(line.encode() + b"\n")
    await process.stdin.drain()


async def _line(process: Process) -> str:
    assert process.stdout is not None  # noqa: S101
    return (await process.stdout.readline()).decode().strip()


def _figures(watch: Watch, since: float) -> dict[str, Any]:
    return {
        "gap_page_ms": _most(watch.gaps["page"], since),
        "gap_api_ms": _most(watch.gaps["api"], since),
        "ttft_ms": _most(watch.waits, since),
        "sign_in_page_ms": _most(watch.page, since),
        "memory_mib": {name: size >> 20 for name, size in sorted(watch.memory.items())},
    }


async def _until_both_stream(watch: Watch) -> bool:
    """Wait until text arrives for both users, so a measurement begins within streams.

    Returns whether that happened within `_RECOVERY_SECONDS`.
    """
    since = time.monotonic()
    while not all(gaps and gaps[-1][0] > since for gaps in watch.gaps.values()):
        if time.monotonic() > since + _RECOVERY_SECONDS:
            return False
        await asyncio.sleep(0.05)
    return True


@asynccontextmanager
async def _neighbours(
    url: str, model: str, people: dict[str, Any], watch: Watch
) -> AsyncIterator[None]:
    tasks = [
        asyncio.create_task(work)
        for work in (
            _page_user(url, model, people["page_cookie"], watch),
            _api_user(url, model, people["api_key"], watch),
            _visitor(url, watch),
            _memory(watch),
        )
    ]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        watch.errors += [repr(one) for one in outcomes if isinstance(one, Exception)]


async def _page_user(url: str, model: str, cookie: str, watch: Watch) -> None:
    async with ChatClient(url, cookie) as client:
        while True:
            asked = time.monotonic()
            answer = await client.ask(
                _QUESTION, model=model, max_tokens=_TOKENS, temperature=1.0, ignore_eos=True
            )
            last, length = asked, 0
            while not answer.ended.is_set():
                await answer.has(length + 1)
                now = time.monotonic()
                times = watch.gaps["page"] if length else watch.waits
                times.append((now, now - last))
                last, length = now, len(answer.text)
            state = answer.generated.state
            if state != "done":
                watch.errors.append(f"page: {state}")


async def _api_user(url: str, model: str, key: str, watch: Watch) -> None:
    body = {
        "model": model,
        "messages": [{"role": "user", "content": _QUESTION}],
        "max_tokens": _TOKENS,
        "ignore_eos": True,
        "stream": True,
    }
    headers = {"Authorization": f"Bearer {key}"}
    async with httpx.AsyncClient(headers=headers, timeout=600, trust_env=False) as client:
        while True:
            last, arrived = time.monotonic(), False
            async with client.stream("POST", f"{url}/v1/chat/completions", json=body) as response:
                async for line in response.aiter_lines():
                    if '"content":"' not in line:
                        continue
                    now = time.monotonic()
                    times = watch.gaps["api"] if arrived else watch.waits
                    times.append((now, now - last))
                    last, arrived = now, True
            if not arrived or response.status_code != 200:
                watch.errors.append(f"api: {response.status_code}")
                await asyncio.sleep(1)


async def _visitor(url: str, watch: Watch) -> None:
    async with httpx.AsyncClient(timeout=600, trust_env=False) as client:
        while True:
            began = time.monotonic()
            await client.get(f"{url}/accounts/login/")
            now = time.monotonic()
            watch.page.append((now, now - began))
            await asyncio.sleep(_PROBE_SECONDS)


async def _memory(watch: Watch) -> None:
    while True:
        sizes: dict[str, int] = {}
        for name, process in processes():
            try:
                sizes[name] = sizes.get(name, 0) + process.memory_info().rss
            except psutil.NoSuchProcess:
                continue
        for name, size in sizes.items():
            watch.memory[name] = max(size, watch.memory.get(name, 0))
        await asyncio.sleep(_SAMPLE_SECONDS)


@sync_to_async
def _people() -> dict[str, Any]:
    """Create the two users and the attacker, who has no permissions."""
    made: dict[str, Any] = {"users": []}
    for name in ("page", "api", "attacker"):
        user, made[f"{name}_key"] = users.with_key(name)
        made["users"].append(user)
        made[f"{name}_cookie"] = users.cookie_of(user)
    return made
