"""How far a job is, on one line of a terminal; nothing where there is no terminal."""

from __future__ import annotations

import shutil
import sys
from typing import Final

from django.template.defaultfilters import filesizeformat

from models_admin.jobs.progress import Progress

_BAR: Final = 24


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
            f"{progress.done * 100 // progress.total:3} % of {filesizeformat(progress.total)}",
        ]
        if progress.speed:
            parts.append(f"{filesizeformat(int(progress.speed))}/s")
        if progress.left is not None:
            minutes, seconds = divmod(round(progress.left), 60)
            parts.append(f"{minutes}:{seconds:02} left")
        self.say("  ".join(parts))

    def say(self, text: str) -> None:
        if sys.stderr.isatty():
            width = shutil.get_terminal_size().columns - 1
            sys.stderr.write(f"\r{text[:width]:{width}}")
            sys.stderr.flush()
            self._open = True

    def end(self) -> None:
        """The cursor on a line of its own again."""
        if self._open:
            sys.stderr.write("\n")
            self._open = False
