"""Connections to Redis on the path of every request and every token.

redis-py's client spends a task, two timers and about a dozen calls on each command, more than
the whole rest of a token's path between engine and socket. Here redis-py only parses the address
and its options; the connection is an asyncio protocol, and a command is one write, one future and
the replies. Replies are those of RESP2.
"""

from __future__ import annotations

import asyncio
import socket
import ssl
from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import Any, Final
from weakref import WeakSet

import hiredis
from redis.asyncio import Redis
from redis.asyncio.connection import (
    Connection,
    RedisSSLContext,
    SSLConnection,
    UnixDomainSocketConnection,
)
from redis.asyncio.sentinel import SentinelConnectionPool
from redis.credentials import CredentialProvider, UsernamePasswordCredentialProvider
from redis.exceptions import AuthenticationError, InvalidResponse, ResponseError
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import TimeoutError as RedisTimeout

# Above the longest blocking read, so that only dead connections time out.
TIMEOUT_SECONDS: Final = 30.0
_CLOSE_SECONDS: Final = 1.0
_INCOMPLETE: Final = object()

Command = tuple[str | bytes | int, ...]


class Client(Redis):
    """A redis-py client that, when closed, closes the wires created from it."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.wires: WeakSet[Wire] = WeakSet()

    async def aclose(self, close_connection_pool: bool | None = None) -> None:
        for wire in list(self.wires):
            await wire.aclose()
        await super().aclose(close_connection_pool)
        if isinstance(self.connection_pool, SentinelConnectionPool):
            for sentinel in self.connection_pool.sentinel_manager.sentinels:
                await sentinel.aclose()


class Wire:
    """A separate connection to the server of ``redis``, opened on first use and after failures.

    Any number of tasks may use it concurrently, but a blocking command delays all of them.
    A `Client` closes its wires with itself. With any other ``redis``, call `aclose`.
    """

    def __init__(self, redis: Redis) -> None:
        self._address = _Address.of(redis)
        self._replies: _Replies | None = None
        self._opening = asyncio.Lock()
        # Counts connections: the server behind a new one may have lost its last writes.
        self.epoch = 0
        if isinstance(redis, Client):
            redis.wires.add(self)

    @property
    def connected(self) -> bool:
        return self._replies is not None and not self._replies.lost

    async def connect(self) -> int:
        """Open the connection unless it is open; return `epoch`."""
        if not self.connected:
            await self._open()
        return self.epoch

    async def exchange(self, *commands: Command) -> list[Any]:
        """Return the replies to all commands: bytes, integers, lists, or `ResponseError`.

        Raises `RedisError` if the connection fails: any of the commands may have been executed
        then.
        """
        if not commands:
            return []
        replies = self._replies
        if replies is None or replies.lost:
            replies = await self._open()
        return await replies.to(b"".join(map(_pack, commands)), len(commands))

    async def ask(self, *commands: Command) -> list[Any]:
        """Return the replies as `exchange`. Raises the first `ResponseError` among them."""
        replies = await self.exchange(*commands)
        for reply in replies:
            if isinstance(reply, ResponseError):
                raise reply
        return replies

    async def aclose(self) -> None:
        """Close the connection; pending exchanges fail."""
        if self._replies is not None:
            await self._replies.aclose()

    def __del__(self) -> None:
        replies = getattr(self, "_replies", None)
        if replies is not None:
            replies.abandon()

    async def _open(self) -> _Replies:
        async with self._opening:
            if self._replies is None or self._replies.lost:
                self._replies = await self._address.open()
                self.epoch += 1
            return self._replies


@dataclass(frozen=True)
class _Address:
    """Address and connection options of a server, as parsed by redis-py.

    ``find_master`` returns host and port of the present master if Sentinels know them.
    """

    name: str  # for messages: host and port, or the path of the socket
    target: Mapping[str, Any]  # of asyncio's create_connection or create_unix_connection
    tls: RedisSSLContext | None
    keepalive: Mapping[int, int | bytes] | None
    credentials: CredentialProvider | None
    client_name: str | None
    database: int
    connect_seconds: float
    find_master: Callable[[], Awaitable[tuple[str, int]]] | None = None

    @classmethod
    def of(cls, redis: Redis) -> _Address:
        """Return the address. Raises `TypeError` for connection classes not in redis-py."""
        # Only holds the options and their defaults; it is never opened.
        parsed: Any = redis.connection_pool.make_connection()  # type: ignore[no-untyped-call]
        keepalive = None
        target: dict[str, Any]
        if isinstance(parsed, UnixDomainSocketConnection):
            name, target = parsed.path, {"path": parsed.path}
        elif isinstance(parsed, Connection):
            host = f"[{parsed.host}]" if ":" in parsed.host else parsed.host
            name, target = f"{host}:{parsed.port}", {"host": parsed.host, "port": parsed.port}
            if parsed.socket_keepalive:
                keepalive = parsed.socket_keepalive_options
        else:
            raise TypeError(f"Redis connections of type {type(parsed).__name__} are not supported")
        credentials = parsed.credential_provider
        if credentials is None and (parsed.username or parsed.password):
            credentials = UsernamePasswordCredentialProvider(parsed.username, parsed.password)
        pool = redis.connection_pool
        find_master = pool.get_master_address if isinstance(pool, SentinelConnectionPool) else None
        return cls(
            name=name,
            target=target,
            tls=parsed.ssl_context if isinstance(parsed, SSLConnection) else None,
            keepalive=keepalive,
            credentials=credentials,
            client_name=parsed.client_name,
            database=int(parsed.db or 0),
            connect_seconds=min(parsed.socket_connect_timeout or TIMEOUT_SECONDS, TIMEOUT_SECONDS),
            find_master=find_master,
        )

    async def open(self) -> _Replies:
        """Connect, authenticate and select the database.

        Raises `AuthenticationError`, other `RedisConnectionError`s and `RedisTimeout`.
        """
        try:
            async with asyncio.timeout(self.connect_seconds):
                found = await self._located()
                replies = await found._connect()
                try:
                    await found._greet(replies)
                except BaseException:
                    replies.abort()
                    raise
                return replies
        except TimeoutError:
            how = " to TLS" if self.tls else ""
            raise RedisTimeout(f"Redis at {self.name} is not responding{how}") from None

    async def _located(self) -> _Address:
        """Return the address of the present master. Raises `RedisConnectionError`."""
        if self.find_master is None:
            return self
        host, port = await self.find_master()
        name = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        return replace(self, name=name, target={"host": host, "port": port}, find_master=None)

    async def _connect(self) -> _Replies:
        loop = asyncio.get_running_loop()
        try:
            context = self.tls.get() if self.tls else None
        except OSError as error:
            raise RedisConnectionError(
                f"The TLS options of Redis at {self.name} can't be used: {error}"
            ) from error
        try:
            if "path" in self.target:
                _, replies = await loop.create_unix_connection(self._protocol, **self.target)
            else:
                _, replies = await loop.create_connection(
                    self._protocol, **self.target, ssl=context
                )
                if self.keepalive is not None:
                    replies.keep_alive(self.keepalive)
        except ssl.SSLCertVerificationError as error:
            raise RedisConnectionError(
                f"Redis at {self.name} has a certificate that is not accepted: "
                f"{error.verify_message}. Use the host name that it is for, and name its authority "
                "in the address: rediss://…?ssl_ca_certs=/path/to/ca.pem"
            ) from error
        except OSError as error:
            raise RedisConnectionError(
                f"Could not connect to Redis at {self.name}: {error.strerror or error}"
            ) from error
        return replies

    def _protocol(self) -> _Replies:
        return _Replies(self.name)

    async def _greet(self, replies: _Replies) -> None:
        """Set up the session in one round trip: after a refused AUTH the rest is refused too."""
        commands: list[Command] = []
        if self.credentials is not None:
            commands.append(("AUTH", *await self.credentials.get_credentials_async()))
        if self.client_name:
            commands.append(("CLIENT", "SETNAME", self.client_name))
        if self.database:
            commands.append(("SELECT", self.database))
        commands.append(("PING",))
        answers = await replies.to(b"".join(map(_pack, commands)), len(commands))
        for command, answer in zip(commands, answers, strict=True):
            if isinstance(answer, ResponseError):
                self._judge(command, str(answer))

    def _judge(self, command: Command, problem: str) -> None:
        """Raise unless the connection is usable in spite of the problem."""
        if command[0] == "AUTH":
            raise AuthenticationError(
                f"Redis at {self.name} refused the user name or password in its address: {problem}"
            )
        if problem.startswith("NOAUTH"):
            raise AuthenticationError(
                f"Redis at {self.name} requires a password: put it in the address, "
                "as in redis://:PASSWORD@HOST:6379/0"
            )
        # A user may lack the right to PING, and a server that loads its data answers later.
        if command[0] != "PING" or problem.startswith("ERR max number of clients"):
            raise RedisConnectionError(
                f"Redis at {self.name} refused {' '.join(map(str, command))}: {problem}"
            )


class _Replies(asyncio.Protocol):
    """Assigns replies to exchanges in the order of the commands.

    Replies to cancelled exchanges are dropped.
    """

    _transport: asyncio.Transport

    def __init__(self, name: str) -> None:
        self.lost = False
        self._name = name
        self._loop = asyncio.get_running_loop()
        self._reader = hiredis.Reader(replyError=ResponseError, notEnoughData=_INCOMPLETE)
        self._waiting: deque[tuple[asyncio.Future[list[Any]], int]] = deque()
        self._came: list[Any] = []
        self._heard = 0.0
        self._timer: asyncio.TimerHandle | None = None
        self._closed: asyncio.Future[None] = self._loop.create_future()
        self._problem: Exception | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport)  # noqa: S101  (of a stream)
        self._transport = transport

    def keep_alive(self, options: Mapping[int, int | bytes]) -> None:
        """Set SO_KEEPALIVE and TCP ``options``. Raises `OSError` if the system lacks one."""
        connection = self._transport.get_extra_info("socket")
        try:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
            for option, value in options.items():
                connection.setsockopt(socket.IPPROTO_TCP, option, value)
        except OSError:
            self.abort()
            raise

    def to(self, packed: bytes, count: int) -> asyncio.Future[list[Any]]:
        """Send ``count`` commands; return a future of as many replies."""
        future: asyncio.Future[list[Any]] = self._loop.create_future()
        if not self._waiting:
            self._heard = self._loop.time()
        self._waiting.append((future, count))
        self._transport.write(packed)
        if self._timer is None:
            self._timer = self._loop.call_later(TIMEOUT_SECONDS, self._look)
        return future

    def data_received(self, data: bytes) -> None:
        self._heard = self._loop.time()
        try:
            self._reader.feed(data)
            while (reply := self._reader.gets()) is not _INCOMPLETE:
                self._came.append(reply)
                future, count = self._waiting[0]
                if len(self._came) == count:
                    self._waiting.popleft()
                    came, self._came = self._came, []
                    if not future.done():
                        future.set_result(came)
        except (hiredis.ProtocolError, IndexError):
            what = str(self._came[0] if self._came else data)[:80]
            self._fail(InvalidResponse(f"{self._name} does not answer like Redis: {what}"))

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost = True
        if self._timer is not None:
            self._timer.cancel()
        problem = self._problem or RedisConnectionError(
            f"Redis at {self._name} closed the connection" + (f": {exc}" if exc else "")
        )
        for future, _count in self._waiting:
            if not future.done():
                future.set_exception(problem)
        self._waiting.clear()
        if not self._closed.done():
            self._closed.set_result(None)

    async def aclose(self) -> None:
        """Close the connection and wait until it is closed."""
        self._transport.close()
        await asyncio.wait([self._closed], timeout=_CLOSE_SECONDS)
        if not self.lost:
            self.abort()

    def abort(self) -> None:
        self._transport.abort()

    def abandon(self) -> None:
        """Close the connection from any thread, even after its loop has ended."""
        if not self.lost:
            with suppress(RuntimeError):
                self._loop.call_soon_threadsafe(self.abort)

    def _fail(self, problem: Exception) -> None:
        self.lost = True
        self._problem = problem
        self.abort()

    def _look(self) -> None:
        """Check for a timeout; one timer serves all commands, so that none needs its own."""
        self._timer = None
        if not self._waiting:
            return
        left = self._heard + TIMEOUT_SECONDS - self._loop.time()
        if left > 0:
            self._timer = self._loop.call_later(left, self._look)
        else:
            self._fail(RedisConnectionError(f"Redis at {self._name} is not responding"))


def _pack(command: Command) -> bytes:
    packed: bytes = hiredis.pack_command(command)  # type: ignore[arg-type]
    return packed
