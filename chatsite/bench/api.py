"""The load over HTTP, for any server with OpenAI's chat completions API."""

from __future__ import annotations

import json
import random
import socket
import subprocess
import time
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import httpx

from chatsite.bench.load import Record, Shape, Turn, words

_TIMEOUT_SECONDS = 900
_START_SECONDS = 120
# Open connections can delay its shutdown.
_STOP_SECONDS = 10.0


@dataclass(frozen=True)
class Server:
    """A model behind OpenAI's endpoints at ``url``."""

    url: str
    model: str
    key: str = "none"


@asynccontextmanager
async def chat_completions(server: Server, shape: Shape, seed: int) -> AsyncIterator[Turn]:
    """Yield a function that streams one turn, with usage, in one conversation per user.

    Each conversation begins with ``shape.system`` words. Another ``seed`` gives other words, which
    no cache contains.
    """
    histories: dict[int, list[dict[str, str]]] = {}
    headers = {"Authorization": f"Bearer {server.key}"}
    async with httpx.AsyncClient(
        base_url=server.url, headers=headers, timeout=_TIMEOUT_SECONDS
    ) as client:

        async def turn(user: int, index: int, question: str, record: Record) -> None:
            if index == 0:
                chooser = random.Random(f"system/{seed}/{user if shape.private else ''}")
                system = f"You are a helpful assistant. {words(chooser, shape.system)}"
                histories[user] = [{"role": "system", "content": system}]
            histories[user].append({"role": "user", "content": question})
            body = {
                "model": server.model,
                "messages": histories[user],
                "max_tokens": shape.tokens,
                "temperature": 0,
                "ignore_eos": True,
                "stream": True,
                "stream_options": {"include_usage": True},
            }
            began, stamps, text, tokens = time.perf_counter(), [], [], 0
            async with client.stream("POST", "/v1/chat/completions", json=body) as response:
                if response.status_code != 200:
                    record.errors.append((await response.aread()).decode(errors="replace")[:200])
                    return
                async for line in response.aiter_lines():
                    if not line.startswith("data: {"):
                        continue
                    chunk: dict[str, Any] = json.loads(line[6:])
                    if "error" in chunk:
                        record.errors.append(str(chunk["error"]))
                        return
                    tokens = (chunk.get("usage") or {}).get("completion_tokens", tokens)
                    choices = chunk.get("choices") or [{}]
                    if content := choices[0].get("delta", {}).get("content"):
                        stamps.append(time.perf_counter())
                        text.append(content)
            histories[user].append({"role": "assistant", "content": "".join(text)})
            if stamps:
                record.ttft.append(stamps[0] - began)
            record.gaps.extend(b - a for a, b in pairwise(stamps))
            record.tokens += tokens

        yield turn


@contextmanager
def llama_server(program: Path, model: Path, flags: Sequence[str]) -> Iterator[str]:
    """Start a llama-server and yield its address; stop it at the end of the block."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    process = subprocess.Popen(
        [str(program), "-m", str(model), "--host", "127.0.0.1", "--port", str(port), *flags],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    url = f"http://127.0.0.1:{port}"
    try:
        deadline = time.monotonic() + _START_SECONDS
        while not _answers(url):
            if process.poll() is not None or time.monotonic() > deadline:
                raise PeerDidNotStart(str(program))
            time.sleep(0.2)
        yield url
    finally:
        process.terminate()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class PeerDidNotStart(Exception):
    """The peer's program did not start; ``args[0]`` is its path."""


def _answers(url: str) -> bool:
    try:
        return httpx.get(f"{url}/health", timeout=2).status_code == 200
    except httpx.HTTPError:
        return False
