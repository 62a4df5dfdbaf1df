"""Questions the supervisor asks: is the port free, does Redis answer, does the site answer."""

from __future__ import annotations

import asyncio
import errno
import socket
from pathlib import Path
from typing import cast

from redis import Redis
from redis.exceptions import RedisError

from chatsite.env import Environment
from chatsite.supervisor.redis_binary import MINIMUM_MAJOR

_ANSWER_SECONDS = 2.0
_WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104


class CannotStart(SystemExit):
    """Ends the process with a sentence that says what to do."""


def check_port(host: str, port: int) -> None:
    """Binds and frees every address that the web server will; raises `CannotStart`."""
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror as error:
        raise CannotStart(
            f"HOST={host} is no address of this machine ({error.strerror}). Use 127.0.0.1, or "
            "0.0.0.0 to serve the whole network."
        ) from None
    for family, kind, protocol, _, address in addresses:
        with socket.socket(family, kind, protocol) as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                probe.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            try:
                probe.bind(address)
            except OSError as error:
                raise CannotStart(_bind_advice(host, port, error)) from None


def _bind_advice(host: str, port: int, error: OSError) -> str:
    if error.errno == errno.EADDRINUSE:
        return (
            f"Port {port} on {host} is in use by another program. End it, or choose another port "
            f"(PORT={port + 1}, --port {port + 1} or CHATSITE_PORT={port + 1})."
        )
    if error.errno == errno.EACCES:
        return f"Port {port} is reserved for the system's administrator. Choose one above 1023."
    if error.errno == errno.EADDRNOTAVAIL:
        return f"HOST={host} is no address of this machine. Use 127.0.0.1 or 0.0.0.0."
    return f"Port {port} on {host} can't be used: {error.strerror}."


def check_external_redis(url: str) -> None:
    """For `CHATSITE_REDIS_URL`: raises `CannotStart` unless a new enough server answers."""
    shown = url.rpartition("@")[2]  # without a password
    try:
        with Redis.from_url(url, socket_timeout=5, socket_connect_timeout=5) as client:
            information = cast("dict[str, object]", client.info("server"))
    except (RedisError, ValueError) as error:
        raise CannotStart(
            f"Redis does not answer at {shown}: {error}. Start it, or unset CHATSITE_REDIS_URL "
            "to have one run here."
        ) from None
    version = str(information["redis_version"])
    if int(version.partition(".")[0]) < MINIMUM_MAJOR:
        raise CannotStart(
            f"Redis at {shown} is {version}; {MINIMUM_MAJOR} or newer is needed. Upgrade it, or "
            "unset CHATSITE_REDIS_URL to have one run here."
        )


async def redis_answers(path: Path) -> bool:
    """Whether the server on the Unix socket ``path`` has loaded its data and answers."""
    try:
        async with asyncio.timeout(_ANSWER_SECONDS):
            reader, writer = await asyncio.open_unix_connection(str(path))
            try:
                writer.write(b"PING\r\n")
                return (await reader.readline()).startswith(b"+PONG")
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return False


async def site_answers(host: str, port: int) -> bool:
    """Whether `/healthz` answers 200, which it does when a chat would work."""
    try:
        async with asyncio.timeout(_ANSWER_SECONDS):
            reader, writer = await asyncio.open_connection(_WILDCARDS.get(host, host), port)
            try:
                # A name that is allowed whatever address is bound.
                request = f"GET /healthz HTTP/1.1\r\nHost: localhost:{port}\r\n"
                writer.write(f"{request}Connection: close\r\n\r\n".encode())
                return (await reader.readline()).split()[1:2] == [b"200"]
            finally:
                writer.close()
    except (OSError, TimeoutError):
        return False


def public_url(environment: Environment) -> str:
    """What to open in a browser. A server bound to all addresses is reached by the name that
    the operator set for people, if any."""
    host = environment.host
    if host in _WILDCARDS:
        if environment.origins:
            return f"{environment.origins[0]}/"
        host = _WILDCARDS[host]
    return f"http://{f'[{host}]' if ':' in host else host}:{environment.port}/"
