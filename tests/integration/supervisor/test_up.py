"""`manage.py up` with all its real processes."""

from __future__ import annotations

import asyncio
import json
import signal
import socket
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import psutil
import pytest

from chatsite.bench.chat_client import ChatClient
from tests.support.processes import alive
from tests.support.stack import MODEL, ROLES, ROOT, Stack, wait_until

pytestmark = pytest.mark.stack

END_SECONDS = 60


@pytest.fixture
def up(tmp_path: Path) -> Iterator[Stack]:
    stack = Stack(tmp_path / "data")
    stack.prepare(None)
    stack.start()
    yield stack
    stack.stop()


def healthy(stack: Stack) -> bool:
    try:
        with urllib.request.urlopen(f"{stack.url}/healthz", timeout=30) as response:
            return bool(response.status == 200)
    except (urllib.error.URLError, OSError):
        return False


def is_renewed(stack: Stack, role: str, before: set[int]) -> bool:
    return any(process.pid not in before for process in stack.find(role))


def shows(stack: Stack, text: str) -> None:
    wait_until(lambda: any(text in line for line in stack.output), f"{text}\n{stack.log}", 60)


def test_a_first_start_prints_the_set_up_link_and_ready_once(tmp_path: Path) -> None:
    """On a missing data directory. The next start has an administrator, so no link."""
    up = Stack(tmp_path / "data")
    try:
        up.start()
        bare = [line for line in up.output if line.startswith(("Set-up link: ", "Ready: "))]
        assert bare[1:] == [f"Ready: {up.url}/"]
        link = bare[0].removeprefix("Set-up link: ")
        with urllib.request.urlopen(link, timeout=30) as response:
            assert response.status == 200
        assert healthy(up)
        assert all(up.find(role) for role in ROLES if role != "engine")
        assert up.data_dir.stat().st_mode & 0o777 == 0o700
        assert not [c for p in up.find("redis") for c in p.net_connections("inet")]
        up.create_user("root", admin=True)
        up.stop()
        up.output.clear()
        up.start()
        assert not any("Set-up link" in line for line in up.output)
    finally:
        up.stop()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_all_and_leaves_no_orphan(up: Stack, number: signal.Signals) -> None:
    # Redis, Daphne, inference, and Celery with a pool of two and beat.
    wait_until(lambda: len(up.family()) >= 7, "all have started")
    family = up.family()
    assert up.process
    up.process.send_signal(number)
    assert up.process.wait(END_SECONDS) == 0
    up.process = None
    assert alive(family) == []


def test_when_it_is_killed_the_children_leave(starter_model: Path, tmp_path: Path) -> None:
    """With a loaded model, so that there is an engine child too."""
    stack = Stack(tmp_path / "data", CHATSITE_BACKEND="scripted")
    stack.prepare(starter_model)
    stack.start()
    family: list[psutil.Process] = []
    try:
        stack.create_user("someone")
        try:
            load_model(stack)
        except TimeoutError:
            pytest.fail(f"no answer:\n{stack.log}")
        family = stack.family()
        assert stack.find("engine")
        assert stack.process
        stack.process.kill()
        stack.process.wait(60)
        wait_until(lambda: not alive(family), "children have left", END_SECONDS)
    finally:
        if family:
            stack.process = None
        stack.stop()
        for process in alive(family):
            process.kill()


def load_model(stack: Stack) -> None:
    import asyncio

    async def ask() -> None:
        async with ChatClient(stack.url, stack.sign_in("someone")) as client:
            answer = await client.ask("Hello", model=MODEL, max_tokens=4)
            async with asyncio.timeout(60):
                await answer.ended.wait()

    asyncio.run(ask())


def test_each_process_that_dies_is_started_again(up: Stack) -> None:
    for role in ("redis", "daphne", "inference", "celery"):
        before = {process.pid for process in up.find(role)}
        up.kill(role)
        shows(
            up, f'Process ended; restarting it name={role} reason="killed by SIGKILL" seconds=0.2'
        )
        wait_until(partial(is_renewed, up, role, before), f"{role} is back")
        wait_until(lambda: healthy(up), f"healthy after {role}\n{up.log}")
        # No process of the dead one is left.
        assert not {process.pid for process in up.find(role)} & before
    assert sum(line.startswith("Ready: ") for line in up.output) == 1


def test_a_job_worker_that_is_killed_takes_its_pool_along(up: Stack) -> None:
    wait_until(lambda: len(up.find("celery")) >= 4, "the pool and beat are there")
    workers = up.find("celery")
    workers[0].kill()
    wait_until(lambda: not alive(workers), "the pool has left", END_SECONDS)


def test_a_second_start_on_the_same_data_is_refused(up: Stack) -> None:
    assert up.process
    second = up.manage("up", "--port", str(up.port), check=False)
    assert second.returncode == 1
    assert f"Already running on {up.data_dir}: process {up.process.pid}." in second.stderr
    assert healthy(up)


def test_a_port_in_use_stops_the_start_before_anything_runs(tmp_path: Path) -> None:
    stack = Stack(tmp_path / "data")
    with socket.socket() as holder:
        holder.bind(("127.0.0.1", stack.port))
        holder.listen()
        refused = stack.manage("up", check=False)
    assert refused.returncode == 1
    assert f"Port {stack.port} on 127.0.0.1 is in use by another program." in refused.stderr
    assert not (stack.data_dir / "redis").exists()


def test_a_given_redis_is_used(tmp_path: Path, redis_url: str) -> None:
    stack = Stack(tmp_path / "data", CHATSITE_REDIS_URL=redis_url)
    stack.prepare(None)
    stack.start()
    try:
        assert stack.find("redis") == []
        assert healthy(stack)
    finally:
        stack.stop()


async def test_t103_the_site_is_served_on_ipv6(starter_model: Path, tmp_path: Path) -> None:
    stack = Stack(tmp_path / "data", CHATSITE_HOST="::1", CHATSITE_BACKEND="scripted")
    stack.url = f"http://[::1]:{stack.port}"
    try:
        stack.prepare(starter_model)
        stack.create_user("alice")
        stack.start()
        assert any(f"Ready: {stack.url}/" in line for line in stack.output)
        async with ChatClient(stack.url, stack.sign_in("alice")) as client:
            answer = await client.ask("Hello", model=MODEL)
            await asyncio.wait_for(answer.ended.wait(), 60)
            assert answer.text
    finally:
        stack.stop()


def test_all_lines_are_json_when_that_is_set(tmp_path: Path) -> None:
    stack = Stack(tmp_path / "data", CHATSITE_LOG_FORMAT="json")
    stack.prepare(None)
    stack.start()
    stack.stop()
    entries = [json.loads(line) for line in stack.output]
    assert all({"time", "process", "level", "message"} <= set(entry) for entry in entries)
    assert f"Ready: {stack.url}/" in [entry["message"] for entry in entries]
    assert "celery" in {entry["process"] for entry in entries}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--port", "http"], "CHATSITE_PORT='http'"),
        (["--host", "192.0.2.1"], "HOST=192.0.2.1 is not an address of this machine"),
        (["--data-dir", "/proc/none"], "The data folder /proc/none can't be used"),
    ],
)
def test_impossible_options_are_reported_in_one_sentence(
    tmp_path: Path, arguments: list[str], words: str
) -> None:
    stack = Stack(tmp_path / "data")
    refused = stack.manage("up", *arguments, check=False)
    assert refused.returncode == 1
    assert words in refused.stderr
    assert "Traceback" not in refused.stderr


def test_help_lists_the_options() -> None:
    text = subprocess.run(
        [sys.executable, "manage.py", "up", "--help"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    assert all(option in text for option in ("--host", "--port", "--data-dir"))
