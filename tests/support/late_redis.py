"""A proxy in front of a real Redis that can delay and drop its replies, on a Unix socket."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from pathlib import Path


class LateRedis:
    """While `hold` is set, Redis receives commands, and its replies are held here."""

    def __init__(self, server: Path) -> None:
        self._server = server
        self._open = asyncio.Event()
        self._open.set()
        self._held = asyncio.Event()
        self._writers: set[asyncio.StreamWriter] = set()

    def hold(self) -> None:
        self._open.clear()
        self._held.clear()

    async def replied(self) -> None:
        """Wait until Redis has executed a command whose reply is held."""
        async with asyncio.timeout(60):
            await self._held.wait()

    def lose(self) -> None:
        """Drop all connections and their held replies."""
        for writer in self._writers:
            writer.transport.abort()
        self._open.set()

    async def serve(self, client: asyncio.StreamReader, reply: asyncio.StreamWriter) -> None:
        server, command = await asyncio.open_unix_connection(str(self._server))
        self._writers.add(reply)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._forward(client, command))
                group.create_task(self._back(server, reply))
        finally:
            self._writers.discard(reply)
            for writer in (command, reply):
                writer.transport.abort()

    async def _forward(self, client: asyncio.StreamReader, command: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await client.read(65536):
                command.write(data)
        command.transport.abort()

    async def _back(self, server: asyncio.StreamReader, reply: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while data := await server.read(65536):
                if not self._open.is_set():
                    self._held.set()
                await self._open.wait()
                reply.write(data)


@contextlib.asynccontextmanager
async def late_redis(server: Path, socket: Path) -> AsyncIterator[LateRedis]:
    """Listen on ``socket`` for the Redis on ``server``."""
    proxy = LateRedis(server)
    listener = await asyncio.start_unix_server(proxy.serve, str(socket))
    try:
        yield proxy
    finally:
        listener.close()
        proxy.lose()
