"""Progress of a long installation, from the output of `uv --verbose`."""

from __future__ import annotations

import re

_NINJA = re.compile(r"^DEBUG \[\s*(\d+)/(\d+)\] ")
_MAKE = re.compile(r"^DEBUG \[\s*(\d+)%\] ")
_PHASES = (
    ("DEBUG Downloading source distribution: ", "Downloading the source of {0}"),
    ("DEBUG *** Configuring CMake", "Configuring the build of llama.cpp"),
    ("DEBUG *** Installing project", "Packing llama.cpp"),
)


def spell(seconds: float) -> str:
    """Return a duration as text, such as "1 min 12 s"."""
    minutes, rest = divmod(int(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


class CompileProgress:
    """The progress, fed line by line with the time in seconds; it has no clock."""

    def __init__(self) -> None:
        self._began: float | None = None

    def feed(self, line: str, now: float) -> str | None:
        """Return the text to show, or None if ``line`` brings no news."""
        if found := _NINJA.match(line):
            return self._compiling(f"{found[1]} of {found[2]}", now)
        if found := _MAKE.match(line):
            return self._compiling(f"{found[1]} %", now)
        for start, text in _PHASES:
            if line.startswith(start):
                return text.format(line[len(start) :])
        return None

    def _compiling(self, amount: str, now: float) -> str:
        if self._began is None:
            self._began = now
        return f"Compiling llama.cpp: {amount} ({spell(now - self._began)})"
