"""Checks that run concurrently."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from scripts.setup.checks import Check, run_side_by_side


def python(code: str) -> list[str]:
    return [sys.executable, "-c", code]


def test_checks_run_concurrently_up_to_the_limit(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    """Two checks that wait for each other end only if they run concurrently."""
    one, two = tmp_path / "one", tmp_path / "two"
    meet = (
        "import pathlib, sys, time\n"
        "pathlib.Path(sys.argv[1]).touch()\n"
        "while not pathlib.Path(sys.argv[2]).exists(): time.sleep(0.01)"
    )
    run_side_by_side(
        [
            Check("first", [*python(meet), one, two]),
            Check("second", [*python(meet), two, one]),
            Check("third", python("")),
        ],
        places=2,
    )
    began = capfdbinary.readouterr().out.decode()
    assert began.index("first: started") < began.index("third: started")


def test_all_run_and_those_that_failed_are_named(capfdbinary: pytest.CaptureFixture[bytes]) -> None:
    checks = [
        Check("bad", python("raise SystemExit('the reason')")),
        Check("good", python("print('the output of it')")),
        Check("empty", python("raise SystemExit(5)")),
        Check("nothing selected", python("raise SystemExit(5)"), selects=True),
    ]
    with pytest.raises(SystemExit, match=r"^\nFailed: bad, empty\.$"):
        run_side_by_side(checks, places=1)
    output = capfdbinary.readouterr().out.decode()
    assert "the reason" in output
    assert "==> good\nthe output of it\n" in output


def test_what_failed_is_repeated_alone(
    tmp_path: Path, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    bad = python("raise SystemExit(1)")
    checks = [
        Check("passes alone", bad, repeat=python("print('repeated')")),
        Check("fails alone too", bad, repeat=bad),
        Check("good", python(""), repeat=[sys.executable, tmp_path / "never run"]),
    ]
    with pytest.raises(SystemExit, match=r"^\nFailed: fails alone too\.$"):
        run_side_by_side(checks)
    output = capfdbinary.readouterr().out.decode()
    assert output.count("repeated\n") == 1
    assert "Flaky: passes alone: what failed passed alone." in output
    assert "passes alone: exit status 1" in output
    assert "never run" not in output
