"""Redis servers and Sentinels on loopback, with password and TLS, during a block."""

from __future__ import annotations

import contextlib
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from urllib.parse import quote

from redis import Redis
from redis.exceptions import RedisError

from chatsite.supervisor import redis_binary
from tests.support.stack import free_port
from tests.support.tls import Certificate

_START_SECONDS = 10.0
PASSWORD = "pass word/+%"
SENTINEL_PASSWORD = "sentinel-password"
MASTER = "chat"


def tls_options(certificate: Certificate, port: int) -> list[str]:
    """Return options of a server that accepts TLS only, without client certificates."""
    return [
        *("--port", "0", "--tls-port", str(port), "--tls-auth-clients", "no"),
        *("--tls-cert-file", str(certificate.chain), "--tls-key-file", str(certificate.key)),
        *("--tls-ca-cert-file", str(certificate.chain), "--tls-replication", "yes"),
    ]


class Server:
    """One server on ``port`` of 127.0.0.1; ``process`` may be killed."""

    def __init__(self, folder: Path, certificate: Certificate, *options: str) -> None:
        folder.mkdir()
        self.port, self.certificate = free_port(), certificate
        command = [redis_binary.find().path, *tls_options(certificate, self.port)]
        command += ["--requirepass", PASSWORD, "--masterauth", PASSWORD, "--bind", "127.0.0.1"]
        command += ["--repl-diskless-sync-delay", "0"]
        self.process = subprocess.Popen(
            [*command, "--dir", str(folder), "--save", "", *options], stdout=subprocess.DEVNULL
        )

    @property
    def url(self) -> str:
        return secured(f"127.0.0.1:{self.port}", self.certificate)

    def client(self) -> Redis:
        return Redis.from_url(self.url, socket_timeout=5)


def secured(host: str, certificate: Certificate) -> str:
    password = quote(PASSWORD, safe="")
    return f"rediss://:{password}@{host}/0?ssl_ca_certs={certificate.chain}"


@contextlib.contextmanager
def tls_server(folder: Path, certificate: Certificate) -> Iterator[Server]:
    server = Server(folder / "server", certificate)
    try:
        _wait_for(server.client())
        yield server
    finally:
        _end(server.process)


class Replicated:
    """A master and a replica, watched by one Sentinel."""

    def __init__(self, folder: Path, certificate: Certificate) -> None:
        self.certificate = certificate
        self.master = Server(folder / "master", certificate)
        self.replica = Server(
            *(folder / "replica", certificate), "--replicaof", "127.0.0.1", str(self.master.port)
        )
        self.sentinel_port = free_port()
        config = folder / "sentinel.conf"
        config.write_text(
            f"sentinel monitor {MASTER} 127.0.0.1 {self.master.port} 1\n"
            f'sentinel auth-pass {MASTER} "{PASSWORD}"\n'
            f"sentinel down-after-milliseconds {MASTER} 500\n"
            f"sentinel failover-timeout {MASTER} 3000\n"
        )
        self._sentinel_command = [
            *(redis_binary.find().path, str(config), "--sentinel"),
            *tls_options(certificate, self.sentinel_port),
            *("--requirepass", SENTINEL_PASSWORD, "--bind", "127.0.0.1"),
        ]
        self._sentinel: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return secured(MASTER, self.certificate)

    def start(self) -> None:
        """Wait until the replica is in step, then start the Sentinel, which asks only seldom."""
        _wait_for(self.master.client())
        with self.replica.client() as replica:
            _until(lambda: replica.info("replication").get("master_link_status") == "up")
        self._sentinel = subprocess.Popen(self._sentinel_command, stdout=subprocess.DEVNULL)
        sentinel = Redis(
            *("127.0.0.1", self.sentinel_port),
            password=SENTINEL_PASSWORD,
            ssl=True,
            ssl_ca_certs=str(self.certificate.chain),
        )
        with sentinel:
            _until(lambda: bool(sentinel.sentinel_slaves(MASTER)))

    def end(self) -> None:
        for process in (self._sentinel, self.replica.process, self.master.process):
            if process is not None:
                _end(process)


@contextlib.contextmanager
def replicated(folder: Path, certificate: Certificate) -> Iterator[Replicated]:
    servers = Replicated(folder, certificate)
    try:
        servers.start()
        yield servers
    finally:
        servers.end()


def _wait_for(client: Redis) -> None:
    with client:
        _until(lambda: bool(client.ping()))


def _until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + _START_SECONDS
    while True:
        with contextlib.suppress(RedisError):
            if condition():
                return
        assert time.monotonic() < deadline, "the servers do not become ready"
        time.sleep(0.05)


def _end(process: subprocess.Popen[bytes]) -> None:
    process.kill()
    process.wait(10)
