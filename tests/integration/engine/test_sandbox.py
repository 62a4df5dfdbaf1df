"""Real compromised children: what they can reach, with all sandbox layers and with few."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from chatsite.engine.contract import frames
from chatsite.engine.contract.messages import Loaded
from chatsite.engine.prompting.renderer import RenderPool
from chatsite.sandbox import confine, landlock, spawn
from chatsite.sandbox.protection import (
    LANDLOCK,
    MOUNTS,
    NETWORK,
    SECCOMP,
    SEPARATE_USER,
    Protection,
)
from tests.support import intruder
from tests.support.children import load

pytestmark = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="Linux only")
INTRUDER = "tests.support.intruder"

FILES = {
    *("read the secret key", "read the database", "list the data folder"),
    *("write into the data folder", "read a system file", "read another model"),
    *("overwrite a model", "truncate a model", "link a file", "rename a file", "remove a file"),
    *("read the parent's environment", "read the parent's memory"),
}


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """Yield a data directory with everything a child must not reach, and a listening Redis."""
    (tmp_path / "run").mkdir()
    (tmp_path / "models").mkdir()
    for name in (
        "secret_key",
        "chatsite.sqlite3",
        "spare",
        "models/other",
        "models/mine",
        "models/spare",
    ):
        (tmp_path / name).write_text("scripted\n")
    with (
        socket.socket(socket.AF_UNIX) as redis,
        socket.socket(socket.AF_UNIX) as abstract,
        socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as datagram,
    ):
        redis.bind(str(tmp_path / "run" / "redis.sock"))
        redis.listen()
        abstract.bind(b"\0" + os.fsencode(tmp_path))
        abstract.listen()
        datagram.bind(str(tmp_path / "run" / "datagram.sock"))
        yield tmp_path


def done_by(words: list[str] | str) -> set[str]:
    lines = words.splitlines() if isinstance(words, str) else words
    [line] = [line for line in lines if line.startswith(intruder.MARK)]
    return set(json.loads(line.removeprefix(intruder.MARK)))


async def engine(folder: Path, *lacking: str) -> tuple[set[str], Protection]:
    child = await spawn.start(
        ["engine", str(folder), ",".join(lacking), "--name", "x", "--backend", "scripted"], INTRUDER
    )
    await frames.transmit(child.stdin, load(str(folder / "models" / "mine")))
    while not isinstance(frame := await frames.receive(child.stdout), Loaded):
        assert frame is not None, (await child.stderr.read()).decode()
    child.stdin.close()
    words = (await child.stderr.read()).decode()
    assert await child.process.wait() == 0, words
    return done_by(words), frame.protection


async def test_the_operations_succeed_without_a_sandbox(folder: Path) -> None:
    """Otherwise the other tests could not fail."""
    lacking = ("landlock", "mounts", "seccomp", "network", "user")
    done, protection = await engine(folder, *lacking)
    assert done >= FILES - {"read the parent's environment", "read the parent's memory"}
    assert done >= {"open a Unix socket", "connect to an abstract socket", "send a datagram"}
    assert done >= {"signal the parent", "start a program", "fork", "change a mode"}
    assert protection.gaps == ("files that its user may read", "connections", "other processes")


async def test_m6_an_engine_reaches_nothing_but_its_model(folder: Path) -> None:
    done, protection = await engine(folder)
    if LANDLOCK not in protection.active or SECCOMP not in protection.active:
        pytest.skip(str(protection))
    assert done == set()
    assert protection.gaps == ()
    assert (folder / "secret_key").stat().st_mode & 0o777 != 0o666
    assert (folder / "spare").exists()


async def test_m6_without_landlock_a_mount_namespace_takes_its_place(folder: Path) -> None:
    done, protection = await engine(folder, "landlock")
    if MOUNTS not in protection.active:
        pytest.skip(str(protection))
    assert done == set()
    assert protection.gaps == ()


async def test_m6_the_filter_alone_keeps_connections_and_processes(folder: Path) -> None:
    done, protection = await engine(folder, "landlock", "mounts", "network", "user")
    if SECCOMP not in protection.active:
        pytest.skip(str(protection))
    assert done <= FILES - {"truncate a model"}
    assert protection.gaps == ("files that its user may read",)


async def test_m6_without_the_filter_the_other_layers_still_hold(folder: Path) -> None:
    done, protection = await engine(folder, "seccomp")
    if LANDLOCK not in protection.active or NETWORK not in protection.active:
        pytest.skip(str(protection))
    assert not done & FILES
    assert "open a TCP socket" not in done
    assert "start a program" not in done
    # Only the filter would forbid this, and the report says so.
    assert "open a Unix socket" in done
    assert protection.gaps == ("connections", "other processes")


async def test_m6_root_becomes_another_user_where_files_have_no_other_layer(folder: Path) -> None:
    done, protection = await engine(folder, "landlock", "mounts")
    if SEPARATE_USER in protection.active:
        assert not done & {"read the secret key", "write into the data folder"}
    else:
        assert os.geteuid() != 0 or "readable by root only" in protection.missing[SEPARATE_USER]
        assert "files that its user may read" in protection.gaps


def run(kind: str, folder: Path, *arguments: str, data: bytes = b"") -> tuple[set[str], bytes]:
    finished = subprocess.run(
        [sys.executable, "-m", INTRUDER, kind, str(folder), "", *arguments],
        input=data,
        capture_output=True,
        cwd=spawn.ROOT,
        env=spawn.environment(),
        check=False,
        timeout=60,
    )
    return done_by(finished.stderr.decode()), finished.stdout


has_landlock = pytest.mark.skipif(not landlock.version(), reason="no Landlock")


@has_landlock
def test_m6_a_reader_of_documents_reaches_nothing(folder: Path) -> None:
    done, _ = run("reader", folder, "1000", "10", "768", data=b"text")
    assert done == set()


@has_landlock
def test_m6_a_check_reaches_nothing(folder: Path) -> None:
    path = str(folder / "models" / "mine")
    done, _ = run(
        "engine", folder, "--check", "--name", "x", "--backend", "scripted", "--path", path
    )
    assert done == set()


@has_landlock
def test_m6_a_child_that_quantizes_writes_one_file(folder: Path) -> None:
    source, target = folder / "models" / "mine", folder / "models" / "smaller"
    paths = ("--source", str(source), "--target", str(target))
    done, out = run("quantize", folder, "--name", "x", "--kind", "Q8_0", *paths)
    assert done == set()
    assert json.loads(out) == {"result": 7}
    assert target.read_bytes() == b"smaller"


@has_landlock
def test_m6_a_renderer_of_templates_reaches_nothing(folder: Path) -> None:
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-m", INTRUDER, "renderer", str(folder), "", str(theirs.fileno())],
            pass_fds=(theirs.fileno(),),
            cwd=spawn.ROOT,
            env=spawn.environment(),
        )
    ours.settimeout(60)
    with RenderPool(process, ours) as pool:
        assert pool.protection.gaps == ()
        assert json.loads(pool.render("x", {}, 10_000)) == []


async def test_the_doctors_check_finds_what_is_reachable(folder: Path) -> None:
    found = await confine.trial(folder)
    if not found.protection.gaps:
        assert found.done == ()
    assert found.protection.active


def test_memory_of_processes_with_secrets_is_hidden() -> None:
    """From other processes of the same user, which root is not."""
    program = (
        "import os; from pathlib import Path; from chatsite.sandbox import confine;"
        "before = Path('/proc/self/environ').stat().st_uid; confine.hide_memory();"
        "os.setresuid(12345, 12345, 12345) if not os.geteuid() else None; confine.hide_memory();"
        "print(before, Path('/proc/self/environ').stat().st_uid)"
    )
    out = subprocess.run(
        [sys.executable, "-c", program], cwd=spawn.ROOT, capture_output=True, check=True
    ).stdout
    _before, after = map(int, out.split())
    assert after == 0  # the kernel gives it to root
