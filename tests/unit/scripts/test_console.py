from __future__ import annotations

import sys
from pathlib import Path

import pytest

from scripts.setup import console
from scripts.setup.console import LiveLine, Problem


@pytest.fixture(autouse=True)
def log(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "build" / "setup.log"
    monkeypatch.setattr(console, "LOG", path)
    return path


def test_a_terminal_has_one_line_that_changes(capsys: pytest.CaptureFixture[str]) -> None:
    line = LiveLine(terminal=True)
    line.show("1 of 3")
    line.show("2 of 3")
    line.close()
    line.close()
    assert capsys.readouterr().out == "\r\x1b[K    1 of 3\r\x1b[K    2 of 3\n"


def test_without_a_terminal_lines_are_printed_at_intervals(
    capsys: pytest.CaptureFixture[str],
) -> None:
    now = 0.0
    line = LiveLine(terminal=False, clock=lambda: now)
    for now in (0.0, 1.0, 14.9, 15.0, 20.0, 31.0):
        line.show(f"at {now:g}")
    line.close()
    assert capsys.readouterr().out == "    at 0\n    at 15\n    at 31\n"


def test_a_successful_command_prints_nothing(capsys: pytest.CaptureFixture[str], log: Path) -> None:
    seen: list[str] = []
    console.run(
        [sys.executable, "-c", "print('one'); print('two')"], problem="", on_line=seen.append
    )
    assert seen == ["one", "two"]
    assert capsys.readouterr().out == ""
    assert "one\ntwo\n" in log.read_text()


def test_a_failed_command_shows_its_last_lines_without_debug_lines(
    capsys: pytest.CaptureFixture[str],
) -> None:
    script = (
        "print('DEBUG noise'); print('DEBUG x.cpp: error: y'); print('it broke')\n"
        "raise SystemExit(3)"
    )
    with pytest.raises(Problem, match="Install it"):
        console.run([sys.executable, "-c", script], problem="Install it.")
    assert capsys.readouterr().out == "DEBUG x.cpp: error: y\nit broke\n"


def test_a_missing_command_is_named(tmp_path: Path) -> None:
    with pytest.raises(Problem, match="can't be started"):
        console.run([tmp_path / "none"], problem="Install it.")
