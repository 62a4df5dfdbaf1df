"""Each ended generation is counted exactly once, into the period of its request."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from django.contrib.auth.models import Group
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from chatsite.accounts import keys
from chatsite.accounts.models import User
from chatsite.conversations.models import Conversation, Generation, Message, Via
from chatsite.retention.deletions import purge_deleted
from chatsite.usage import organization, rollup
from chatsite.usage.figures import Figures, of_cell, total
from chatsite.usage.models import DayCell, HourCell, Label, Scope
from tests.integration.usage.conftest import NOON, Make
from tests.support.races import at_once, on_postgresql


def day(scope: Scope = Scope.ALL, **which: object) -> Figures:
    return total(of_cell(cell) for cell in DayCell.objects.filter(scope=scope, **which))


def test_a_request_is_counted_for_all_for_its_user_and_for_each_group(
    alice: User, bob: User, make: Make
) -> None:
    both = [Group.objects.create(name=name) for name in ("sales", "staff")]
    alice.groups.set(both)
    key, _text = keys.create(bob, name="script")
    make()
    make(bob, via=Via.OLLAMA, api_key=key, state="failed", error={"code": "engine_failed"})
    assert rollup.count_ended() == 2
    assert (day().requests, day().tokens, day().cache_hits) == (2, 240, 2)
    assert day().errors == {"engine_failed": 1}
    assert day(Scope.USER, who=str(alice.pk)).done == 1
    assert [day(Scope.GROUP, who=str(group.pk)).requests for group in both] == [1, 1]
    of_key = DayCell.objects.get(scope=Scope.USER, key=str(key.pk))
    assert (of_key.door, of_key.failed) == ("ollama", 1)
    hours = HourCell.objects.filter(scope=Scope.ALL)
    assert {cell.start for cell in hours} == {NOON}
    assert {label.name for label in Label.objects.all()} == {
        *("alice", "bob", "sales", "staff"),
        f"script {key.prefix}…",
    }


def test_counting_again_changes_nothing(make: Make) -> None:
    make()
    rollup.count_ended()
    before = list(DayCell.objects.order_by("pk").values())
    assert rollup.count_ended() == 0
    assert list(DayCell.objects.order_by("pk").values()) == before


def test_open_requests_wait_and_late_rows_join_their_day(make: Make) -> None:
    late = make(state="running", timings={}, finished_at=None)
    make(at=NOON + timedelta(days=1))
    assert rollup.count_ended() == 1
    assert not DayCell.objects.filter(day=NOON.date()).exists()
    Generation.objects.filter(pk=late.pk).update(state="done")
    assert rollup.count_ended() == 1
    assert day(day=NOON.date()).requests == 1
    make()
    rollup.count_ended()
    assert day(day=NOON.date()).requests == 2


class Crash(Exception):
    pass


@pytest.mark.parametrize("where", ["_save_labels", "_save", "_chunks"])
def test_a_crash_at_any_step_counts_nothing_twice_and_loses_nothing(
    make: Make, monkeypatch: pytest.MonkeyPatch, where: str
) -> None:
    for number in range(7):
        make(at=NOON + timedelta(hours=5 * number))
    monkeypatch.setattr(rollup, "BATCH", 3)
    real, calls = getattr(rollup, where), 0

    def fail_now_and_then(*arguments: object) -> object:
        nonlocal calls
        calls += 1
        if calls in {1, 3, 7, 16}:
            raise Crash
        return real(*arguments)

    monkeypatch.setattr(rollup, where, fail_now_and_then)
    crashes = 0
    for _attempt in range(50):
        try:
            rollup.count_ended()
        except Crash:
            crashes += 1
        else:
            break
    assert crashes
    assert day().requests == 7
    assert total(of_cell(cell) for cell in HourCell.objects.filter(scope="all")).requests == 7
    assert not Generation.objects.uncounted().exists()


@on_postgresql
def test_several_at_once_count_each_request_once(
    make: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(rollup, "BATCH", 5)
    for number in range(40):
        make(at=NOON + timedelta(minutes=number))
    counted = at_once(3, lambda _number: rollup.count_ended())
    assert sum(one for one in counted if isinstance(one, int)) == 40, counted
    assert day().requests == 40


def test_groups_are_those_of_the_day_of_use(alice: User, make: Make) -> None:
    sales, staff = (Group.objects.create(name=name) for name in ("sales", "staff"))
    alice.groups.set([sales])
    make()
    rollup.count_ended()
    alice.groups.set([staff])
    make()
    make(at=NOON + timedelta(days=1))
    rollup.count_ended()
    by_day = DayCell.objects.filter(scope=Scope.GROUP).values_list("day", "who", "done")
    assert set(by_day) == {
        (NOON.date(), str(sales.pk), 2),
        (NOON.date() + timedelta(days=1), str(staff.pk), 1),
    }


def test_statistics_survive_conversations_keys_and_users(alice: User, make: Make) -> None:
    key, _text = keys.create(alice, name="script")
    conversation = Conversation.objects.create(owner=alice)
    message = Message.objects.create(conversation=conversation, role="assistant")
    make(message=message)
    make(api_key=key, via=Via.API)
    conversation.deleted_at = NOON
    conversation.save()
    purge_deleted()
    assert not Message.objects.exists()
    key.delete()
    make()
    pk = str(alice.pk)
    running = make(state="running")
    alice.delete()
    assert day(Scope.USER, who=pk).requests == 3
    # What still ran is counted without its user.
    Generation.objects.filter(pk=running.pk).update(state="done")
    rollup.count_ended()
    assert day().requests == 4
    assert day(Scope.USER).requests == 3
    names = set(Label.objects.values_list("name", flat=True))
    assert names == {"alice", f"script {key.prefix}…"}


@pytest.mark.parametrize(
    ("name", "date_of_change", "hours"),
    [
        ("Europe/Berlin", date(2026, 3, 29), 23),
        ("Europe/Berlin", date(2026, 10, 25), 25),
        ("Asia/Kolkata", date(2026, 6, 10), 24),
    ],
)
def test_a_day_has_the_hours_of_its_time_zone(
    make: Make, monkeypatch: pytest.MonkeyPatch, name: str, date_of_change: date, hours: int
) -> None:
    monkeypatch.setattr(organization, "zone", lambda: ZoneInfo(name))
    begin = organization.start_of(date_of_change).astimezone(UTC)
    end = organization.start_of(date_of_change + timedelta(days=1)).astimezone(UTC)
    at = begin - timedelta(minutes=30)
    while at < end + timedelta(minutes=30):
        make(at=at)
        at += timedelta(minutes=30)
    rollup.count_ended()
    assert day(day=date_of_change).requests == 2 * hours
    of_day = HourCell.objects.filter(scope=Scope.ALL, start__gte=begin, start__lt=end)
    assert [cell.done for cell in of_day] == [2] * hours
    assert day().requests == 2 * hours + 2


def test_old_hours_are_deleted_and_days_remain(make: Make) -> None:
    make()
    rollup.count_ended()
    assert rollup.clean(NOON + rollup.HOURS_KEPT) == 0
    assert rollup.clean(NOON + rollup.HOURS_KEPT + timedelta(hours=1)) == 3
    assert not HourCell.objects.exists()
    assert day().requests == 1


def test_nothing_new_costs_one_query(make: Make) -> None:
    make()
    rollup.count_ended()
    with CaptureQueriesContext(connection) as queries:
        rollup.count_ended()
    assert len(queries) == 1


@pytest.mark.django_db
def test_partial_indexes_are_used_with_bound_parameters() -> None:
    """A captured query has its parameters as literals, which SQLite would plan differently."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SET LOCAL enable_seqscan = off")  # the table is too small for an index
    now = timezone.now()
    uncounted, opened = Generation.objects.uncounted(), Generation.objects.open()
    recent = uncounted.filter(queued_at__gte=now - timedelta(days=30), queued_at__lt=now)
    for found in (uncounted, uncounted.order_by("queued_at")[:10], recent.order_by("queued_at")):
        assert "generation_uncounted" in found.explain()
    for found in (opened, opened.filter(queued_at__lt=now)):
        assert "generation_open" in found.explain()


def test_rows_without_figures_are_counted(make: Make) -> None:
    make(
        state="interrupted",
        prompt_tokens=None,
        cached_tokens=None,
        completion_tokens=None,
        timings={},
        at=datetime(2026, 1, 1, tzinfo=UTC),
    )
    rollup.count_ended()
    assert (day().interrupted, day().tokens) == (1, 0)
