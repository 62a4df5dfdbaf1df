"""Reports have all requests, counted or not, and hide figures of few users."""

from __future__ import annotations

from datetime import date, timedelta

import pytest
from django.contrib.auth.models import Group

from chatsite.accounts import keys
from chatsite.accounts.models import User
from chatsite.conversations.models import Via
from chatsite.site_settings import save
from chatsite.usage import organization, report, rollup
from chatsite.usage.models import HourCell, LabelKind
from chatsite.usage.report import Filter, Line, NotReported, Period
from tests.integration.usage.conftest import NOON, Make

DAY = NOON.date()
WEEK = Period(DAY - timedelta(days=6), DAY)


@pytest.fixture
def fives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(organization, "min_group", lambda: 5)


def names(lines: list[Line]) -> dict[str, int | None]:
    """Return the requests of each line by name, None if hidden."""
    return {line.name: line.figures.requests if line.figures else None for line in lines}


@pytest.mark.parametrize("counted", [0, 3, 6])
def test_a_report_is_the_same_before_during_and_after_the_roll_up(
    alice: User, bob: User, make: Make, counted: int
) -> None:
    sales, staff = (Group.objects.create(name=name) for name in ("sales", "staff"))
    alice.groups.set([sales, staff])
    key, _text = keys.create(bob, name="script")
    make()
    make(model="big:latest", state="failed", error={"code": "engine_failed"})
    make(bob, via=Via.API, api_key=key, at=NOON - timedelta(days=2))
    make(bob, via=Via.OLLAMA, api_key=key, at=NOON - timedelta(days=2))
    make(at=NOON - timedelta(days=7))
    make(at=NOON - timedelta(days=14))
    rollup.count_ended(counted)
    found = report.build(WEEK)
    figures = found.total.figures
    assert figures is not None
    assert (figures.requests, figures.failed, found.total.users) == (4, 1, 2)
    assert figures.errors == {"engine_failed": 1}
    assert found.before.figures is not None
    assert found.before.figures.requests == 1
    assert names(found.tables["model"]) == {"tiny:latest": 3, "big:latest": 1}
    assert names(found.tables["door"]) == {"Chat": 2, "OpenAI API": 1, "Ollama API": 1}
    if counted == 6:
        assert names(found.tables["user"]) == {"alice": 2, "bob": 2}
        assert names(found.tables["group"]) == {"sales": 2, "staff": 2, "": 2}
    assert [point.figures.requests if point.figures else None for point in found.points] == [
        *(0, 0, 0, 0, 2, 0, 2),
    ]
    of_sales = report.build(WEEK, Filter(group=str(sales.pk)))
    assert of_sales.total.figures is not None
    assert of_sales.total.figures.requests == 2
    assert names(of_sales.tables["model"]) == {"tiny:latest": 1, "big:latest": 1}
    assert "group" not in of_sales.tables
    of_bob = report.build(WEEK, Filter(user=str(bob.pk), door="ollama"))
    assert of_bob.total.figures is not None
    assert of_bob.total.figures.requests == 1
    found.add_percentiles("user", found.tables["user"])
    for line in found.tables["user"]:
        assert line.figures is not None
        assert line.figures.percentile("ttft", 0.5) == pytest.approx(500, rel=0.05)
    own = report.own(bob.pk, WEEK)
    assert own.total.requests == 2
    keyed = names(own.keys)
    assert sum(count or 0 for count in keyed.values()) == 2


def test_today_is_shown_by_hour(make: Make) -> None:
    make()
    rollup.count_ended()
    make(at=NOON + timedelta(hours=1))
    points = report.build(Period(DAY, DAY)).points
    assert len(points) == 24
    busy = {point.at.hour: point.figures.requests for point in points if point.figures}
    assert {hour: count for hour, count in busy.items() if count} == {12: 1, 13: 1}


def test_days_are_shown_where_hours_are_not_kept(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    make()
    monkeypatch.setattr(rollup, "HOURS_KEPT", timedelta(days=1))
    rollup.count_ended()
    assert not HourCell.objects.exists(), "they would be deleted again"
    (point,) = report.build(Period(DAY, DAY)).points
    assert point.figures is not None
    assert point.figures.requests == 1


def test_figures_of_few_users_are_hidden_with_what_would_reveal_them(
    make: Make, fives: None
) -> None:
    team = [User.objects.create_user(f"user{n}", password="x") for n in range(7)]
    for user in team:
        make(user)
        make(user, model="big:latest")
    make(team[0], model="secret:latest")
    found = report.build(WEEK)
    assert found.total.users == 7
    assert "user" not in found.tables
    shown = names(found.tables["model"])
    assert shown["secret:latest"] is None
    assert sorted(count is None for count in shown.values()) == [False, True, True]
    with pytest.raises(NotReported):
        report.build(WEEK, Filter(user=str(team[0].pk)))
    with pytest.raises(NotReported):
        report.build(WEEK, Filter(model="secret:latest"))


def test_nothing_is_shown_of_too_few_users_in_all(make: Make, fives: None) -> None:
    make()
    found = report.build(WEEK)
    assert found.total.figures is None
    assert found.total.users is None
    assert not any(found.tables.values())
    assert not any(point.figures and point.figures.requests for point in found.points)


def test_single_users_can_be_left_out_of_reports(make: Make, alice: User) -> None:
    make()
    try:
        save.save({"usage_per_user": False})
        assert "user" not in report.build(WEEK).tables
        with pytest.raises(NotReported):
            report.build(WEEK, Filter(user=str(alice.pk)))
    finally:
        save.save({"usage_per_user": True})
    assert "user" in report.build(WEEK).tables


def test_the_time_zone_is_a_setting(make: Make) -> None:
    make(at=NOON + timedelta(hours=5))  # 01:00 on the next day in Shanghai
    try:
        save.save({"time_zone": "Asia/Shanghai"})
        found = report.build(Period(DAY + timedelta(days=1), DAY + timedelta(days=1)))
        assert found.total.figures is not None
        assert found.total.figures.requests == 1
    finally:
        save.save({"time_zone": "UTC"})


def test_too_many_uncounted_requests_are_said(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "LIVE_MOST", 2)
    for _ in range(5):
        make()
    found = report.build(WEEK)
    assert found.uncounted == 3
    rollup.count_ended()
    assert report.build(WEEK).uncounted == 0


def test_names_outlive_their_owners(alice: User, make: Make) -> None:
    make()
    pk = str(alice.pk)
    alice.delete()
    assert report.label(LabelKind.USER, pk) == "alice"
    assert names(report.build(WEEK).tables["user"]) == {"alice": 1}


@pytest.mark.django_db
def test_an_empty_period_is_empty() -> None:
    found = report.build(Period(date(2000, 1, 1), date(2000, 1, 7)))
    assert found.empty
