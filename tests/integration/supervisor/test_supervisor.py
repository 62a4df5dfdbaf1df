"""The supervisor over small real programs, in a process of its own that can be killed."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import psutil
import pytest

from tests.support.processes import alive
from tests.support.stack import ROOT, wait_until

SLEEPER = "import time; time.sleep(600)"
# Has a child in a session of its own, which no signal to its group reaches.
PARENT = (
    "import subprocess, sys, time; "
    f"subprocess.Popen([sys.executable, '-c', {SLEEPER!r}], start_new_session=True); "
    "print('parent up', flush=True); time.sleep(600)"
)
STUBBORN = (
    "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
    "print('stubborn up', flush=True); time.sleep(600)"
)
POLITE = (
    "import signal, sys, time\n"
    "signal.signal(signal.SIGTERM, lambda *_: (print('bye', flush=True), sys.exit()))\n"
    "print('up', flush=True); time.sleep(600)"
)
HURT = "import os, time; print('hurt up', flush=True); time.sleep(600)"
# As our own processes do: a thread looks after the parent.
OURS = (
    "import signal, time; from chatsite.supervisor import child; child.leave_with_supervisor(); "
    "signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ours up', flush=True); time.sleep(600)"
)


class Run:
    def __init__(self, folder: Path, programs: dict[str, str], stop_seconds: float = 1.0) -> None:
        specs = [
            [name, stage, stop_seconds, [sys.executable, "-c", code]]
            for stage, (name, code) in enumerate(programs.items())
        ]
        self.lines: list[str] = []
        self.process = subprocess.Popen(
            [sys.executable, "-m", "tests.support.supervised", str(folder), json.dumps(specs)],
            cwd=ROOT,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        self._reader = threading.Thread(target=self._collect, daemon=True)
        self._reader.start()

    def _collect(self) -> None:
        assert self.process.stdout
        for line in self.process.stdout:
            self.lines.append(line.rstrip("\n"))

    def shows(self, text: str, times: int = 1) -> None:
        wait_until(
            lambda: sum(text in line for line in self.lines) >= times, f"{text} in {self.lines}", 20
        )

    def family(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def finish(self) -> int:
        code = self.process.wait(15)
        self._reader.join(5)
        assert self.process.stdout
        self.process.stdout.close()
        return code


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Run]]:
    runs: list[Run] = []

    def begin(programs: dict[str, str], **options: float) -> Run:
        runs.append(Run(tmp_path / "data", programs, **options))
        return runs[-1]

    yield begin
    for run in runs:
        if run.process.poll() is None:
            run.process.terminate()
        run.finish()


def test_it_ends_all_in_order_on_sigterm(start: Callable[..., Run]) -> None:
    run = start({"first": POLITE, "second": POLITE})
    run.shows(" up", times=2)
    family = run.family()
    assert len(family) == 2
    run.process.terminate()
    assert run.finish() == 0
    assert alive(family) == []
    goodbyes = [line.split()[2] for line in run.lines if line.endswith(" bye")]
    assert goodbyes == ["second", "first"]


def test_it_kills_what_ignores_sigterm(start: Callable[..., Run]) -> None:
    run = start({"stubborn": STUBBORN}, stop_seconds=0.3)
    run.shows("stubborn up")
    family = run.family()
    run.process.send_signal(signal.SIGINT)
    assert run.finish() == 0
    assert alive(family) == []
    run.shows("stubborn does not end by itself; killing it.")


def test_a_second_signal_hurries(start: Callable[..., Run]) -> None:
    run = start({"stubborn": STUBBORN}, stop_seconds=60)
    run.shows("stubborn up")
    run.process.send_signal(signal.SIGINT)
    run.shows("Ending all processes (SIGINT).")
    run.process.send_signal(signal.SIGINT)  # the same one, come by another way
    time.sleep(1)
    assert run.process.poll() is None
    run.process.send_signal(signal.SIGINT)
    assert run.finish() == 0


def test_it_restarts_what_dies_and_says_why(start: Callable[..., Run]) -> None:
    run = start({"hurt": HURT})
    run.shows("hurt up")
    run.family()[0].kill()
    run.shows("hurt ended (killed by SIGKILL); starting it again in 0.2 s.")
    run.shows("hurt up", times=2)
    run.family()[0].kill()
    run.shows("starting it again in 0.4 s.")


def test_it_names_the_exit_code_and_a_missing_program(start: Callable[..., Run]) -> None:
    run = start({"failing": "raise SystemExit(3)"})
    run.shows("failing ended (exit code 3)")


def test_a_dead_childs_own_children_are_ended_before_it_starts_again(
    start: Callable[..., Run],
) -> None:
    run = start({"parent": PARENT})
    run.shows("parent up")
    parent, grandchild = run.family()
    parent.kill()
    run.shows("parent up", times=2)
    assert alive([grandchild]) == []
    assert len(run.family()) == 2


def test_ready_is_said_once(start: Callable[..., Run]) -> None:
    run = start({"hurt": HURT})
    run.shows("hurt up")
    run.shows("Ready")
    run.family()[0].kill()
    run.shows("hurt up", times=2)
    assert run.lines.count("Ready") == 1


@pytest.mark.skipif(sys.platform != "linux", reason="the kernel's signal is Linux's")
def test_children_leave_when_the_supervisor_is_killed(start: Callable[..., Run]) -> None:
    run = start({"hurt": HURT, "ours": OURS})
    run.shows(" up", times=2)
    family = run.family()
    run.process.kill()
    # "ours" ignores the kernel's signal: its own thread ends it.
    wait_until(lambda: not alive(family), "children have left", 10)


def test_the_next_start_ends_what_a_killed_supervisor_left(start: Callable[..., Run]) -> None:
    first = start({"stubborn": STUBBORN})
    first.shows("stubborn up")
    family = first.family()
    first.process.kill()
    first.process.wait(5)
    second = start({"hurt": HURT})
    second.shows("hurt up")
    assert alive(family) == []
    second.shows("Ending 1 processes that an earlier start left behind.")


def test_a_second_start_is_refused_with_the_holders_id(start: Callable[..., Run]) -> None:
    first = start({"hurt": HURT})
    first.shows("hurt up")
    second = start({"hurt": HURT})
    assert second.finish() == 1
    assert f"process {first.process.pid}" in " ".join(second.lines)
    assert len(alive(first.family())) == 1


def test_children_live_on_when_nobody_reads_the_output(tmp_path: Path) -> None:
    """A pager that was quit, or one that holds its reader up for ever."""
    noisy = (
        "import pathlib, sys\n"
        f"count = pathlib.Path({str(tmp_path / 'count')!r})\n"
        "for number in range(10**9):\n"
        "    print('x' * 1000, flush=True)\n"
        "    if number % 1000 == 0: count.write_text(str(number))\n"
    )
    specs = json.dumps([["noisy", 0, 1.0, [sys.executable, "-c", noisy]]])
    command = [sys.executable, "-m", "tests.support.supervised", str(tmp_path / "data"), specs]
    read_end, write_end = os.pipe()
    run = subprocess.Popen(command, cwd=ROOT, stdout=write_end, stderr=subprocess.DEVNULL)
    os.close(write_end)

    def count() -> int:
        path = tmp_path / "count"
        return int(path.read_text() or 0) if path.exists() else 0

    try:
        wait_until(lambda: count() >= 20_000, "work goes on while nobody reads", 30)
        os.close(read_end)
        before = count()
        wait_until(lambda: count() > before + 5_000, "work goes on when the reader is gone", 30)
    finally:
        run.terminate()
        began = time.monotonic()
        run.wait(10)
        assert time.monotonic() - began < 10
