"""Console output of set-up: a line per step, a live line for a long one, and errors."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from scripts.setup.paths import LOG, ROOT

_QUIET_SECONDS = 15.0
_TAIL_LINES = 25


class Problem(SystemExit):
    """Ends set-up with a message that says what to do."""

    def __init__(self, message: str) -> None:
        super().__init__(f"\nSet-up failed: {message}")


def step(text: str) -> None:
    print(f"==> {text}", flush=True)


class LiveLine:
    """A line that changes: rewritten in place on a terminal.

    Without a terminal, a line is printed at most every ``_QUIET_SECONDS``.
    """

    def __init__(self, *, terminal: bool, clock: Callable[[], float] = time.monotonic) -> None:
        self._terminal = terminal
        self._clock = clock
        self._shown_at: float | None = None
        self._open = False

    def show(self, text: str) -> None:
        now = self._clock()
        if self._terminal:
            sys.stdout.write(f"\r\x1b[K    {text}")
            self._open = True
        elif self._shown_at is None or now - self._shown_at >= _QUIET_SECONDS:
            sys.stdout.write(f"    {text}\n")
            self._shown_at = now
        sys.stdout.flush()

    def close(self) -> None:
        if self._open:
            sys.stdout.write("\n")
            sys.stdout.flush()
            self._open = False


def run(
    command: Sequence[str | Path],
    *,
    problem: str,
    env: Mapping[str, str] | None = None,
    cwd: Path = ROOT,
    on_line: Callable[[str], None] | None = None,
) -> None:
    """Run a command with its output in the log file; print the end of it if the command fails.

    ``env`` is added to this process's environment. ``on_line`` is called with each line. Raises
    `Problem` with ``problem``.
    """
    LOG.parent.mkdir(exist_ok=True)
    tail: list[str] = []
    with LOG.open("a", encoding="utf-8") as log:
        log.write(f"\n$ {' '.join(map(str, command))}\n")
        try:
            process = subprocess.Popen(
                [str(word) for word in command],
                cwd=cwd,
                env={**os.environ, **(env or {})},
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                encoding="utf-8",
                errors="replace",
            )
        except OSError as error:
            raise Problem(f"{command[0]} can't be started ({error.strerror}). {problem}") from None
        with process:
            for line in process.stdout or ():
                log.write(line)
                if on_line:
                    on_line(line.rstrip("\n"))
                if not line.startswith(("DEBUG", "TRACE")) or "error" in line.lower():
                    tail = [*tail[1 - _TAIL_LINES :], line]
    if process.returncode != 0:
        sys.stdout.write("".join(tail))
        raise Problem(f"{problem}\nAll output is in {LOG}.")
