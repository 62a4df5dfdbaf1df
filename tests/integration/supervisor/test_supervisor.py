"""The supervisor over small real programs, in its own process that can be killed."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import psutil
import pytest

from tests.support.processes import alive
from tests.support.stack import ROOT, wait_until

SLEEPER = "import time; time.sleep(600)"
# Has a child in another session, which no signal to its group reaches.
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
# Like the product's processes: a thread watches the parent.
OURS = (
    "import signal, time; from chatsite.supervisor import child; child.leave_with_supervisor(); "
    "signal.signal(signal.SIGTERM, signal.SIG_IGN); print('ours up', flush=True); time.sleep(600)"
)


NAMES = (
    "import os, time; hush = sorted(n for n, v in os.environ.items() if v == 'hush'); "
    "print('has', hush, 'PATH' in os.environ, flush=True); time.sleep(600)"
)


class Run:
    def __init__(
        self,
        folder: Path,
        programs: dict[str, str],
        stop_seconds: float = 1.0,
        hang_seconds: float = 0.0,
    ) -> None:
        specs = [
            [name, stage, stop_seconds, [sys.executable, "-c", code]]
            for stage, (name, code) in enumerate(programs.items())
        ]
        self.lines: list[str] = []
        self.process = subprocess.Popen(
            [
                *(sys.executable, "-m", "tests.support.supervised"),
                *(str(folder), json.dumps(specs), str(hang_seconds)),
            ],
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
            lambda: sum(text in line for line in self.lines) >= times, f"{text} in {self.lines}", 60
        )

    def family(self) -> list[psutil.Process]:
        return psutil.Process(self.process.pid).children(recursive=True)

    def finish(self) -> int:
        code = self.process.wait(60)
        self._reader.join(60)
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


def test_m6_a_program_that_is_not_trusted_gets_no_secret(
    start: Callable[..., Run], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("CHATSITE_SECRET_KEY", "DATABASE_URL"):
        monkeypatch.setenv(name, "hush")
    run = start({"ours": NAMES, "untrusted": NAMES})
    run.shows("has ['CHATSITE_SECRET_KEY', 'DATABASE_URL'] True")
    run.shows("has [] True")


def test_it_kills_processes_that_ignore_sigterm(start: Callable[..., Run]) -> None:
    run = start({"stubborn": STUBBORN}, stop_seconds=0.3)
    run.shows("stubborn up")
    family = run.family()
    run.process.send_signal(signal.SIGINT)
    assert run.finish() == 0
    assert alive(family) == []
    run.shows("Process does not stop on SIGTERM; killing it name=stubborn")


def test_a_second_signal_hurries(start: Callable[..., Run]) -> None:
    run = start({"stubborn": STUBBORN}, stop_seconds=600)
    run.shows("stubborn up")
    run.process.send_signal(signal.SIGINT)
    run.shows("Stopping all processes signal=SIGINT")
    run.process.send_signal(signal.SIGINT)  # the same signal, delivered twice
    time.sleep(1)
    assert run.process.poll() is None
    run.process.send_signal(signal.SIGINT)
    assert run.finish() == 0


def beating(folder: Path, *, beats: bool = True, busy: bool = False) -> str:
    """Return a program that sends heartbeats, computes continuously as well, or does neither."""
    file = folder / "data" / "run" / "p.alive"
    step = f"open({str(file)!r}, 'w').close()" if beats else "pass"
    rest = "sum(range(200000))" if busy else "time.sleep(0.05)"
    return f"import time; print('p up', flush=True)\nwhile True: {step}; {rest}"


def beats_after(file: Path, seen: int) -> bool:
    return file.stat().st_mtime_ns > seen


def test_m8_a_hanging_process_is_killed_and_restarted(
    start: Callable[..., Run], tmp_path: Path
) -> None:
    run = start({"p": beating(tmp_path)}, hang_seconds=1.0)
    run.shows("p up")
    run.family()[0].suspend()
    run.shows("Process hangs; killing it name=p seconds=1")
    run.shows('Process ended; restarting it name=p reason="killed by SIGKILL after a hang"')
    run.shows("p up", times=2)


def test_m8_a_process_that_hangs_from_its_start_has_a_longer_timeout(
    start: Callable[..., Run], tmp_path: Path
) -> None:
    run = start({"p": beating(tmp_path, beats=False)}, hang_seconds=0.5)
    run.shows("after a hang")
    run.shows("p up", times=2)


def test_m8_a_process_busy_or_suspended_for_less_is_kept(
    start: Callable[..., Run], tmp_path: Path
) -> None:
    run = start({"p": beating(tmp_path, busy=True)}, hang_seconds=10.0)
    run.shows("p up")
    process, file = run.family()[0], tmp_path / "data" / "run" / "p.alive"
    for _ in range(2):
        process.suspend()
        time.sleep(2)  # far less than the limit, but more than the interval of heartbeats
        process.resume()
        wait_until(partial(beats_after, file, file.stat().st_mtime_ns), "it beats on")
    assert run.family() == [process]
    assert not any("killing" in line for line in run.lines)


def test_low_it_keeps_running_when_it_can_write_nothing(
    start: Callable[..., Run], tmp_path: Path
) -> None:
    """As on a full disk: here its directory is gone."""
    run = start({"hurt": HURT})
    run.shows("hurt up")
    shutil.rmtree(tmp_path / "data" / "run")
    run.family()[0].kill()
    run.shows("List of processes can't be written")
    run.shows("hurt up", times=2)
    run.process.terminate()
    assert run.finish() == 0


def test_it_restarts_dead_processes_and_logs_the_reason(start: Callable[..., Run]) -> None:
    run = start({"hurt": HURT})
    run.shows("hurt up")
    run.family()[0].kill()
    run.shows('Process ended; restarting it name=hurt reason="killed by SIGKILL" seconds=0.2')
    run.shows("hurt up", times=2)
    run.family()[0].kill()
    run.shows('reason="killed by SIGKILL" seconds=0.4')


def test_it_names_the_exit_code_and_a_missing_program(start: Callable[..., Run]) -> None:
    run = start({"failing": "raise SystemExit(3)"})
    run.shows('Process ended; restarting it name=failing reason="exit code 3"')


# Adopts a grandchild, then lets it end. Its parent exits by `_exit`: the interpreter's own exit
# would reap a child that has ended.
ADOPTING = """
import os, subprocess, sys, time
from chatsite.supervisor import leftovers

WAITS = [sys.executable, "-c", "input()"]
MIDDLE = (
    "import os, subprocess, sys\\n"
    "child = subprocess.Popen([sys.executable, '-c', 'input()'], stdout=subprocess.DEVNULL)\\n"
    "print(child.pid, flush=True); os._exit(0)"
)

def until(condition, what):
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, what
        time.sleep(0.01)

def parent(pid):
    try:
        with open(f"/proc/{pid}/stat") as file:
            return int(file.read().rpartition(")")[2].split()[1])
    except FileNotFoundError:
        return None

def has_ended(pid):
    flags = os.WEXITED | os.WNOHANG | os.WNOWAIT
    return os.waitid(os.P_PID, pid, flags) is not None

leftovers.adopt_orphans()
own = subprocess.Popen(WAITS, stdin=subprocess.PIPE)
read_end, write_end = os.pipe()
middle = subprocess.run(
    [sys.executable, "-c", MIDDLE], stdin=read_end, stdout=subprocess.PIPE, check=True
)
orphan = int(middle.stdout)
until(lambda: parent(orphan) == os.getpid(), "the grandchild is adopted")
"""


def run_script(code: str) -> None:
    """Run ``code`` in a separate process, so that pytest's process adopts nothing."""
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(sys.platform != "linux", reason="orphans are adopted on Linux")
def test_adopted_processes_that_end_are_reaped() -> None:
    run_script(
        ADOPTING
        + """
leftovers.reap_orphans(lambda: {own.pid})
assert parent(orphan) == os.getpid(), "a running process is left alone"
os.write(write_end, b"x\\n")
until(lambda: has_ended(orphan), "the grandchild ends")
leftovers.reap_orphans(lambda: {own.pid})
assert parent(orphan) is None, "it is still a zombie"
own.communicate(b"x")
assert own.returncode == 0
"""
    )


@pytest.mark.skipif(sys.platform != "linux", reason="orphans are adopted on Linux")
def test_adopted_processes_are_reaped_after_a_child_of_asyncio() -> None:
    """The kernel reports the oldest ended child, again and again until it is reaped."""
    run_script(
        ADOPTING
        + """
own.stdin.write(b"x\\n")
own.stdin.flush()
until(lambda: has_ended(own.pid), "our own child ends")
os.write(write_end, b"x\\n")
until(lambda: has_ended(orphan), "the grandchild ends")
leftovers.reap_orphans(lambda: {own.pid})
assert parent(orphan) is None, "it is still a zombie"
assert own.wait() == 0, "its exit code is gone"
"""
    )


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


def test_ready_is_logged_once(start: Callable[..., Run]) -> None:
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
    wait_until(lambda: not alive(family), "children have left", 60)


def test_the_next_start_ends_processes_of_a_killed_supervisor(start: Callable[..., Run]) -> None:
    first = start({"stubborn": STUBBORN})
    first.shows("stubborn up")
    family = first.family()
    first.process.kill()
    first.process.wait(60)
    second = start({"hurt": HURT})
    second.shows("hurt up")
    assert alive(family) == []
    second.shows("Stopping processes of an earlier start count=1")


def test_a_second_start_is_refused_with_the_holders_id(start: Callable[..., Run]) -> None:
    first = start({"hurt": HURT})
    first.shows("hurt up")
    second = start({"hurt": HURT})
    assert second.finish() == 1
    assert f"process {first.process.pid}" in " ".join(second.lines)
    assert len(alive(first.family())) == 1


def test_children_keep_running_without_a_reader_of_the_output(tmp_path: Path) -> None:
    """A pager that was quit, or one that blocks forever."""
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
        wait_until(lambda: count() >= 20_000, "work continues without a reader", 60)
        os.close(read_end)
        before = count()
        wait_until(lambda: count() > before + 5_000, "work continues when the reader is gone", 60)
    finally:
        run.terminate()
        run.wait(60)
