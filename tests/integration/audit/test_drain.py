from __future__ import annotations

import errno
import json
import logging
import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from django.db import OperationalError, connection

from chatsite.audit import chain, drain, forward, verification
from chatsite.audit import record as recording
from chatsite.audit import spool as spools
from chatsite.audit.forward import Forwarder
from chatsite.audit.models import Event, SpoolFile
from chatsite.audit.record import record
from chatsite.audit.spool import Spool
from tests.support.stack import ROOT

pytestmark = pytest.mark.django_db


def numbers() -> list[int]:
    rows = Event.objects.order_by("sequence").values_list("details", flat=True)
    return [json.loads(details).get("number", -1) for details in rows]


def test_killed_processes_lose_and_repeat_nothing(tmp_path: Path) -> None:
    """Real processes, killed with SIGKILL while they record and while they drain."""
    environment = {**os.environ, "CHATSITE_DATA_DIR": str(tmp_path)}
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.audit_site"],
        cwd=ROOT, env=environment, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert found["acknowledged"] > 100
    assert found | {"acknowledged": 0, "killed_drainers": 0} == {
        "acknowledged": 0,
        "killed_drainers": 0,
        "lost": 0,
        "repeated": 0,
        "intact": True,
        "files_left": 0,
        "offsets_left": 0,
        "two_machines": 600,
        "two_machines_repeated": 0,
        "still_intact": True,
        "order_kept": True,
    }


def test_files_of_the_living_are_kept(spool: Spool) -> None:
    record("auth.login", user="ann", number=1)
    assert drain.drain()
    assert len(list(spool.path.glob("*.jsonl"))) == 1
    record("auth.login", user="ann", number=2)
    assert drain.drain()
    assert numbers() == [1, 2]
    spool.close()
    assert drain.drain()
    assert list(spool.path.glob("*.jsonl")) == []
    assert not SpoolFile.objects.exists()


def test_files_are_rotated(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spools, "FILE_BYTES", 2000)
    for number in range(20):
        record("auth.login", user="ann", number=number)
    assert len(list(spool.path.glob("*.jsonl"))) > 2
    drain.drain()
    assert numbers() == list(range(20))
    assert len(list(spool.path.glob("*.jsonl"))) == 1


def test_a_full_disk_loses_nothing(
    spool: Spool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    record("auth.login", user="ann", number=0)
    write = os.write
    room = [100]

    def full(file: int, data: bytes) -> int:
        """Take what still fits, as a full disk does."""
        if not room[0]:
            raise OSError(errno.ENOSPC, "No space left on device")
        taken = write(file, data[: room[0]])
        room[0] = 0
        return taken

    monkeypatch.setattr(os, "write", full)
    with caplog.at_level(logging.WARNING):
        for number in range(1, 50):
            record("auth.login", user="ann", number=number)
    assert spool.kept == 49
    assert [r.message for r in caplog.records if "Audit" in r.message] == [
        "Audit events can't be written; keeping them in memory"
    ]
    assert verification.spool_state().is_delayed
    monkeypatch.setattr(os, "write", write)
    assert spool.flush()
    assert not spool.kept
    drain.drain()
    assert numbers() == list(range(50))
    assert chain.verify().ok


def test_more_than_memory_holds_is_counted(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(spools, "KEPT_LINES", 10)
    monkeypatch.setattr(spools, "RETRY_SECONDS", 0.0)
    write = os.write

    def full(file: int, data: bytes) -> int:
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "write", full)
    for number in range(25):
        record("auth.login", user="ann", number=number)
    monkeypatch.setattr(os, "write", write)
    record("auth.login", user="ann", number=25)
    drain.drain()
    assert numbers()[:11] == [*range(15, 26)]
    lost = Event.objects.get(kind="audit.lost")
    assert json.loads(lost.details) == {"count": 15}
    assert lost.outcome == "failed"


def test_the_spool_is_bounded(spool: Spool, monkeypatch: pytest.MonkeyPatch) -> None:
    """The database is away for long: events stay in memory, then are counted."""
    monkeypatch.setattr(spools, "FILE_BYTES", 1000)
    monkeypatch.setattr(spools, "FOLDER_BYTES", 4000)
    for number in range(60):
        record("auth.login", user="ann", number=number)
    assert spools.size(spool.path) < 6000
    assert spool.kept > 0
    spool.retry_at = 0
    while drain.drain() and spool.kept:
        spool.flush()
    drain.drain()
    assert numbers() == list(range(60))


def test_the_database_is_away(
    spool: Spool, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    drainer = drain.Drainer()
    record("auth.login", user="ann", number=0)

    def away(*args: Any) -> None:
        raise OperationalError("server closed the connection")

    monkeypatch.setattr(chain, "append", away)
    with caplog.at_level(logging.WARNING):
        for number in (1, 2):
            record("auth.login", user="ann", number=number)
            with pytest.raises(OperationalError) as raised:
                drainer.work()
            drainer.fail(raised.value)
    assert [r.message for r in caplog.records] == [
        "Audit events can't be stored; they wait in the spool"
    ]
    assert numbers() == []
    monkeypatch.undo()
    monkeypatch.setattr(recording, "spool", lambda: spool)


def test_an_unreadable_line_stops_nothing(spool: Spool, caplog: pytest.LogCaptureFixture) -> None:
    record("auth.login", user="ann", number=0)
    (file,) = spool.path.glob("*.jsonl")
    with file.open("ab") as end:
        end.write(b'{"v":1,"kind":"auth.log\n')
    record("auth.login", user="ann", number=1)
    with caplog.at_level(logging.WARNING):
        drain.drain()
    assert numbers() == [0, 1]
    assert "Unreadable lines in the audit spool" in caplog.text


def test_a_second_drainer_does_not_wait(spool: Spool) -> None:
    record("auth.login", user="ann", number=0)
    with drain.election(spool.path, 0) as first:
        assert first
        assert not drain.drain(wait=0)
    assert drain.drain(wait=0)
    assert numbers() == [0]


def test_an_older_file_is_merged_by_time(spool: Spool) -> None:
    other = Spool(spool.path)
    lines = []
    for number in range(6):
        event = recording.event("auth.login", user="ann", details={"number": number})
        lines.append(recording.encode(event) + b"\n")
    for number in (0, 2, 5):
        other.append(lines[number])
    for number in (1, 3, 4):
        spool.append(lines[number])
    drain.drain()
    assert numbers() == list(range(6))
    other.close()


# Syslog.


class Server(threading.Thread):
    """A syslog server that keeps what it gets; TCP with frames, or UDP."""

    def __init__(self, kind: int) -> None:
        super().__init__(daemon=True)
        self.socket = socket.socket(socket.AF_INET, kind)
        self.socket.bind(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.kind = kind
        self.got = b""
        self.messages: list[bytes] = []
        if kind == socket.SOCK_STREAM:
            self.socket.listen()
        self.start()

    def run(self) -> None:
        try:
            if self.kind == socket.SOCK_DGRAM:
                while True:
                    self.messages.append(self.socket.recv(65536))
            while True:
                taken, _address = self.socket.accept()
                with taken:
                    while part := taken.recv(65536):
                        self.got += part
        except OSError:
            return

    def frames(self) -> list[bytes]:
        found, rest = [], self.got
        while rest:
            length, _space, rest = rest.partition(b" ")
            found.append(rest[: int(length)])
            rest = rest[int(length) :]
        return found


def wait_until(condition: Any) -> None:
    for _attempt in range(6000):
        if condition():
            return
        threading.Event().wait(0.01)
    raise AssertionError("not in time")


@pytest.fixture
def forwarder_to() -> Iterator[Callable[[str], Forwarder]]:
    made: list[Forwarder] = []

    def make(destination: str) -> Forwarder:
        made.append(Forwarder(destination))
        return made[-1]

    yield make
    for forwarder in made:
        forwarder.close()


@pytest.fixture
def server(request: pytest.FixtureRequest) -> Iterator[Server]:
    server = Server(getattr(request, "param", socket.SOCK_STREAM))
    yield server
    server.socket.close()


def test_events_are_sent_over_tcp_and_continue_where_they_were(
    spool: Spool, server: Server, forwarder_to: Callable[[str], Forwarder]
) -> None:
    destination = f"tcp://127.0.0.1:{server.port}"
    for number in range(5):
        record("auth.login", user='an]n"', number=number)
    drain.drain()
    first = forwarder_to(destination)
    first.send_new()
    wait_until(lambda: len(server.frames()) == 5)
    message = server.frames()[0].decode()
    assert message.startswith("<110>1 20")
    assert 'actor_name="an\\]n\\""' in message
    assert json.loads(message.partition("\ufeff")[2])["sequence"] == 1
    first.send_new()  # nothing is new
    first.close()
    record("auth.login", user="ann", number=5)
    drain.drain()
    forwarder_to(destination).send_new()  # as after a restart
    wait_until(lambda: len(server.frames()) == 6)
    assert b'"number":5' in server.frames()[5]


@pytest.mark.parametrize("server", [socket.SOCK_DGRAM], indirect=True)
def test_events_are_sent_over_udp_by_one_machine_at_a_time(
    spool: Spool,
    server: Server,
    forwarder_to: Callable[[str], Forwarder],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    destination = f"udp://127.0.0.1:{server.port}"
    record("auth.login", user="ann", outcome="denied")
    drain.drain()
    forwarder_to(destination).send_new()
    wait_until(lambda: len(server.messages) == 1)
    assert server.messages[0].startswith(b"<108>1 ")
    monkeypatch.setattr(forward, "SENDER", "another machine")
    record("auth.login", user="ann")
    drain.drain()
    forwarder_to(destination).send_new()
    threading.Event().wait(0.05)
    assert len(server.messages) == 1


def test_an_outage_of_the_server_skips_nothing(
    spool: Spool, caplog: pytest.LogCaptureFixture, forwarder_to: Callable[[str], Forwarder]
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as reserved:
        port = reserved.getsockname()[1]
    forwarder = forwarder_to(f"tcp://127.0.0.1:{port}")
    for number in range(3):
        record("auth.login", user="ann", number=number)
    drain.drain()
    with caplog.at_level(logging.WARNING):
        forwarder.send_new()
        forwarder.send_new()  # still in the pause
    assert caplog.text.count("Syslog server does not accept audit events") == 1
    again = socket.create_server(("127.0.0.1", port))
    forwarder.retry_at = 0.0
    forwarder.send_new()
    taken, _address = again.accept()
    taken.settimeout(60)
    data = b""
    while data.count(b"actor_name=") < 3:
        data += taken.recv(65536)
    assert b'"number":0' in data
    assert b'"number":2' in data
    taken.close()
    again.close()


def test_the_thread_drains_by_itself(
    spool: Spool, committed: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    if connection.vendor == "sqlite":
        pytest.skip("SQLite's tests share one connection")
    monkeypatch.setattr(drain, "PERIOD_SECONDS", 0.02)
    drainer = drain.start()
    record("auth.login", user="ann", number=0)
    wait_until(Event.objects.exists)
    drainer.stop()
    drainer.join()
