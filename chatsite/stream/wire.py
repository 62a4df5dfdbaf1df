"""The way to Redis of what every request and every token passes.

redis-py's client spends a task, two timers and some dozen calls on each command, which is more
than all else that a token costs between engine and socket. Here it opens the connection, and then
a command is one write, one future and the replies.
"""

from __future__ import annotations

import asyncio
from collections import deque
from typing import Any, Final

import hiredis
from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeout

# Above every blocking read of ours: it ends only connections that are dead.
_SECONDS: Final = 30.0
_INCOMPLETE: Final = object()

Command = tuple[str | bytes | int, ...]


class Wire:
    """A connection of its own out of the pool of ``redis``, which closes it in the end. Any
    number of tasks may use it at once, but what blocks it holds up all. It is opened when it is
    first used, and anew after a failure."""

    def __init__(self, redis: Redis) -> None:
        self._pool = redis.connection_pool
        self._connection: AbstractConnection | None = None
        self._replies: _Replies | None = None
        self._opening = asyncio.Lock()

    async def exchange(self, *commands: Command) -> list[Any]:
        """The replies to all commands, as they come over the wire: bytes, integers, lists, and
        `ResponseError` for what was refused.

        Raises `RedisError` when the connection fails: then any of the commands may have been
        taken.
        """
        if not commands:
            return []
        replies = self._replies
        if replies is None or replies.lost:
            replies = await self._open()
        return await replies.to(b"".join(map(_pack, commands)), len(commands))

    async def ask(self, *commands: Command) -> list[Any]:
        """As `exchange`; raises the first `ResponseError` among the replies."""
        replies = await self.exchange(*commands)
        for reply in replies:
            if isinstance(reply, ResponseError):
                raise reply
        return replies

    async def _open(self) -> _Replies:
        async with self._opening:
            if self._replies is None or self._replies.lost:
                try:
                    async with asyncio.timeout(_SECONDS):
                        self._replies = await self._connect()
                except TimeoutError:
                    raise RedisTimeout("Redis does not answer") from None
            return self._replies

    async def _connect(self) -> _Replies:
        connection = self._connection
        if connection is None:
            connection = await self._pool.get_connection()  # type: ignore[no-untyped-call]
            self._connection = connection
        else:
            await connection.disconnect(nowait=True)
            await connection.connect()  # type: ignore[no-untyped-call]
        transport: Any = connection._writer.transport  # type: ignore[union-attr]
        replies = _Replies(transport)
        transport.set_protocol(replies)
        return replies


class _Replies(asyncio.Protocol):
    """Hands the replies to who waits for them, in the order of the commands. Who no longer waits
    leaves his to nobody."""

    def __init__(self, transport: asyncio.Transport) -> None:
        self.lost = False
        self._transport = transport
        # It is what redis-py waits for when it closes the connection.
        self._before = transport.get_protocol()
        self._loop = asyncio.get_running_loop()
        self._reader = hiredis.Reader(replyError=ResponseError, notEnoughData=_INCOMPLETE)
        self._waiting: deque[tuple[asyncio.Future[list[Any]], int]] = deque()
        self._came: list[Any] = []
        self._heard = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def to(self, packed: bytes, count: int) -> asyncio.Future[list[Any]]:
        future: asyncio.Future[list[Any]] = self._loop.create_future()
        if not self._waiting:
            self._heard = self._loop.time()
        self._waiting.append((future, count))
        self._transport.write(packed)
        if self._timer is None:
            self._timer = self._loop.call_later(_SECONDS, self._look)
        return future

    def data_received(self, data: bytes) -> None:
        self._heard = self._loop.time()
        self._reader.feed(data)
        while (reply := self._reader.gets()) is not _INCOMPLETE:
            self._came.append(reply)
            future, count = self._waiting[0]
            if len(self._came) == count:
                self._waiting.popleft()
                came, self._came = self._came, []
                if not future.done():
                    future.set_result(came)

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        if self._timer is not None:
            self._timer.cancel()
        self._before.connection_lost(exc)
        for future, _count in self._waiting:
            if not future.done():
                future.set_exception(RedisConnectionError(f"Redis closed the connection: {exc}"))
        self._waiting.clear()

    def _look(self) -> None:
        """One timer for all commands, which none of them has to set."""
        self._timer = None
        if not self._waiting:
            return
        left = self._heard + _SECONDS - self._loop.time()
        if left > 0:
            self._timer = self._loop.call_later(left, self._look)
        else:
            self._transport.abort()


def _pack(command: Command) -> bytes:
    packed: bytes = hiredis.pack_command(command)  # type: ignore[arg-type]
    return packed
