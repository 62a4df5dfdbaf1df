"""Reserving, settling and showing quotas."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib.auth.models import Group
from django.db import DatabaseError
from django.utils import timezone

from chatsite.accounts.models import User
from chatsite.policy import quotas, snapshot
from chatsite.policy.models import Consumption, Quota, Reservation, Revision
from chatsite.policy.quotas import Estimate, QuotaExceeded, QuotaReserved

pytestmark = pytest.mark.django_db

SMALL = Estimate(most=100, least=10)


@pytest.fixture
def alice() -> User:
    return User.objects.create_user("alice", password="x")


@pytest.fixture
def bob() -> User:
    return User.objects.create_user("bob", password="x")


def _quota(unit: str, amount: int, **fields: Any) -> Quota:
    return Quota.objects.create(unit=unit, amount=amount, **{"period": "day", **fields})


def _row(quota: Quota) -> tuple[int, int]:
    found = Consumption.objects.get(quota=quota)
    return found.used, found.reserved


def test_without_quotas_nothing_is_written(alice: User, django_assert_num_queries: Any) -> None:
    snapshot.current()
    with django_assert_num_queries(0):
        assert quotas.reserve(uuid.uuid4(), alice.pk, SMALL) is None
        assert quotas.states(alice) == []
    assert not Reservation.objects.exists()


def test_a_reservation_becomes_what_was_used(alice: User) -> None:
    tokens, requests = _quota("tokens", 1000), _quota("requests", 3)
    id = uuid.uuid4()
    assert quotas.reserve(id, alice.pk, SMALL) == 100
    assert (_row(tokens), _row(requests)) == ((0, 100), (0, 1))
    assert quotas.reserve(id, alice.pk, SMALL) == 100  # idempotent
    assert _row(tokens) == (0, 100)
    quotas.settle(id, 42)
    quotas.settle(id, 42)
    assert (_row(tokens), _row(requests)) == ((42, 0), (1, 0))
    assert not Reservation.objects.exists()


def test_a_request_that_took_nothing_costs_nothing(alice: User) -> None:
    tokens, requests = _quota("tokens", 1000), _quota("requests", 3)
    id = uuid.uuid4()
    quotas.reserve(id, alice.pk, SMALL)
    quotas.settle(id, 0)
    assert (_row(tokens), _row(requests)) == ((0, 0), (0, 0))


def test_all_quotas_must_hold(alice: User) -> None:
    large, small = _quota("tokens", 10_000, period="month"), _quota("tokens", 120)
    assert quotas.reserve(uuid.uuid4(), alice.pk, SMALL) == 100
    with pytest.raises(QuotaReserved):
        quotas.reserve(uuid.uuid4(), alice.pk, Estimate(100, 30))
    # A refusal reserves nothing of the others either.
    assert (_row(large), _row(small)) == ((0, 100), (0, 100))


def test_the_last_request_gets_what_is_left_as_its_budget(alice: User) -> None:
    tokens = _quota("tokens", 130)
    first = uuid.uuid4()
    quotas.reserve(first, alice.pk, SMALL)
    assert quotas.reserve(uuid.uuid4(), alice.pk, SMALL) == 30
    assert _row(tokens) == (0, 130)
    with pytest.raises(QuotaReserved) as refusal:
        quotas.reserve(uuid.uuid4(), alice.pk, SMALL)
    assert refusal.value.details["retry_after"] == 5
    quotas.settle(first, 20)
    assert quotas.reserve(uuid.uuid4(), alice.pk, SMALL) == 80


def test_an_embedding_request_is_not_cut(alice: User) -> None:
    _quota("tokens", 99)
    with pytest.raises(QuotaExceeded):
        quotas.reserve(uuid.uuid4(), alice.pk, Estimate(100, 100, divisible=False))


def test_a_refusal_tells_when_the_quota_renews(alice: User, monkeypatch: Any) -> None:
    noon = datetime(2026, 5, 20, 12, 0, 30, tzinfo=UTC)
    monkeypatch.setattr(timezone, "now", lambda: noon)
    _quota("requests", 1, period="hour")
    used = uuid.uuid4()
    quotas.reserve(used, alice.pk, SMALL)
    quotas.settle(used, 5)
    with pytest.raises(QuotaExceeded) as refusal:
        quotas.reserve(uuid.uuid4(), alice.pk, SMALL)
    error = refusal.value
    assert error.details["renews_at"] == "2026-05-20T13:00:00+00:00"
    assert error.details["retry_after"] == 3570
    assert str(error) == (
        "You have used your quota of 1 requests per hour. It renews at 2026-05-20 13:00 UTC."
    )
    # It is true: a moment before it still holds, at that moment it does not.
    monkeypatch.setattr(timezone, "now", lambda: noon + timedelta(seconds=3569))
    with pytest.raises(QuotaExceeded):
        quotas.reserve(uuid.uuid4(), alice.pk, SMALL)
    monkeypatch.setattr(timezone, "now", lambda: noon + timedelta(seconds=3570))
    quotas.reserve(uuid.uuid4(), alice.pk, SMALL)


def test_a_request_counts_in_the_window_of_its_admission(alice: User, monkeypatch: Any) -> None:
    quota = _quota("tokens", 1000, period="hour")
    late = datetime(2026, 5, 20, 12, 59, 59, tzinfo=UTC)
    monkeypatch.setattr(timezone, "now", lambda: late)
    id = uuid.uuid4()
    quotas.reserve(id, alice.pk, SMALL)
    monkeypatch.setattr(timezone, "now", lambda: late + timedelta(seconds=5))
    quotas.settle(id, 42)
    [state] = quotas.states(alice)
    assert (state.used, state.reserved, state.left) == (0, 0, 1000)
    assert _row(quota) == (42, 0)


def test_a_shared_quota_is_one_pot_and_others_are_one_each(alice: User, bob: User) -> None:
    group = Group.objects.create(name="research")
    for user in (alice, bob):
        user.groups.add(group)
    shared = _quota("tokens", 150, group=group, shared=True)
    quotas.reserve(uuid.uuid4(), alice.pk, SMALL)
    assert quotas.reserve(uuid.uuid4(), bob.pk, SMALL) == 50
    assert _row(shared) == (0, 150)
    shared.delete()
    each = _quota("tokens", 150, group=group)
    for user in (alice, bob):
        assert quotas.reserve(uuid.uuid4(), user.pk, SMALL) == 100
    assert Consumption.objects.filter(quota=each).count() == 2


def test_a_user_outside_the_group_has_no_quota(alice: User, bob: User) -> None:
    group = Group.objects.create(name="research")
    alice.groups.add(group)
    _quota("tokens", 5, group=group)
    assert quotas.reserve(uuid.uuid4(), bob.pk, SMALL) is None
    with pytest.raises(QuotaExceeded):
        quotas.reserve(uuid.uuid4(), alice.pk, SMALL)
    alice.groups.remove(group)
    assert quotas.reserve(uuid.uuid4(), alice.pk, SMALL) is None


def test_titles_are_charged_without_a_reservation(alice: User) -> None:
    tokens, requests = _quota("tokens", 100), _quota("requests", 1)
    quotas.charge(alice.pk, 30)
    assert _row(tokens) == (30, 0)
    assert not Consumption.objects.filter(quota=requests).exists()


def test_a_failing_database_lets_nothing_pass(alice: User, monkeypatch: Any) -> None:
    _quota("tokens", 1000)

    def fail(*args: Any, **kwargs: Any) -> Any:
        raise DatabaseError("down")

    monkeypatch.setattr(quotas, "locked_rows", fail)
    with pytest.raises(DatabaseError):
        quotas.reserve(uuid.uuid4(), alice.pk, SMALL)
    monkeypatch.setattr(Revision.objects, "filter", fail)
    snapshot.forget()
    with pytest.raises(DatabaseError):
        quotas.reserve(uuid.uuid4(), alice.pk, SMALL)


def test_old_windows_are_deleted(alice: User) -> None:
    quota = _quota("tokens", 1000)
    for days in (0, 40, 100):
        start = timezone.now() - timedelta(days=days)
        Consumption.objects.create(quota=quota, pot=alice.pk, start=start)
    quotas.delete_old()
    assert Consumption.objects.count() == 2
