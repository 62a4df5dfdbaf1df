"""Downloads that are cut, resumed and lied to, over a real connection."""

from __future__ import annotations

import asyncio
import fcntl
import hashlib
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from models_admin import fetch, store, transfer
from models_admin.models import ModelName
from models_admin.pull import pull
from models_admin.sources import base
from tests.support.gguf import gguf

pytestmark = [pytest.mark.django_db(transaction=True), pytest.mark.usefixtures("data_dir")]

CONTENT = gguf(fill=b"\7", tensors=(("output.weight", 1 << 18),))
DIGEST = hashlib.sha256(CONTENT).hexdigest()


class Handler(BaseHTTPRequestHandler):
    """``faults`` are used up, one an answer: whole, cut, busy, wrong_range, wrong_content."""

    faults: list
    ranges: list

    def do_GET(self) -> None:
        own = type(self)
        wanted = self.headers["Range"]
        own.ranges.append(wanted)
        fault = own.faults.pop(0) if own.faults else ""
        start = int(wanted[6:-1]) if wanted and fault != "whole" else 0
        data = CONTENT[start:]
        if fault == "busy":
            self.send_response(429)
            self.send_header("Retry-After", "7")
            self.end_headers()
            return
        self.send_response(206 if start else 200)
        if start:
            first = start + (fault == "wrong_range")
            self.send_header("Content-Range", f"bytes {first}-{len(CONTENT) - 1}/{len(CONTENT)}")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        if fault == "wrong_content":
            data = b"x" * len(data)
        self.wfile.write(data[: len(data) // 2] if fault == "cut" else data)

    def log_message(self, *args: object) -> None:
        pass


@pytest.fixture
def pauses(monkeypatch):
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    return slept


@pytest.fixture
def hub(settings, monkeypatch, pauses):
    class Own(Handler):
        faults: list = []
        ranges: list = []

    server = ThreadingHTTPServer(("127.0.0.1", 0), Own)
    threading.Thread(target=server.serve_forever, args=(0.01,), daemon=True).start()
    address = f"http://127.0.0.1:{server.server_port}"
    settings.ENV = settings.ENV.model_copy(update={"hf_endpoint": address})
    blob = base.Blob(f"{address}/tiny", DIGEST, len(CONTENT), "model")

    async def resolve(name: str) -> base.Resolved:
        return base.Resolved("tiny:latest", (blob,), {})

    monkeypatch.setattr("models_admin.sources.resolve", resolve)
    yield Own
    server.shutdown()
    server.server_close()


def names_on_disk() -> set[str]:
    return {path.name for path in store.folder().iterdir()} - {".lock"}


def quiet(done: int, total: int) -> None:
    pass


def test_what_arrives_whole_is_installed(hub):
    told = []
    model = pull("tiny", lambda done, total: told.append((done, total)))
    assert model.version.path.read_bytes() == CONTENT
    assert names_on_disk() == {f"sha256-{DIGEST}"}
    assert told[-1] == (len(CONTENT), len(CONTENT))


def test_a_connection_that_breaks_is_taken_up_where_it_ended(hub, pauses):
    hub.faults[:] = ["cut", "busy", "cut"]
    assert pull("tiny", quiet).version.path.read_bytes() == CONTENT
    assert hub.ranges[0] is None
    assert all(hub.ranges[1:])
    assert 7 in pauses


def test_what_a_killed_process_left_is_gone_on_with(hub):
    (store.folder() / f"{DIGEST}.part").write_bytes(CONTENT[:1000])
    assert pull("tiny", quiet).version.path.read_bytes() == CONTENT
    assert hub.ranges == ["bytes=1000-"]


def test_a_whole_file_in_answer_to_a_range_begins_anew(hub):
    (store.folder() / f"{DIGEST}.part").write_bytes(b"y" * 1000)
    hub.faults[:] = ["whole"]
    assert pull("tiny", quiet).version.path.read_bytes() == CONTENT


@pytest.mark.parametrize(("fault", "held"), [("wrong_content", b""), ("wrong_range", b"G")])
def test_what_was_not_published_gets_no_name(hub, fault, held):
    (store.folder() / f"{DIGEST}.part").write_bytes(held)
    hub.faults[:] = [fault]
    with pytest.raises(transfer.TransferRefused):
        pull("tiny", quiet)
    assert not ModelName.objects.exists()
    assert names_on_disk() == {f"{DIGEST}.part"}


def test_it_is_given_up_when_nothing_comes(hub, pauses):
    hub.faults[:] = ["busy"] * 10
    with pytest.raises(fetch.FetchFailed, match="429"):
        pull("tiny", quiet)
    assert len(hub.ranges) == 6


def test_two_do_not_write_one_file(hub):
    with (store.folder() / f"{DIGEST}.part").open("wb") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        with pytest.raises(transfer.TransferRefused, match="Another process"):
            pull("tiny", quiet)


def test_a_full_disk_is_said_before(hub, monkeypatch):
    monkeypatch.setattr(store, "RESERVE", 1 << 60)
    with pytest.raises(store.DiskFull):
        pull("tiny", quiet)
    assert not hub.ranges
