from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from django.db import Error, connection, transaction
from django.test import override_settings

from chatsite.audit import chain, drain, formats
from chatsite.audit.models import Chain, Event, EventTerms
from chatsite.audit.record import record
from chatsite.audit.spool import Spool
from tests.integration.audit.conftest import without_triggers

pytestmark = pytest.mark.django_db


def fill(count: int) -> None:
    for number in range(count):
        record(
            "share.opened",
            user=f"user{number}",
            address=f"10.0.0.{number % 250}",
            target=("share", str(number), f"题目 {number}"),
            count=number,
            ratio=number / 7,
            names=["a", "b"],
        )
    assert drain.drain()


def sql(statement: str, *values: str) -> None:
    with connection.cursor() as cursor:
        cursor.execute(statement, values)


def test_events_are_chained_in_the_order_of_recording(spool: Spool) -> None:
    fill(250)
    report = chain.verify()
    assert report.ok
    assert (report.events, report.first, report.last) == (250, 1, 250)
    first, second = Event.objects.order_by("sequence")[:2]
    assert first.previous == chain.START
    assert second.previous == first.hash
    assert [e.actor_name for e in Event.objects.order_by("sequence")[:3]] == [
        *("user0", "user1", "user2")
    ]


def test_the_hash_can_be_computed_from_an_exported_line(spool: Spool) -> None:
    fill(3)
    for event in Event.objects.all():
        line = json.loads(formats.as_json(event))
        digest = line.pop("hash")
        canonical = json.dumps(line, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
        assert hashlib.sha256(canonical.encode()).hexdigest() == digest == event.hash


def forged(sequence: int, previous: str) -> Event:
    """Return an event with a correct hash of its own."""
    event = Event(
        sequence=sequence, v=1, time=datetime.now(UTC), kind="auth.login", outcome="ok",
        actor_name="eve", previous=previous,
    )  # fmt: skip
    event.hash = hashlib.sha256(chain.canonical(formats.values(event))).hexdigest()
    return event


def shift(after: int) -> None:
    for event in Event.objects.filter(sequence__gt=after).order_by("-sequence"):
        Event.objects.filter(pk=event.pk).update(sequence=event.pk + 1)


def insert_between(after: int) -> None:
    """Insert a row, and renumber the rows behind it and the head."""
    shift(after)
    # Its own hash is right, and it follows the row before it: the next one gives it away.
    row = forged(after + 1, chain.START)
    row.save(force_insert=True)
    Chain.objects.update(sequence=31, seal=chain.seal(31, Chain.objects.get().hash))


def insert_behind() -> None:
    forged(31, Event.objects.get(sequence=30).hash).save(force_insert=True)


def insert_before() -> None:
    forged(0, chain.START).save(force_insert=True)


def swap(one: int, other: int) -> None:
    Event.objects.filter(pk=one).update(sequence=1000)
    Event.objects.filter(pk=other).update(sequence=one)
    Event.objects.filter(pk=1000).update(sequence=other)


@pytest.mark.parametrize(
    ("tamper", "what", "sequence"),
    [
        (lambda: sql("UPDATE audit_event SET actor_name = 'eve' WHERE sequence = 7"), "changed", 7),
        (lambda: sql("UPDATE audit_event SET details = '{}' WHERE sequence = 1"), "changed", 1),
        (lambda: sql("UPDATE audit_event SET details = '{' WHERE sequence = 9"), "changed", 9),
        (
            lambda: Event.objects.filter(sequence=30).update(time=datetime(2020, 1, 1, tzinfo=UTC)),
            "changed",
            30,
        ),
        (lambda: sql("DELETE FROM audit_event WHERE sequence = 12"), "removed", 12),
        (lambda: sql("DELETE FROM audit_event WHERE sequence <= 3"), "removed", 1),
        (lambda: sql("DELETE FROM audit_event WHERE sequence > 25"), "removed", 26),
        (lambda: insert_between(10), "inserted", 11),
        (insert_behind, "inserted", 31),
        (insert_before, "inserted", 0),
        (lambda: swap(14, 15), "inserted", 14),
    ],
)
def test_verify_finds_the_first_problem(
    spool: Spool, tamper: Callable[[], None], what: str, sequence: int
) -> None:
    fill(30)
    assert chain.verify().ok
    with without_triggers():
        tamper()
    problem = chain.verify().problem
    assert problem is not None
    assert (problem.what, problem.sequence) == (what, sequence)


def test_a_replaced_chain_lacks_the_seal(spool: Spool) -> None:
    """Somebody with the database can compute all hashes, but does not know the secret key."""
    fill(5)
    with without_triggers():
        sql("DELETE FROM audit_event WHERE sequence = 5")
        row = forged(5, Event.objects.get(sequence=4).hash)
        row.save(force_insert=True)
        Chain.objects.update(hash=row.hash)
    problem = chain.verify().problem
    assert problem is not None
    assert problem.what == "seal"
    # A later event seals the head again, but an event tells.
    record("auth.login", user="ann")
    drain.drain()
    assert chain.verify().ok
    assert Event.objects.get(kind="audit.seal_mismatch").sequence == 6


def test_another_secret_key_is_reported(spool: Spool) -> None:
    fill(2)
    with override_settings(SECRET_KEY="x" * 50):
        problem = chain.verify().problem
    assert problem is not None
    assert problem.what == "seal"


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE audit_event SET actor_name = 'eve' WHERE sequence = 2",
        "UPDATE audit_event SET sequence = 9 WHERE sequence = 2",
        "DELETE FROM audit_event WHERE sequence = 2",
        "DELETE FROM audit_event",
        "DELETE FROM audit_chain",
        "UPDATE audit_chain SET sequence = 1",
        "UPDATE audit_chain SET pruned_sequence = 50",
    ],
)
def test_the_database_refuses_changes(spool: Spool, statement: str) -> None:
    fill(3)
    with pytest.raises(Error), transaction.atomic():
        sql(statement)
    assert chain.verify().ok


def test_the_database_refuses_to_replace_or_truncate(spool: Spool) -> None:
    fill(3)
    statement = (
        "TRUNCATE audit_event"
        if connection.vendor == "postgresql"
        else "INSERT OR REPLACE INTO audit_event SELECT * FROM audit_event WHERE sequence = 2"
    )
    with pytest.raises(Error), transaction.atomic():
        sql(statement)
    assert chain.verify().ok


def test_the_orm_cannot_change_events(spool: Spool) -> None:
    fill(2)
    event = Event.objects.first()
    assert event is not None
    event.actor_name = "eve"
    with pytest.raises(Error), transaction.atomic():
        event.save()
    with pytest.raises(Error), transaction.atomic():
        event.delete()


def test_the_rest_is_verified_after_pruning(spool: Spool) -> None:
    fill(20)
    anchor = Event.objects.get(sequence=12)
    assert chain.prune(anchor.time) == 11
    report = chain.verify()
    assert report.ok
    assert (report.events, report.first, report.last, report.pruned) == (9, 12, 20, 11)
    assert EventTerms.objects.count() == 9
    with without_triggers():
        sql("DELETE FROM audit_event WHERE sequence = 12")
    problem = chain.verify().problem
    assert problem is not None
    assert (problem.what, problem.sequence) == ("removed", 12)


def test_pruning_everything_keeps_the_chain(spool: Spool) -> None:
    fill(4)
    assert chain.prune(datetime.now(UTC) + timedelta(days=1)) == 4
    assert chain.prune(datetime.now(UTC) + timedelta(days=1)) == 0
    fill(1)
    report = chain.verify()
    assert report.ok
    assert (report.first, report.last) == (5, 5)


def test_a_moved_anchor_lacks_the_seal(spool: Spool) -> None:
    """Deleting events by moving the anchor needs the secret key too."""
    fill(6)
    hash = Event.objects.get(sequence=3).hash
    sql("UPDATE audit_chain SET pruned_sequence = 3, pruned_hash = %s", hash)
    sql("DELETE FROM audit_event WHERE sequence <= 3")
    problem = chain.verify().problem
    assert problem is not None
    assert (problem.what, problem.sequence) == ("seal", 3)


def test_any_single_change_is_found(spool: Spool) -> None:
    """A property: whatever field of whatever event is changed, that event is reported."""
    fill(40)
    source = random.Random(5)
    names = [name for name in formats.NAMES if name not in {"sequence", "time", "v"}]
    for _attempt in range(40):
        event = Event.objects.get(sequence=source.randint(1, 40))
        name = source.choice(names)
        before = getattr(event, name)
        with without_triggers():
            Event.objects.filter(pk=event.pk).update(**{name: f"{before[:-1]}~"})
            problem = chain.verify().problem
            Event.objects.filter(pk=event.pk).update(**{name: before})
        assert problem is not None, name
        assert problem.sequence in {event.sequence, event.sequence + 1}, name
    assert chain.verify().ok
