"""The progress of a job on one line of a terminal; no output if stderr is not one."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable
from typing import Final

from chatsite.sizes import file_size
from models_admin.jobs.progress import Progress, Speed

_BAR: Final = 24
_SHOWN_SECONDS: Final = 0.2


class ProgressLine:
    def __init__(self) -> None:
        self._open = False

    def __call__(self, progress: Progress) -> None:
        if not progress.total:
            self.say(progress.stage)
            return
        filled = progress.done * _BAR // progress.total
        parts = [
            f"{progress.stage:10} [{'#' * filled}{'.' * (_BAR - filled)}]",
            f"{progress.done * 100 // progress.total:3} % of {file_size(progress.total)}",
        ]
        if progress.speed:
            parts.append(f"{file_size(int(progress.speed))}/s")
        if progress.left is not None:
            minutes, seconds = divmod(round(progress.left), 60)
            parts.append(f"{minutes}:{seconds:02} left")
        self.say("  ".join(parts))

    def counter(self, stage: str) -> Callable[[int, int], None]:
        """Return a callback for work in this process that reports bytes done and in total."""
        speed, shown = Speed(), 0.0

        def count(done: int, total: int) -> None:
            nonlocal shown
            now = time.monotonic()
            if done < total and now - shown < _SHOWN_SECONDS:
                return
            shown = now
            rate = speed.at(done, now)
            self(Progress(stage, done, total, rate, (total - done) / rate if rate else None))

        return count

    def say(self, text: str) -> None:
        if sys.stderr.isatty():
            width = shutil.get_terminal_size().columns - 1
            sys.stderr.write(f"\r{text[:width]:{width}}")
            sys.stderr.flush()
            self._open = True

    def end(self) -> None:
        """Move the cursor to a new line."""
        if self._open:
            sys.stderr.write("\n")
            self._open = False
