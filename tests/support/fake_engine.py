"""A small OpenAI-compatible HTTP server whose failures are scripted."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from typing import Any

WORDS = tuple(f"word{number} " for number in range(12))


@dataclass
class FakeEngine:
    """How the server behaves, and what it was asked.

    ``script`` has the behaviour of each next answer, "answer" when it is empty: "die" breaks off
    after four words, "stall" sends nothing more after them, "lie" sends no JSON, "refuse" and
    "busy" are errors 400 and 503. ``hold`` keeps all answers from ending. While it is ``down``,
    connections are closed at once.
    """

    models: list[str] = field(default_factory=lambda: ["tiny"])
    script: list[str] = field(default_factory=list)
    asked: list[dict[str, Any]] = field(default_factory=list)
    hold: asyncio.Event | None = None
    down: bool = False
    open: int = 0
    most_open: int = 0
    cancelled: int = 0
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with suppress(ConnectionError, asyncio.IncompleteReadError):
            if not self.down:
                await self._reply(reader, writer)
        writer.close()

    async def _reply(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        method, path, _version = head.partition("\r\n")[0].split(" ")
        length = next(
            (
                int(line.partition(":")[2])
                for line in head.lower().split("\r\n")
                if line.startswith("content-length:")
            ),
            0,
        )
        body = json.loads(await reader.readexactly(length) or b"null")
        if method == "GET" and path.endswith("/models"):
            _send(writer, 200, {"data": [{"id": name} for name in self.models]})
        elif path.endswith("/chat/completions") and body.get("stream"):
            self.asked.append(body)
            self.open += 1
            self.most_open = max(self.open, self.most_open)
            try:
                await self._answer(reader, writer)
            except ConnectionError:
                self.cancelled += 1
                raise
            finally:
                self.open -= 1
        else:
            _send(writer, 404, {"error": {"message": "no such path"}})
        await writer.drain()

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        act = self.script.pop(0) if self.script else "answer"
        if act in {"refuse", "busy"}:
            status = 400 if act == "refuse" else 503
            _send(writer, status, {"error": {"message": f"told to {act}"}})
            return
        writer.write(
            b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n"
            b"Transfer-Encoding: chunked\r\n\r\n"
        )
        words = WORDS if act == "answer" else WORDS[:4]
        for word in words:
            _event(writer, {"choices": [{"index": 0, "delta": {"content": word}}]})
            await writer.drain()
            await asyncio.sleep(0)
        if act == "lie":
            _chunk(writer, b"data: {not json\n\n")
            return
        if act == "die":
            return
        if act == "stall" or self.hold is not None:
            gone = asyncio.create_task(reader.read())
            held = asyncio.create_task((self.hold or asyncio.Event()).wait())
            await asyncio.wait({gone, held}, return_when=asyncio.FIRST_COMPLETED)
            left = gone.done()
            for task in (gone, held):
                task.cancel()
            if left:
                self.cancelled += 1
                return
        _event(writer, {"choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
        usage = {"prompt_tokens": 7, "completion_tokens": len(words)}
        _event(writer, {"choices": [], "usage": usage})
        _chunk(writer, b"data: [DONE]\n\n")
        writer.write(b"0\r\n\r\n")


@asynccontextmanager
async def fake_engine(**values: Any) -> AsyncIterator[FakeEngine]:
    engine = FakeEngine(**values)
    server = await asyncio.start_server(engine.serve, "127.0.0.1", 0)
    engine.port = server.sockets[0].getsockname()[1]
    try:
        yield engine
    finally:
        server.close()


def _send(writer: asyncio.StreamWriter, status: int, body: dict[str, Any]) -> None:
    data = json.dumps(body).encode()
    writer.write(
        f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(data)}\r\nConnection: close\r\n\r\n".encode()
        + data
    )


def _event(writer: asyncio.StreamWriter, body: dict[str, Any]) -> None:
    _chunk(writer, b"data: " + json.dumps(body).encode() + b"\n\n")


def _chunk(writer: asyncio.StreamWriter, data: bytes) -> None:
    writer.write(f"{len(data):x}\r\n".encode() + data + b"\r\n")
