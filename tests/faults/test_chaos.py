"""A short chaos run with a fixed seed: no answer is lost, duplicated or wrong. See `chaos.py`."""

from __future__ import annotations

from pathlib import Path

from tests.faults import chaos


def test_nothing_is_lost_or_false_while_everything_fails(starter_model: Path) -> None:
    report = chaos.run(seconds=75, seed=20, model=starter_model, longest_stop=8)
    print(report.table())
    assert report.violations == []
    assert len(report.faults) >= 3
    assert report.outcomes["page answer: done"] > 0
    assert report.outcomes["api answer: whole"] > 0
