"""The way to Redis of the two loops that every token passes, publishing and following.

redis-py's client spends a task, two timers and a dozen calls on each command, which is more than
all else that a token costs between engine and socket. Here its connection is used by itself:
one write, one timer and the replies.
"""

from __future__ import annotations

import asyncio
from typing import Any

from redis.asyncio import Redis
from redis.asyncio.connection import AbstractConnection
from redis.exceptions import ResponseError
from redis.exceptions import TimeoutError as RedisTimeout

# Above every blocking read of ours: it ends only connections that are dead.
_SECONDS = 30.0

Command = tuple[str | bytes | int, ...]


class Wire:
    """A connection of its own out of the pool of ``redis``, which closes it in the end; for one
    task at a time. It is opened when it is first used, and anew after a failure."""

    def __init__(self, redis: Redis) -> None:
        self._pool = redis.connection_pool
        self._connection: AbstractConnection | None = None

    async def exchange(self, *commands: Command) -> list[Any]:
        """The replies to all commands, as they come over the wire: bytes, integers, lists, and
        `ResponseError` for what was refused.

        Raises `RedisError` when the connection fails: then any of the commands may have been
        taken.
        """
        try:
            async with asyncio.timeout(_SECONDS):
                connection = self._connection or await self._open()
                packed = [
                    part for command in commands for part in connection.pack_command(*command)
                ]
                await connection.send_packed_command(packed, check_health=False)
                return [await _reply(connection) for _ in commands]
        except TimeoutError:
            raise RedisTimeout("Redis does not answer") from None

    async def _open(self) -> AbstractConnection:
        connection: AbstractConnection = await self._pool.get_connection()  # type: ignore[no-untyped-call]
        connection.socket_timeout = None
        self._connection = connection
        return connection


async def _reply(connection: AbstractConnection) -> Any:
    try:
        return await connection.read_response()
    except ResponseError as error:
        return error
