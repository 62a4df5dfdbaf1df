"""A private Redis on a Unix socket, during a block."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from redis import Redis
from redis.exceptions import RedisError

from chatsite.supervisor import redis_binary

_START_SECONDS = 60


@contextlib.contextmanager
def private_redis(socket: Path) -> Iterator[None]:
    socket.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    options = ["--port", "0", "--unixsocket", str(socket), "--dir", str(socket.parent)]
    server = subprocess.Popen(
        [redis_binary.find().path, *options, "--save", "", "--appendonly", "no"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.STDOUT,
    )
    try:
        _wait_for(socket, server)
        yield
    finally:
        server.terminate()
        server.wait(60)


def _wait_for(socket: Path, server: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + _START_SECONDS
    with Redis(unix_socket_path=str(socket)) as client:
        while True:
            try:
                client.ping()
                return
            except RedisError:
                assert server.poll() is None, f"redis-server left with {server.returncode}"
                assert time.monotonic() < deadline, "redis-server does not answer"
                time.sleep(0.02)
