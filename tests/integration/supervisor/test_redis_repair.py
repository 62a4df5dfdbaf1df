"""A real Redis with a damaged append-only file starts again, and nothing is deleted."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import cast

import pytest
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

from chatsite.env import Environment
from chatsite.supervisor import redis_binary
from chatsite.supervisor.processes import product
from chatsite.supervisor.redis_repair import APPEND_ONLY, Repair, set_aside, whole_commands

ENTRIES = 200


class Server:
    """Redis as started by `manage.py up`."""

    def __init__(self, data_dir: Path) -> None:
        environment = Environment(data_dir=data_dir, redis_url="")
        for folder in (data_dir / "redis", environment.redis_socket.parent):
            folder.mkdir(parents=True, exist_ok=True)
        self.spec = product(environment, redis_binary.find())[0]
        self.socket = environment.redis_socket
        self.folder = data_dir / "redis"
        self.data = self.folder / APPEND_ONLY
        self.process: subprocess.Popen[bytes] | None = None

    def starts(self) -> bool:
        self.process = subprocess.Popen(self.spec.command, stdout=subprocess.DEVNULL)
        while self.process.poll() is None:
            try:
                with self.client() as client:
                    return bool(client.ping())
            except RedisError:
                time.sleep(0.02)
        return False

    def comes_up(self) -> list[str]:
        """Start it; return the log lines until it is up."""
        assert isinstance(self.spec.repair, Repair)
        said: list[str] = []
        for failures in range(1, 4):
            if self.starts():
                return said
            said.append(self.spec.repair(failures) or "")
        raise AssertionError(said)

    def client(self) -> Redis:
        return Redis(unix_socket_path=str(self.socket), retry=Retry(NoBackoff(), 0))

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.kill()
        if self.process is not None:
            self.process.wait()

    def file(self, kind: str) -> Path:
        [found] = self.data.glob(f"*{kind}*")
        return found


def rewrites(client: Redis) -> bool:
    """Return whether the append-only file is being rewritten or will be."""
    about = cast("dict[str, int]", client.info("persistence"))
    return bool(about["aof_rewrite_in_progress"] or about["aof_rewrite_scheduled"])


def is_written(client: Redis) -> bool:
    """Return whether the file has all commands: Redis replies before a slow disk has synced."""
    about = cast("dict[str, int]", client.info("persistence"))
    return about["aof_buffer_length"] == 0


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """Yield a server with a base and an incremental file, stopped as by a power failure."""
    server = Server(tmp_path / "data")
    assert server.starts()
    with server.client() as client:
        client.set("base", "1")
        client.bgrewriteaof()
        while rewrites(client):
            time.sleep(0.02)
        for number in range(ENTRIES):
            client.xadd("s", {"e": b"x" * 50}, id=f"1-{number + 1}")
        while not is_written(client):
            time.sleep(0.02)
    server.stop()
    yield server
    server.stop()


def middle(path: Path, data: bytes) -> None:
    with path.open("r+b") as file:
        file.seek(path.stat().st_size // 2)
        file.write(data)


def tail(path: Path, data: bytes) -> None:
    with path.open("ab") as file:
        file.write(data)


# How many stream entries must survive: all, some, or none.
DAMAGES: dict[str, tuple[Callable[[Server], object], range]] = {
    "zeros at the end": (lambda s: tail(s.file("incr"), bytes(4096)), range(ENTRIES, ENTRIES + 1)),
    "garbage at the end": (
        lambda s: tail(s.file("incr"), os.urandom(999)),
        range(ENTRIES, ENTRIES + 1),
    ),
    "garbage in the middle": (
        lambda s: middle(s.file("incr"), b"\xff" * 300),
        range(1, ENTRIES),
    ),
    "zeros in the middle": (lambda s: middle(s.file("incr"), bytes(4096)), range(1, ENTRIES)),
    "an unknown command": (lambda s: tail(s.file("incr"), b"*1\r\n$4\r\nNOPE\r\n"), range(1)),
    "a damaged base": (lambda s: middle(s.file("base"), b"\xff" * 20), range(1)),
    "an empty base": (lambda s: s.file("base").write_bytes(b""), range(ENTRIES + 1)),
    "no base": (lambda s: s.file("base").unlink(), range(1)),
    "no commands": (lambda s: s.file("incr").unlink(), range(1)),
    "a damaged manifest": (lambda s: s.file("manifest").write_bytes(b"\0" * 100), range(1)),
    "an empty manifest": (lambda s: s.file("manifest").write_bytes(b""), range(1)),
    "cut off": (
        lambda s: os.truncate(s.file("incr"), s.file("incr").stat().st_size - 7),
        range(ENTRIES - 1, ENTRIES),
    ),
}


@pytest.mark.parametrize("damage", DAMAGES)
def test_t102_redis_starts_whatever_is_damaged(server: Server, damage: str) -> None:
    inflict, expected = DAMAGES[damage]
    inflict(server)
    held = sum(file.stat().st_size for file in server.data.iterdir())
    said = server.comes_up()
    with server.client() as client:
        assert client.xlen("s") in expected
        assert client.set("new", "1")
    aside = set_aside(server.folder)
    if not said:
        # Redis repairs this itself; some versions also an empty base.
        assert (aside, damage in {"cut off", "an empty base"}) == ([], True)
        return
    assert sum(file.stat().st_size for file in aside[0].rglob("*")) == held
    assert str(aside[0]) in said[0]


def test_t102_nothing_is_touched_when_the_data_are_not_to_blame(server: Server) -> None:
    before = {file: file.read_bytes() for file in server.data.iterdir()}
    repair = Repair(server.folder, ("/bin/false",))
    assert repair(1) is None
    assert repair(9) is None
    assert {file: file.read_bytes() for file in server.data.iterdir()} == before
    assert set_aside(server.folder) == []


def test_t102_only_the_newest_are_kept(server: Server) -> None:
    assert isinstance(server.spec.repair, Repair)
    for number in range(5):
        server.data.mkdir(exist_ok=True)
        (server.data / "x").write_text(str(number))
        assert server.spec.repair(2)
    kept = [(folder / "x").read_text() for folder in set_aside(server.folder)]
    assert kept == ["2", "3", "4"]


@pytest.mark.parametrize(
    ("content", "whole"),
    [
        (b"", 0),
        (b"*1\r\n$4\r\nPING\r\n", 14),
        (b"*1\r\n$4\r\nPING\r\n*1\r\n$4\r\nPI", 14),
        (b"#TS:1\r\n*1\r\n$4\r\nPING\r\n", 21),
        (b"*1\r\n$-1\r\n", 0),
        (b"*x\r\n", 0),
        (b"*1\r\n$3\r\nPING\r\n", 0),
        (b"\0" * 100, 0),
        (b"*0\r\n", 0),
        (b"*2\r\n$1\r\na\r\n$99999999999\r\n", 0),
    ],
)
def test_t102_whole_commands(tmp_path: Path, content: bytes, whole: int) -> None:
    file = tmp_path / "f"
    file.write_bytes(content)
    assert whole_commands(file) == whole
