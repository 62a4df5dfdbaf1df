"""Model files between hosts: complete, verified, resumable, each at most once at a time."""

from __future__ import annotations

import asyncio
import hashlib
import http.client
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from django.core import signing

from chatsite.inference import file_fetcher, file_server
from chatsite.inference.file_fetcher import FileFetcher, fetch_into_store
from chatsite.inference.file_server import FileServer, Pace, token_for
from models_admin.models import ModelVersion
from models_admin.sources import transfer
from models_admin.store import disk, partial

pytestmark = pytest.mark.django_db(transaction=True)

# Two pieces, the second of them short.
CONTENT = os.urandom(1 << 20) * 20
DIGEST = hashlib.sha256(CONTENT).hexdigest()
SIZE = len(CONTENT)


class Watcher:
    """Stops the transfer after ``most`` bytes."""

    def __init__(self, most: int = SIZE + 1) -> None:
        self.stop_requested = threading.Event()
        self._most = most
        self.events: list[str] = []

    def report(self, done: int, total: int) -> None:
        if done >= self._most:
            self.stop_requested.set()

    def log(self, code: str, **values: object) -> None:
        self.events.append(code)


@pytest.fixture
def other(tmp_path: Path) -> Path:
    """The store of the host that has the file."""
    folder = tmp_path / "other"
    folder.mkdir()
    (folder / DIGEST).write_bytes(CONTENT)
    return folder


@pytest.fixture
def store(settings: Any, tmp_path: Path) -> Path:
    """The store of this host, which lacks the file of an installed model."""
    settings.DATA_DIR = tmp_path / "data"
    ModelVersion.objects.create(digest=DIGEST, size=SIZE)
    return disk.path_of(DIGEST)


@pytest.fixture
def server(other: Path) -> Iterator[FileServer]:
    found = FileServer("127.0.0.1", 0, 0, lambda digest: other / digest)
    yield found
    found.close()


def url_of(server: FileServer) -> str:
    return f"http://127.0.0.1:{server.port}"


def status(server: FileServer, path: str, token: str | None) -> int:
    connection = http.client.HTTPConnection("127.0.0.1", server.port, timeout=5)
    headers = {} if token is None else {"Authorization": f"Bearer {token}"}
    try:
        connection.request("GET", path, headers=headers)
        return connection.getresponse().status
    finally:
        connection.close()


def test_a_missing_file_is_fetched_and_verified(store: Path, server: FileServer) -> None:
    fetch_into_store(DIGEST, SIZE, url_of(server), Watcher())
    assert store.read_bytes() == CONTENT
    assert store.stat().st_mode & 0o777 == 0o600
    assert file_fetcher.held() == (DIGEST,)
    assert list(partial.folder().iterdir()) == []
    fetch_into_store(DIGEST, SIZE, url_of(server), Watcher())
    assert server.sent == SIZE  # the second call found it


def test_a_transfer_resumes_where_it_was_stopped(
    store: Path, other: Path, server: FileServer
) -> None:
    slow = FileServer("127.0.0.1", 0, 16e6, lambda digest: other / digest)
    try:
        with pytest.raises(transfer.Stopped):
            fetch_into_store(DIGEST, SIZE, url_of(slow), Watcher(most=4 << 20))
    finally:
        slow.close()
    assert not store.exists()
    watcher = Watcher()
    fetch_into_store(DIGEST, SIZE, url_of(server), watcher)
    assert store.read_bytes() == CONTENT
    assert "resumed" in watcher.events
    assert server.sent <= SIZE - (4 << 20)


def test_a_damaged_file_is_refused(store: Path, other: Path, server: FileServer) -> None:
    (other / DIGEST).write_bytes(b"x" + CONTENT[1:])
    with pytest.raises(transfer.TransferRefused, match="checksum"):
        fetch_into_store(DIGEST, SIZE, url_of(server), Watcher())
    assert not store.exists()


def test_two_processes_do_not_fetch_one_file(store: Path, server: FileServer) -> None:
    with partial.hold(DIGEST, SIZE), pytest.raises(partial.PartialBusy):
        fetch_into_store(DIGEST, SIZE, url_of(server), Watcher())
    assert server.sent == 0


def test_a_model_that_was_removed_meanwhile_is_not_stored(store: Path, server: FileServer) -> None:
    ModelVersion.objects.all().delete()
    with pytest.raises(file_fetcher.Removed):
        fetch_into_store(DIGEST, SIZE, url_of(server), Watcher())
    assert not store.exists()


def test_fetched_files_of_removed_models_are_deleted_and_own_ones_kept(
    store: Path, server: FileServer
) -> None:
    fetch_into_store(DIGEST, SIZE, url_of(server), Watcher())
    own = disk.path_of("0" * 64)
    own.touch()
    assert file_fetcher.tidy() == []
    ModelVersion.objects.all().delete()
    assert file_fetcher.tidy() == [DIGEST]
    assert not store.exists()
    assert own.exists()


def test_only_a_token_for_this_file_is_accepted(
    server: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = f"/models/sha256-{DIGEST}"
    assert status(server, path, token_for(DIGEST)) == 200
    assert status(server, path, None) == 401
    assert status(server, path, token_for("0" * 64)) == 401
    foreign = signing.TimestampSigner(key="x" * 50, salt="chatsite.model-files").sign(DIGEST)
    assert status(server, path, foreign) == 401
    assert status(server, f"/models/sha256-{'0' * 64}", token_for("0" * 64)) == 404
    assert status(server, "/models/../secret_key", token_for(DIGEST)) == 404
    monkeypatch.setattr(file_server, "TOKEN_SECONDS", -1)
    assert status(server, path, token_for(DIGEST)) == 401


def test_the_rate_bounds_all_connections_together() -> None:
    now = [100.0]
    slept: list[float] = []
    pace = Pace(1000, clock=lambda: now[0], sleep=slept.append)
    pace.spend(500)
    pace.spend(500)
    pace.spend(1000)
    assert slept == [0.5, 1.0]
    now[0] = 110.0
    pace.spend(10)
    assert slept == [0.5, 1.0]


async def test_a_failed_fetch_is_repeated_with_another_host(
    store: Path, server: FileServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_fetcher, "RETRY_SECONDS", 0.0)
    monkeypatch.setattr(transfer, "PAUSES", ())
    ended = asyncio.Event()
    fetcher = FileFetcher(ended.set)
    urls = [url_of(server), "http://127.0.0.1:1"]
    for _ in range(2):
        ended.clear()
        fetcher.fetch("m:1", DIGEST, SIZE, urls)
        fetcher.fetch("m:1", DIGEST, SIZE, urls)  # it is under way
        [shown] = fetcher.statuses()
        assert (shown.name, shown.state) == ("m:1", "loading")
        async with asyncio.timeout(20):
            await ended.wait()
    assert fetcher.statuses() == ()
    assert await asyncio.to_thread(store.read_bytes) == CONTENT
    await fetcher.stop()
