from __future__ import annotations

from pathlib import Path

import pytest

from scripts.setup.compile_progress import CompileProgress, spell

RECORDED = Path(__file__).with_name("uv_verbose.txt").read_text().splitlines()


def test_it_follows_a_recorded_install() -> None:
    progress = CompileProgress()
    shown = [
        text for second, line in enumerate(RECORDED) if (text := progress.feed(line, second * 12))
    ]
    assert shown == [
        "Downloading the source of llama-cpp-python==0.3.36",
        "Configuring the build of llama.cpp",
        "Compiling llama.cpp: 1 of 193 (0 s)",
        "Compiling llama.cpp: 15 of 193 (12 s)",
        "Compiling llama.cpp: 32 of 193 (36 s)",
        "Compiling llama.cpp: 193 of 193 (48 s)",
        "Packing llama.cpp",
    ]


def test_it_reads_make_as_well() -> None:
    line = "DEBUG [ 42%] Building CXX object ggml/src/ggml.cpp.o"
    assert CompileProgress().feed(line, 0) == "Compiling llama.cpp: 42 % (0 s)"


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (59.9, "59 s"), (60, "1 min 0 s"), (72, "1 min 12 s")]
)
def test_durations_are_readable(seconds: float, text: str) -> None:
    assert spell(seconds) == text
