"""Checks by the supervisor: is the port free, does Redis answer, does the site answer."""

from __future__ import annotations

import asyncio
import errno
import socket
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import cast

from redis.exceptions import RedisError

from chatsite.env import Environment, in_url
from chatsite.redis_client import open_blocking_client, open_client
from chatsite.supervisor import heartbeat
from chatsite.supervisor.redis_binary import MINIMUM_MAJOR

_ANSWER_SECONDS = 2.0
_WILDCARDS = {"0.0.0.0": "127.0.0.1", "::": "::1", "": "127.0.0.1"}  # noqa: S104


class CannotStart(SystemExit):
    """Ends the process with a message that says what to do."""


def check_port(host: str, port: int) -> None:
    """Bind and release each address of the web server. Raises `CannotStart`."""
    try:
        addresses = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except socket.gaierror as error:
        raise CannotStart(
            f"HOST={host} is not an address of this machine ({error.strerror}). Use 127.0.0.1, or "
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
            f"Port {port} on {host} is in use by another program. Stop it, or choose another port "
            f"(PORT={port + 1}, --port {port + 1} or CHATSITE_PORT={port + 1})."
        )
    if error.errno == errno.EACCES:
        return f"Port {port} is reserved for the system's administrator. Choose one above 1023."
    if error.errno == errno.EADDRNOTAVAIL:
        return f"HOST={host} is not an address of this machine. Use 127.0.0.1 or 0.0.0.0."
    return f"Port {port} on {host} can't be used: {error.strerror}."


def check_external_redis(url: str) -> None:
    """Check that `CHATSITE_REDIS_URL` has a supported server. Raises `CannotStart`."""
    shown = url.rpartition("@")[2]  # without a password
    try:
        with open_blocking_client(url, socket_timeout=5, socket_connect_timeout=5) as client:
            information = cast("dict[str, object]", client.info("server"))
    except (RedisError, ValueError) as error:
        raise CannotStart(
            f"Redis is not responding at {shown}: {error}. Start it, or unset CHATSITE_REDIS_URL "
            "to use the built-in Redis."
        ) from None
    version = str(information["redis_version"])
    if int(version.partition(".")[0]) < MINIMUM_MAJOR:
        raise CannotStart(
            f"Redis at {shown} is {version}; {MINIMUM_MAJOR} or newer is required. Upgrade it, or "
            "unset CHATSITE_REDIS_URL to use the built-in Redis."
        )


async def redis_answers(path: Path) -> bool:
    """Whether the server on the Unix socket ``path`` has loaded its data and answers."""
    try:
        async with asyncio.timeout(_ANSWER_SECONDS):
            return (await _ping(path)).startswith(b"+PONG")
    except (OSError, TimeoutError):
        return False


async def redis_lives(path: Path) -> bool:
    """Whether that server replies at all, even while loading its data. No timeout."""
    try:
        return bool(await _ping(path))
    except OSError:
        return False


async def _ping(path: Path) -> bytes:
    reader, writer = await asyncio.open_unix_connection(str(path))
    try:
        writer.write(b"PING\r\n")
        return await reader.readline()
    finally:
        writer.close()


async def redis_url_answers(url: str) -> bool:
    """Whether the Redis server in use accepts commands."""
    try:
        async with (
            asyncio.timeout(_ANSWER_SECONDS),
            open_client(url, socket_connect_timeout=_ANSWER_SECONDS) as client,
        ):
            return bool(await client.ping())  # type: ignore[misc]
    except (RedisError, OSError, TimeoutError):
        return False


async def site_answers(host: str, port: int) -> bool:
    """Whether `/healthz` returns 200, as it does if a chat would work."""
    try:
        async with asyncio.timeout(_ANSWER_SECONDS):
            return (await _status_line("GET", host, port)).split()[1:2] == [b"200"]
    except (OSError, TimeoutError):
        return False


async def web_answers(host: str, port: int) -> bool:
    """Whether the web server returns any response. No timeout.

    `/healthz` refuses the method without checking any other part.
    """
    try:
        return bool(await _status_line("OPTIONS", host, port))
    except OSError:
        return False


async def parts_run(
    environment: Environment, parts: Collection[str], since: Mapping[str, int]
) -> bool:
    """Whether ``parts`` of the product work, as far as they can without the others.

    ``since`` has the heartbeats at the start.
    """
    host, port = environment.host, environment.port
    if {"web", "inference"} <= {*parts}:
        return await site_answers(host, port)
    beats = {"inference": heartbeat.INFERENCE, "worker": heartbeat.CELERY}
    for part, name in beats.items():
        if part in parts and heartbeat.read(environment.data_dir, name) == since.get(name, 0):
            return False
    if "web" not in parts:
        return True
    try:
        async with asyncio.timeout(_ANSWER_SECONDS):
            return await web_answers(host, port)
    except TimeoutError:
        return False


async def _status_line(method: str, host: str, port: int) -> bytes:
    reader, writer = await asyncio.open_connection(_WILDCARDS.get(host, host), port)
    try:
        # A host name that is allowed for any bound address.
        request = f"{method} /healthz HTTP/1.1\r\nHost: localhost:{port}\r\n"
        writer.write(f"{request}Connection: close\r\n\r\n".encode())
        return await reader.readline()
    finally:
        writer.close()


def public_url(environment: Environment) -> str:
    """Return the URL to open in a browser.

    For a server bound to all addresses this is the first origin that the operator configured, if
    any.
    """
    host = environment.host
    if host in _WILDCARDS:
        if environment.origins:
            return f"{environment.origins[0]}{environment.path_prefix}/"
        host = _WILDCARDS[host]
    return f"http://{in_url(host)}:{environment.port}{environment.path_prefix}/"
