"""The hash chain: appending events, checking them, and deleting old ones behind an anchor.

The hash of an event is the SHA-256 of its canonical JSON: all fields but ``hash`` itself, names
sorted, no blanks, UTF-8. It includes the hash of the event before it, so an event can't be
changed, removed, inserted or moved without breaking the chain.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final, Literal

import msgspec
from django.db import connection, transaction
from django.utils.crypto import salted_hmac

from chatsite.audit import search_terms
from chatsite.audit.models import Chain, Event, EventTerms
from chatsite.audit.record import Recorded, event

START: Final = "0" * 64
_SALT: Final = "chatsite.audit.chain"
_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_FIELDS: Final = tuple(field.attname for field in Event._meta.concrete_fields)
_CHUNK: Final = 2000
_encode = msgspec.json.Encoder(order="sorted").encode


def canonical(row: Sequence[Any]) -> bytes:
    """Return the bytes that are hashed. ``row`` has the values of all fields of `Event`."""
    fields: dict[str, Any] = dict(zip(_FIELDS, row, strict=True))
    del fields["hash"]
    fields["time"] = iso(fields["time"])
    fields["details"] = msgspec.Raw(fields["details"].encode())
    return _encode(fields)


def iso(moment: datetime) -> str:
    """Return UTC with microseconds: 2026-01-31T12:00:00.000001Z."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def moment(microseconds: int) -> datetime:
    return _EPOCH + timedelta(microseconds=microseconds)


def head(*, lock: bool = False) -> Chain:
    """Return the row of the chain, created at its first use; ``lock`` it for the transaction."""
    rows = Chain.objects.select_for_update() if lock else Chain.objects
    found = rows.filter(pk=1).first()
    if found is None:
        first = Chain(pk=1, hash=START, pruned_hash=START)
        first.seal = first.pruned_seal = seal(0, START)
        Chain.objects.bulk_create([first], ignore_conflicts=True)
        found = rows.get(pk=1)
    return found


def seal(sequence: int, hash: str) -> str:
    """Return the HMAC of a place in the chain with the site's secret key."""
    return salted_hmac(_SALT, f"{sequence}:{hash}", algorithm="sha256").hexdigest()


def is_sealed(sequence: int, hash: str, given: str) -> bool:
    return hmac.compare_digest(seal(sequence, hash), given)


def append(recorded: Sequence[Recorded], chain: Chain) -> None:
    """Append events in this order. ``chain`` is locked by the caller's transaction.

    If head or anchor are not sealed with this site's key, an event says so first: sealing them
    again would hide that.
    """
    rows: list[Event] = []
    indexed: list[EventTerms] = []
    for one in (*_mismatches(chain), *recorded):
        values = msgspec.structs.asdict(one) | {
            "sequence": chain.sequence + 1,
            "time": moment(one.time),
            "details": _encode(one.details).decode(),
            "previous": chain.hash,
            "hash": "",
        }
        digest = hashlib.sha256(canonical([values[name] for name in _FIELDS])).hexdigest()
        row = Event(**{**values, "hash": digest})
        rows.append(row)
        indexed.append(EventTerms(sequence=row.sequence, terms=search_terms.of(row)))
        chain.sequence, chain.hash = row.sequence, digest
    Event.objects.bulk_create(rows)
    EventTerms.objects.bulk_create(indexed)
    chain.seal = seal(chain.sequence, chain.hash)
    chain.save(update_fields=["sequence", "hash", "seal", "pruned_seal"])


def _mismatches(chain: Chain) -> list[Recorded]:
    """Return an event for each place that is not sealed with this site's key."""
    found = []
    if not is_sealed(chain.pruned_sequence, chain.pruned_hash, chain.pruned_seal):
        found.append((chain.pruned_sequence, chain.pruned_hash))
        chain.pruned_seal = seal(chain.pruned_sequence, chain.pruned_hash)
    if not is_sealed(chain.sequence, chain.hash, chain.seal):
        found.append((chain.sequence, chain.hash))
    return [
        event(
            "audit.seal_mismatch",
            via="system",
            outcome="failed",
            details={"sequence": sequence, "hash": hash},
        )
        for sequence, hash in found
    ]


# Verification.


@dataclass(frozen=True)
class Problem:
    """The first thing that is wrong; ``sequence`` is the number of the event concerned."""

    what: Literal["changed", "removed", "inserted", "seal"]
    sequence: int
    text: str


@dataclass(frozen=True)
class Report:
    """The result of `verify`: the events from ``first`` to ``last`` were checked."""

    events: int
    first: int
    last: int
    hash: str
    pruned: int
    problem: Problem | None

    @property
    def ok(self) -> bool:
        return self.problem is None


def verify() -> Report:
    """Check the whole chain and return the first problem."""
    while True:
        chain = head()
        report = _verify(chain)
        # The retention job may have deleted events meanwhile.
        if report.ok or head().pruned_sequence == chain.pruned_sequence:
            return report


def _verify(chain: Chain) -> Report:
    expected, previous, count = chain.pruned_sequence, chain.pruned_hash, 0
    problem = None
    if not is_sealed(chain.pruned_sequence, chain.pruned_hash, chain.pruned_seal):
        problem = _unsealed(chain.pruned_sequence)
    else:
        for row in _rows(chain.sequence):
            expected += 1
            problem = _check(row, expected, previous)
            if problem:
                break
            previous, count = row[-1], count + 1
        else:
            problem = _check_end(chain, expected, previous)
    first = chain.pruned_sequence + 1
    return Report(count, first, first + count - 1, previous, chain.pruned_sequence, problem)


def _rows(last: int) -> Iterator[Sequence[Any]]:
    """Yield all events up to ``last`` in order, as values of `_FIELDS`."""
    after = -(2**63)
    while rows := list(
        Event.objects.filter(sequence__gt=after, sequence__lte=last)
        .order_by("sequence")
        .values_list(*_FIELDS)[:_CHUNK]
    ):
        yield from rows
        after = rows[-1][0]


def _check(row: Sequence[Any], expected: int, previous: str) -> Problem | None:
    sequence, stored_previous, stored = row[0], row[-2], row[-1]
    if sequence < expected:
        return Problem(
            "inserted", sequence, f"Event {sequence} was inserted before the start of the chain."
        )
    if sequence > expected:
        missing = (
            f"Event {expected} is"
            if sequence == expected + 1
            else (f"Events {expected} to {sequence - 1} are")
        )
        return Problem("removed", expected, f"{missing} missing: removed from the table.")
    try:
        intact = hashlib.sha256(canonical(row)).hexdigest() == stored
    except (ValueError, AttributeError, TypeError):  # a value of another type, on SQLite
        intact = False
    if stored_previous != previous:
        return Problem(
            "inserted",
            sequence,
            f"Event {sequence} does not follow the event before it: an event was inserted, "
            "replaced or moved here.",
        )
    if not intact:
        return Problem("changed", sequence, f"Event {sequence} was changed: its hash differs.")
    return None


def _check_end(chain: Chain, last: int, hash: str) -> Problem | None:
    # In this order: the head is written together with its events.
    newest = Event.objects.order_by("-sequence").values_list("sequence", flat=True).first() or 0
    now = head()
    if last < chain.sequence:
        return Problem(
            "removed",
            last + 1,
            f"Events {last + 1} to {chain.sequence} are missing: removed from the end.",
        )
    if hash != chain.hash:
        return Problem(
            "changed", last, f"Event {last} was replaced: its hash is not that of the head."
        )
    if newest > now.sequence:
        return Problem(
            "inserted",
            now.sequence + 1,
            f"Event {now.sequence + 1} was inserted behind the end of the chain.",
        )
    if not is_sealed(chain.sequence, chain.hash, chain.seal):
        return _unsealed(chain.sequence)
    return None


def _unsealed(sequence: int) -> Problem:
    return Problem(
        "seal",
        sequence,
        f"The seal of event {sequence} was not made with this site's secret key: the chain was "
        "replaced, or the secret key was changed.",
    )


# Retention.


def prune(before: datetime) -> int:
    """Delete the events that precede the first one not older than ``before``; return how many.

    The anchor keeps the place and hash of the last deleted event, so that the rest can be
    verified. The caller records an event about it.
    """
    with transaction.atomic():
        chain = head(lock=True)
        kept = (
            Event.objects.filter(time__gte=before)
            .order_by("sequence")
            .values_list("sequence", flat=True)
            .first()
        )
        upto = chain.sequence if kept is None else kept - 1
        last = Event.objects.filter(sequence=upto).values_list("hash", flat=True).first()
        if last is None:
            return 0
        count = upto - chain.pruned_sequence
        chain.pruned_sequence, chain.pruned_hash = upto, last
        chain.pruned_seal = seal(upto, last)
        chain.save(update_fields=["pruned_sequence", "pruned_hash", "pruned_seal"])
        with connection.cursor() as cursor:
            for model in (EventTerms, Event):
                cursor.execute(
                    f"DELETE FROM {model._meta.db_table} WHERE sequence <= %s",  # noqa: S608
                    [upto],
                )
        return count
