"""`manage.py usage`."""

from __future__ import annotations

import csv
import io
import json

import pytest
from django.core.management import CommandError, call_command
from django.utils import timezone

from chatsite.accounts.models import User
from chatsite.site_settings import save
from tests.integration.usage.conftest import NOON, Make


def run(*arguments: str) -> str:
    out = io.StringIO()
    call_command("usage", *arguments, stdout=out)
    return out.getvalue()


def test_the_report_in_all_forms(alice: User, bob: User, make: Make) -> None:
    make(at=NOON)
    make(bob, at=NOON, model="big:latest", state="failed", error={"code": "engine_failed"})
    dates = ("--from", "2026-06-01", "--to", "2026-06-30")
    lines = run("report", *dates).splitlines()
    assert lines[0].split()[:3] == ["model", "users", "requests"]
    assert {line.split()[0] for line in lines[1:]} == {"tiny:latest", "big:latest"}
    rows = list(csv.DictReader(io.StringIO(run("report", "--by", "user", *dates, "--csv"))))
    assert {(row["user"], row["requests"]) for row in rows} == {("alice", "1"), ("bob", "1")}
    found = json.loads(run("report", "--by", "door", *dates, "--json"))
    assert found["total"]["requests"] == 2
    assert found["total"]["errors"] == 0.5
    assert found["lines"][0]["ttft_p50"] == pytest.approx(500, rel=0.05)
    assert run("report", "--from", "2001-01-01", "--to", "2001-01-02") == (
        "No usage in this period.\n"
    )
    assert run("roll-up") == "2 requests counted.\n"
    assert json.loads(run("report", "--by", "group", *dates, "--json"))["lines"][0]["name"] == (
        "(without a group)"
    )


@pytest.mark.django_db
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--from", "yesterday"), "year-month-day"),
        (("--from", "2026-02-02", "--to", "2026-02-01"), "Swap"),
        (("--to", "soon"), "year-month-day"),
        (("--by", "planet"), "invalid choice"),
    ],
)
def test_bad_arguments_are_explained(arguments: tuple[str, ...], message: str) -> None:
    with pytest.raises(CommandError, match=message):
        run("report", *arguments)


def test_the_smallest_group_applies(make: Make) -> None:
    make(at=timezone.now())
    try:
        save.save({"usage_min_group": 5})
        assert "Fewer than 5 users" in run("report")
        with pytest.raises(CommandError, match="not reported"):
            run("report", "--by", "user")
    finally:
        save.save({"usage_min_group": 1})
